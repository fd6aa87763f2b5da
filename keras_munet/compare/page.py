"""A comparison as one HTML page that needs nothing else.

Invariant: every text that was read passes through `html_elements.esc`.
"""

from __future__ import annotations

from keras_munet.compare import plot
from keras_munet.compare import statements
from keras_munet.report import comparison_records
from keras_munet.report import formatting
from keras_munet.report import html_elements
from keras_munet.report import summary as summary_lib

_KIND = ' class="methods"'
_COLORS = {
    "mu2net": "c0",
    "munet": "c1",
    "finetune_all": "c2",
    "freeze_bottom_layers": "c3",
    "adapters": "c4",
    "linear_probe": "c5",
}


def render_page(comparison: comparison_records.Comparison) -> str:
    """Returns the page."""
    title = f"Comparison {html_elements.esc(comparison.name)}"
    parts = [
        f"<h1>{title}</h1>",
        '<p class="where">'
        f"{formatting.number_of(len(comparison.task_names), 'task')}, "
        f"{formatting.number_of(len(comparison.methods), 'method')}, seeds "
        f"{html_elements.esc(', '.join(map(str, comparison.seeds)))}.</p>",
        *(
            f'<p class="note">{html_elements.esc(note)}.</p>'
            for note in statements.missing_notes(comparison)
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
    return html_elements.document(title, parts, plot.CSS)


def _methods(comparison: comparison_records.Comparison) -> str:
    rows = [
        [
            html_elements.th(_name(comparison, summary.method)),
            *map(html_elements.td, statements.cells(summary)),
        ]
        for summary in statements.summaries(comparison)
    ]
    return html_elements.section(
        "Methods",
        statements.SUMMARY,
        html_elements.table(
            "Methods",
            map(html_elements.column, statements.COLUMNS),
            rows,
            attrs=_KIND,
        )
        + f'\n<p class="quiet">{html_elements.esc(statements.COMPUTE)}</p>',
    )


def _plot(
    comparison: comparison_records.Comparison, key: str, cost: str
) -> str:
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
    return html_elements.section(
        f"Accuracy against {cost}",
        "Large dots are means over the seeds, joined to the small ones, the "
        "runs. A dashed line joins methods of one kind.",
        f"{plot.render_plot(series, cost)}\n<p>{legend}</p>",
    )


def _versus(comparison: comparison_records.Comparison) -> str:
    comparisons = statements.versus(comparison)
    rows = [
        [html_elements.th(_name(comparison, item.method))]
        + [
            html_elements.td(html_elements.esc(cell))
            for cell in statements.versus_cells(item, len(comparisons))[:-1]
        ]
        + [
            html_elements.td(
                html_elements.esc(statements.verdict(item, len(comparisons))),
                ' class="text said"',
            )
        ]
        for item in comparisons
    ]
    head = [
        *map(html_elements.column, statements.VERSUS_COLUMNS[:-1]),
        html_elements.column(statements.VERSUS_COLUMNS[-1], html_elements.TEXT),
    ]
    ours = statements.reference(comparison)
    return html_elements.section(
        f"{html_elements.name(ours)} against the others",
        html_elements.esc(statements.PAIRS),
        html_elements.table(
            f"{ours} against the others", head, rows, attrs=_KIND
        ),
    )


def _by_task(comparison: comparison_records.Comparison) -> str:
    rows = []
    for method in comparison.methods:
        cells = [
            statements.task_cell(comparison, method, task)
            for task in comparison.task_names
        ]
        rows.append(
            [
                html_elements.th(_name(comparison, method)),
                *(
                    html_elements.td(f'{mean} <span class="quiet">{sd}</span>')
                    for mean, sd in cells
                ),
            ]
        )
    head = ["method", *map(html_elements.name, comparison.task_names)]
    return html_elements.section(
        "Test accuracy by task",
        "Mean over the seeds ± standard deviation.",
        html_elements.table(
            "Test accuracy by task",
            map(html_elements.column, head),
            rows,
            attrs=_KIND,
        ),
    )


def _by_seed(comparison: comparison_records.Comparison) -> str:
    rows = [
        [
            html_elements.th(_name(comparison, method)),
            *(
                html_elements.td(statements.run_cell(comparison, method, seed))
                for seed in comparison.seeds
            ),
        ]
        for method in comparison.methods
    ]
    head = ["method", *(f"seed {seed}" for seed in comparison.seeds)]
    return html_elements.section(
        "Mean test accuracy by seed",
        "One run per cell.",
        html_elements.table(
            "Mean test accuracy by seed",
            map(html_elements.column, head),
            rows,
            attrs=_KIND,
        ),
    )


def _settings(comparison: comparison_records.Comparison) -> str:
    rows = [
        [
            html_elements.th(html_elements.esc(key)),
            html_elements.td(html_elements.esc(value)),
        ]
        for key, value in summary_lib.flat(comparison.settings)
    ]
    head = map(html_elements.column, ["setting", "value"])
    return (
        "<h2>Settings</h2>\n<details><summary>The experiment; each run sets "
        "its own seed and method</summary>\n"
        f"{html_elements.table('Settings', head, rows)}\n</details>"
    )


def _name(comparison: comparison_records.Comparison, method: str) -> str:
    """Returns a method's number in its colour, and its name."""
    number = comparison.methods.index(method) + 1
    color = _COLORS[_family(method)]
    return (
        f'<span class="badge {color}">{number}</span> '
        f"{html_elements.name(method).replace(':', ':<wbr>')}"
    )


def _family(method: str) -> str:
    return method.partition(":")[0]
