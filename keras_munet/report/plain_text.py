"""The report as plain text: aligned tables for a terminal or a log.

Invariant: no line is wider than 100 columns; what does not fit is shortened
with `..`, numbers never.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_munet.core import target_types
from keras_munet.report import formatting
from keras_munet.report import method_table
from keras_munet.report import phrases
from keras_munet.report import summary as summary_lib

NUM_COLUMNS_MAX = 100
_GAP = "  "
_NUM_TEXT_CHARS_MIN = 8
# Deeper nodes say their depth instead of moving further to the right.
_DEPTH_MAX = 20


def render_text(
    summary: summary_lib.Summary,
    baselines: Mapping[str, Any] | None = None,
) -> str:
    """Returns the report without a newline at its end.

    Args:
      summary: of the system.
      baselines: what `comparison_points.read_points` returned.
    """
    blocks = [
        _head(summary),
        [] if baselines is None else _methods(summary, baselines),
        _leaderboard(summary),
        _test_figures(summary),
        _parameters(summary),
        _lineage(summary),
        _rankings(summary),
        _time(summary),
        _data(summary),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    num_text_columns: int = 1,
    num_columns_max: int = NUM_COLUMNS_MAX,
) -> list[str]:
    """Returns lines with a header, texts to the left and numbers to the right.

    Args:
      columns: the names of the columns.
      rows: a text per column.
      num_text_columns: how many columns from the left hold texts; these give
        way where a line would get too wide, the widest first.
      num_columns_max: the widest line.
    """
    widths = [
        max(map(len, cells)) for cells in zip(columns, *rows, strict=True)
    ]
    texts = range(num_text_columns)
    too_wide = sum(widths) + len(_GAP) * (len(widths) - 1) - num_columns_max
    while too_wide > 0:
        widest = max(texts, key=lambda i: widths[i])
        if widths[widest] <= _NUM_TEXT_CHARS_MIN:
            break
        widths[widest] -= 1
        too_wide -= 1
    lines = []
    for row in [columns, ["-" * width for width in widths], *rows]:
        cells = [
            _end_of(cell, width).ljust(width)
            if i in texts
            else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(_GAP.join(cells).rstrip())
    return lines


def _head(summary: summary_lib.Summary) -> list[str]:
    lines = [
        _short(f"System {formatting.plain(summary.name)}", NUM_COLUMNS_MAX),
        _short(
            f"Root: {formatting.plain(summary.root_source)}, "
            f"{formatting.count(summary.root_params)} parameters",
            NUM_COLUMNS_MAX,
        ),
        f"Published: {formatting.number_of(len(summary.tasks), 'task')}, "
        f"{phrases.iterations(summary)}",
    ]
    if not summary.tasks:
        lines.append("No task is published yet.")
    for note in summary.notes:
        lines += textwrap.wrap(
            f"Note: {note}.", NUM_COLUMNS_MAX, subsequent_indent="      "
        )
    return lines


def _methods(
    summary: summary_lib.Summary, baselines: Mapping[str, Any]
) -> list[str]:
    num_tasks, rows = method_table.rows(summary, baselines)
    if not rows:
        return []
    return [
        method_table.TITLE.upper(),
        *table(method_table.COLUMNS, [row.cells() for row in rows]),
        *textwrap.wrap(method_table.lead(num_tasks), NUM_COLUMNS_MAX),
    ]


def _leaderboard(summary: summary_lib.Summary) -> list[str]:
    if not summary.tasks:
        return []
    rows = [
        [
            task.name + (" (private)" if task.private else ""),
            phrases.parent_name(task.parent_task),
            formatting.count(task.num_classes),
            formatting.plain(
                formatting.NONE if task.num_layers is None else task.num_layers
            ),
            formatting.fraction(task.validation),
            formatting.fraction(task.test),
            formatting.fraction(task.score),
        ]
        for task in summary.tasks
    ]
    rows.append(
        [
            "mean",
            "",
            "",
            "",
            formatting.fraction(summary.mean_validation),
            formatting.fraction(summary.mean_test),
            "",
        ]
    )
    columns = [
        "task",
        "parent",
        "classes",
        "layers",
        "validation",
        "test",
        "score",
    ]
    note = (
        f"validation and score: {summary.quality}, which decides; test: "
        "accuracy."
    )
    return [
        "LEADERBOARD",
        *table(columns, rows, num_text_columns=2),
        *([note] if summary.quality != "accuracy" else []),
        *textwrap.wrap(
            formatting.plain(summary.multi_label_note), NUM_COLUMNS_MAX
        ),
    ]


def _test_figures(summary: summary_lib.Summary) -> list[str]:
    """Returns the measures on test data that tasks' records hold."""
    lines = []
    for target, figures, notes in (
        (
            target_types.SINGLE_LABEL,
            phrases.TEST_FIGURES,
            phrases.TEST_NOTES,
        ),
        (
            target_types.MULTI_LABEL,
            phrases.MULTI_LABEL_FIGURES,
            phrases.MULTI_LABEL_NOTES,
        ),
    ):
        rows = [
            [task.name, *(text for _, text in phrases.test_figures(metrics))]
            for task in summary.tasks
            if task.target is target
            and (metrics := task.test_metrics) is not None
        ]
        if rows:
            lines += [*table(["task", *figures], rows), *notes]
    return ["TEST FIGURES", *lines] if lines else []


def _data(summary: summary_lib.Summary) -> list[str]:
    lines = []
    for task in summary.tasks:
        for notice in task.data_notices:
            lines += textwrap.wrap(
                f"{task.name}: {formatting.plain(notice)}",
                NUM_COLUMNS_MAX,
                subsequent_indent="  ",
            )
    return ["DATA", *lines] if lines else []


def _parameters(summary: summary_lib.Summary) -> list[str]:
    if not summary.tasks:
        return []
    rows = [
        [
            task.name,
            formatting.count(task.num_params),
            formatting.count(task.shared_params),
            formatting.count(task.own_params),
            formatting.count(task.accounted_params),
        ]
        for task in summary.tasks
    ]
    accounted = sum(task.accounted_params for task in summary.tasks)
    rows.append(
        [
            "sum",
            formatting.count(summary.params_separate),
            "",
            "",
            formatting.count(accounted),
        ]
    )
    in_use = [c for slot in summary.components for c in slot.components]
    num_shared = sum(c.is_shared for c in in_use)
    return [
        "PARAMETERS",
        *table(["task", "all", "shared", "own", "accounted"], rows),
        f"{formatting.number_of(len(in_use), 'component')} in use, "
        f"{num_shared} of them by several tasks.",
        f"In use: {formatting.count(summary.params_in_use)} parameters, "
        f"{formatting.percent(summary.params_in_use, summary.params_separate)} "
        f"of the {formatting.count(summary.params_separate)} of separate "
        "models.",
    ]


def _lineage(summary: summary_lib.Summary) -> list[str]:
    if not summary.tasks:
        return []
    lines = ["LINEAGE"]
    for node in summary.tree:
        note = phrases.node_note(node)
        depth = f"[{node.depth}] " if node.depth > _DEPTH_MAX else ""
        line = (
            "  " * min(node.depth, _DEPTH_MAX)
            + depth
            + phrases.parent_name(node.task)
            + (f" ({note})" if note else "")
        )
        lines.append(_short(line, NUM_COLUMNS_MAX))
    return lines


def _rankings(summary: summary_lib.Summary) -> list[str]:
    lines = []
    for ranking in summary.history.rankings:
        lines += textwrap.wrap(
            phrases.ranking(ranking), NUM_COLUMNS_MAX, subsequent_indent="  "
        )
    return ["RANKED PARENTS", *lines] if lines else []


def _time(summary: summary_lib.Summary) -> list[str]:
    history = summary.history
    if not history.generations:
        return []
    num = len(history.generations)
    return [
        "TIME",
        *table(
            ["kind of work", "time", "share", "per generation"],
            list(phrases.time_rows(summary)),
        ),
        phrases.children(summary)
        + f" in {formatting.number_of(num, 'generation')}.",
    ]


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 2)] + ".."


def _end_of(text: str, width: int) -> str:
    # Names of tasks of one family differ at their ends.
    return text if len(text) <= width else ".." + text[2 - width :]
