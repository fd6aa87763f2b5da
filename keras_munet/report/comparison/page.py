"""A comparison as one HTML page that needs nothing else.

Invariant: every text that was read passes through `markup.esc`.
"""

from __future__ import annotations

from keras_munet.report import formats
from keras_munet.report import markup
from keras_munet.report import summary as summary_lib
from keras_munet.report.comparison import plot
from keras_munet.report.comparison import records
from keras_munet.report.comparison import wording

_KIND = ' class="methods"'
_COLORS = {
    "mu2net": "c0",
    "munet": "c1",
    "finetune_all": "c2",
    "freeze_bottom_layers": "c3",
    "adapters": "c4",
    "linear_probe": "c5",
}


def render(comparison: records.Comparison) -> str:
    """Returns the page."""
    title = f"Comparison {markup.esc(comparison.name)}"
    parts = [
        f"<h1>{title}</h1>",
        '<p class="where">'
        f"{formats.number_of(len(comparison.task_names), 'task')}, "
        f"{formats.number_of(len(comparison.methods), 'method')}, seeds "
        f"{markup.esc(', '.join(map(str, comparison.seeds)))}.</p>",
        *(
            f'<p class="note">{markup.esc(note)}.</p>'
            for note in wording.missing_notes(comparison)
        ),
        _methods(comparison),
    ]
    if comparison.runs:
        parts.append(
            _plot(
                comparison, "accounted_params", "accounted parameters per task"
            )
        )
    if any(run.mean_of("cpu_secs") is not None for run in comparison.runs):
        parts.append(_plot(comparison, "cpu_secs", "CPU seconds per task"))
    if len(comparison.methods) > 1:
        parts.append(_versus(comparison))
    parts += [_by_task(comparison), _by_seed(comparison), _settings(comparison)]
    return markup.document(title, parts, plot.CSS)


def _methods(comparison: records.Comparison) -> str:
    rows = [
        [
            markup.th(_name(comparison, summary.method)),
            *map(markup.td, wording.cells(summary)),
        ]
        for summary in wording.summaries(comparison)
    ]
    return markup.section(
        "Methods",
        wording.SUMMARY,
        markup.table(
            "Methods", map(markup.column, wording.COLUMNS), rows, kind=_KIND
        )
        + f'\n<p class="quiet">{markup.esc(wording.COMPUTE)}</p>',
    )


def _plot(comparison: records.Comparison, key: str, cost: str) -> str:
    """Returns accuracy against a key of a task's result, called `cost`."""
    series = [
        plot.Series(
            number=number,
            name=method,
            family=_family(method),
            color=_COLORS[_family(method)],
            runs=tuple(
                (value, run.mean_test)
                for run in comparison.runs_of(method)
                if (value := run.mean_of(key)) is not None
            ),
        )
        for number, method in enumerate(comparison.methods, 1)
    ]
    legend = " ".join(
        f'<span class="key-of">{_name(comparison, one.name)}</span>'
        for one in series
        if one.runs
    )
    return markup.section(
        f"Accuracy against {cost}",
        "Large dots are means over the seeds, joined to the small ones, the "
        "runs. A dashed line joins methods of one kind.",
        f"{plot.render(series, cost)}\n<p>{legend}</p>",
    )


def _versus(comparison: records.Comparison) -> str:
    others = wording.versus(comparison)
    rows = [
        [markup.th(_name(comparison, item.method))]
        + [
            markup.td(markup.esc(cell))
            for cell in wording.versus_cells(item, len(others))[:-1]
        ]
        + [
            markup.td(
                markup.esc(wording.verdict(item, len(others))),
                ' class="text said"',
            )
        ]
        for item in others
    ]
    head = [
        *map(markup.column, wording.VERSUS_COLUMNS[:-1]),
        markup.column(wording.VERSUS_COLUMNS[-1], markup.TEXT),
    ]
    ours = wording.reference(comparison)
    return markup.section(
        f"{markup.name(ours)} against the others",
        markup.esc(wording.PAIRS),
        markup.table(f"{ours} against the others", head, rows, kind=_KIND),
    )


def _by_task(comparison: records.Comparison) -> str:
    rows = []
    for method in comparison.methods:
        cells = [
            wording.task_cell(comparison, method, task)
            for task in comparison.task_names
        ]
        rows.append(
            [
                markup.th(_name(comparison, method)),
                *(
                    markup.td(f'{mean} <span class="quiet">{sd}</span>')
                    for mean, sd in cells
                ),
            ]
        )
    head = ["method", *map(markup.name, comparison.task_names)]
    return markup.section(
        "Test accuracy by task",
        "Mean over the seeds ± standard deviation.",
        markup.table(
            "Test accuracy by task",
            map(markup.column, head),
            rows,
            kind=_KIND,
        ),
    )


def _by_seed(comparison: records.Comparison) -> str:
    rows = [
        [
            markup.th(_name(comparison, method)),
            *(
                markup.td(wording.run_cell(comparison, method, seed))
                for seed in comparison.seeds
            ),
        ]
        for method in comparison.methods
    ]
    head = ["method", *(f"seed {seed}" for seed in comparison.seeds)]
    return markup.section(
        "Mean test accuracy by seed",
        "One run per cell.",
        markup.table(
            "Mean test accuracy by seed",
            map(markup.column, head),
            rows,
            kind=_KIND,
        ),
    )


def _settings(comparison: records.Comparison) -> str:
    rows = [
        [markup.th(markup.esc(key)), markup.td(markup.esc(value))]
        for key, value in summary_lib.flat(comparison.settings)
    ]
    head = map(markup.column, ["setting", "value"])
    return (
        "<h2>Settings</h2>\n<details><summary>The experiment; each run sets "
        "its own seed and method</summary>\n"
        f"{markup.table('Settings', head, rows)}\n</details>"
    )


def _name(comparison: records.Comparison, method: str) -> str:
    """Returns a method's number in its colour, and its name."""
    number = comparison.methods.index(method) + 1
    color = _COLORS[_family(method)]
    return (
        f'<span class="badge {color}">{number}</span> '
        f"{markup.name(method).replace(':', ':<wbr>')}"
    )


def _family(method: str) -> str:
    return method.partition(":")[0]
