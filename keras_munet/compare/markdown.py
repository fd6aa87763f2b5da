"""A comparison as Markdown that is readable as it is: aligned tables.

Invariant: no text can end a cell or a line early.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras_munet.compare import statements
from keras_munet.report import comparison_records
from keras_munet.report import formatting


def render_markdown(comparison: comparison_records.Comparison) -> str:
    """Returns the document with a newline at its end."""
    ours = statements.reference(comparison)
    comparisons = statements.versus(comparison)
    blocks = [
        [f"# Comparison {_text(comparison.name)}"],
        [
            f"{formatting.number_of(len(comparison.task_names), 'task')}, "
            f"{formatting.number_of(len(comparison.methods), 'method')}, "
            f"seeds {', '.join(map(str, comparison.seeds))}."
        ],
        [f"- {_text(note)}." for note in statements.missing_notes(comparison)],
        table(
            statements.COLUMNS,
            [
                [summary.method, *statements.cells(summary)]
                for summary in statements.summaries(comparison)
            ],
        ),
        [statements.SUMMARY, statements.COMPUTE],
    ]
    if comparisons:
        blocks += [
            [f"## {ours} against the others"],
            table(
                statements.VERSUS_COLUMNS,
                [
                    [
                        item.method,
                        *statements.versus_cells(item, len(comparisons)),
                    ]
                    for item in comparisons
                ],
            ),
            [statements.PAIRS],
        ]
    blocks += [
        ["## Test accuracy by task, mean over seeds ± sd"],
        table(
            ["method", *comparison.task_names],
            [
                [
                    method,
                    *(
                        " ".join(statements.task_cell(comparison, method, task))
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
                        statements.run_cell(comparison, method, seed)
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
    padded = [
        [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return [
        f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]]
    ]


def _text(value: str) -> str:
    return formatting.plain(value).replace("|", "/")
