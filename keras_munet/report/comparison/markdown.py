"""A comparison as Markdown that is readable as it is: aligned tables.

Invariant: no text can end a cell or a line early.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras_munet.report import formats
from keras_munet.report.comparison import records
from keras_munet.report.comparison import wording


def render(comparison: records.Comparison) -> str:
    """Returns the document with a newline at its end."""
    ours = wording.reference(comparison)
    others = wording.versus(comparison)
    blocks = [
        [f"# Comparison {_text(comparison.name)}"],
        [
            f"{formats.number_of(len(comparison.task_names), 'task')}, "
            f"{formats.number_of(len(comparison.methods), 'method')}, "
            f"seeds {', '.join(map(str, comparison.seeds))}."
        ],
        [f"- {_text(note)}." for note in wording.missing_notes(comparison)],
        table(
            wording.COLUMNS,
            [
                [summary.method, *wording.cells(summary)]
                for summary in wording.summaries(comparison)
            ],
        ),
        [wording.SUMMARY, wording.COMPUTE],
    ]
    if others:
        blocks += [
            [f"## {ours} against the others"],
            table(
                wording.VERSUS_COLUMNS,
                [
                    [item.method, *wording.versus_cells(item, len(others))]
                    for item in others
                ],
            ),
            [wording.PAIRS],
        ]
    blocks += [
        ["## Test accuracy by task, mean over seeds ± sd"],
        table(
            ["method", *comparison.task_names],
            [
                [
                    method,
                    *(
                        " ".join(wording.task_cell(comparison, method, task))
                        for task in comparison.task_names
                    ),
                ]
                for method in comparison.methods
            ],
        ),
        ["## Mean test accuracy by seed"],
        table(
            ["method", *(f"seed {seed}" for seed in comparison.seeds)],
            [
                [
                    method,
                    *(
                        wording.run_cell(comparison, method, seed)
                        for seed in comparison.seeds
                    ),
                ]
                for method in comparison.methods
            ],
        ),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a table, all but the first column to the right."""
    lines = [[_text(cell).strip() for cell in row] for row in [columns, *rows]]
    widths = [max(3, *map(len, cells)) for cells in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    shown = [
        [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return [f"| {' | '.join(line)} |" for line in [shown[0], rule, *shown[1:]]]


def _text(value: str) -> str:
    return formats.plain(value).replace("|", "/")
