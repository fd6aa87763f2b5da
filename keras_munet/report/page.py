"""The report as one HTML page that needs no other file and no network.

Invariant: every text that was read from a system passes through
`html_elements.esc` or stands in the page's JSON, whose texts the script only
ever sets as text; and the policy names the digests of the only two scripts
that may run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_munet.report import assets
from keras_munet.report import formatting
from keras_munet.report import html_elements
from keras_munet.report import method_table
from keras_munet.report import page_data
from keras_munet.report import phrases
from keras_munet.report import plotly_js
from keras_munet.report import predictions as predictions_lib
from keras_munet.report import summary as summary_lib


def render_page(
    summary: summary_lib.Summary,
    *,
    live_secs: float = 0,
    baselines: Mapping[str, Any] | None = None,
    predictions: Mapping[str, predictions_lib.Predictions] | None = None,
) -> str:
    """Returns the page; the arguments are those of `page_data.build_page_data`.

    Raises:
      UsageError: the plotting library is not installed.
    """
    data = page_data.build_page_data(
        summary,
        live_secs=live_secs,
        baselines=baselines,
        predictions=predictions,
    )
    title = f"System {html_elements.esc(summary.name)}"
    has_tasks, has_events = (
        bool(summary.tasks),
        bool(data["generations"]["task"]),
    )
    parts = [
        '<header class="top">',
        f"<div>\n<h1>{title}</h1>",
        f'<p class="where">Root: {html_elements.esc(summary.root_source)}, '
        f"{formatting.count(summary.root_params)} parameters. Published: "
        f"{formatting.number_of(len(summary.tasks), 'task')}, "
        f"{phrases.iterations(summary)}.</p>\n</div>",
        '<div class="controls" id="controls"></div>\n</header>',
        *(
            f'<p class="note">{html_elements.esc(note)}.</p>'
            for note in (n[:1].upper() + n[1:] for n in summary.notes)
        ),
        "<noscript><p class='note'>The charts and tables of this page need "
        "scripts; report.txt beside it holds the figures as text.</p>"
        "</noscript>",
    ]
    if not has_tasks:
        parts.append("<p>No task is published yet.</p>")
    if baselines is not None:
        parts.append(_methods(summary, baselines))
    parts.append(_facts(summary))
    parts += [
        f'<section id="{name}" aria-labelledby="{name}-title">\n'
        f'<h2 id="{name}-title">{heading}</h2>\n'
        f'<p class="quiet lead">{lead}</p>\n<div class="panel"></div>\n'
        "</section>"
        for name, heading, lead, needs in _sections(summary)
        if needs is None or (has_tasks if needs == "tasks" else has_events)
    ]
    parts += [_rankings(summary), _data(summary)]
    plotly = plotly_js.script()
    own = assets.script()
    parts += [
        '<script type="application/json" id="data">'
        f"{page_data.to_script(data)}</script>",
        f'<script type="text/plain" id="plotly">{plotly.packed}</script>',
        f"<script>{own}</script>",
    ]
    return html_elements.document(
        title,
        parts,
        assets.css(),
        scripts=[
            f"'{plotly.digest}'",
            f"'{plotly_js.script_digest(own.encode())}'",
            # plotly writes programs for the graphics processor as it draws
            # many points. An evaluation needs a script that runs, and the two
            # that may evaluate nothing of a system.
            *(["'unsafe-eval'"] if data["svg_points_max"] else []),
        ],
    )


def _sections(
    summary: summary_lib.Summary,
) -> list[tuple[str, str, str, str | None]]:
    """Returns (id, heading, what it shows, what it needs) of every panel."""
    return [
        (
            "leaderboard",
            "Leaderboard",
            f"Validation {summary.quality} and test accuracy of the published "
            f"paths. The score is the validation {summary.quality} times a "
            "size penalty, as it was when the path was chosen. Times are wall "
            "times of the task's generations. "
            f"{html_elements.esc(summary.multi_label_note)}",
            "tasks",
        ),
        (
            "progress",
            f"{summary.quality.capitalize()} over time",
            "Every child is a point: its best validation score. Filled "
            "points became paths, hollow ones did not, crosses diverged. "
            "The lines are the best score of a task so far.",
            "events",
        ),
        (
            "tree",
            "Evolutionary tree",
            "Each path stands to the right of the one it was cloned from, "
            "at the generation it was born in. Choose a path to see what it "
            "is made of; zoom in to read the mutations on the edges.",
            None,
        ),
        (
            "sharing",
            "Sharing",
            "Which task uses which components. Equal marks in a column are "
            "one and the same component.",
            "tasks",
        ),
        (
            "parameters",
            "Parameters against accuracy",
            "Accounted parameters divide each parameter by the tasks that "
            "use it; over all tasks they add up to the parameters in use.",
            "tasks",
        ),
        (
            "time",
            "Time",
            "Wall time of the generations, by kind of work. "
            f"{phrases.children(summary)}.",
            "events",
        ),
        (
            "samples",
            "Samples",
            "Test images with what the published path says of them.",
            "tasks",
        ),
        ("settings", "Settings", "The experiment as it was created.", None),
    ]


def _methods(summary: summary_lib.Summary, baselines: Mapping[str, Any]) -> str:
    """Returns the system beside the methods of a comparison."""
    num_tasks, rows = method_table.rows(summary, baselines)
    if not rows:
        return ""
    head = [f"<th>{name}</th>" for name in method_table.COLUMNS]
    body = [
        [
            f'<th scope="row">{html_elements.esc(name)}</th>',
            *(f"<td>{cell}</td>" for cell in cells),
        ]
        for name, *cells in (row.cells() for row in rows)
    ]
    return html_elements.section(
        method_table.TITLE,
        method_table.lead(num_tasks),
        html_elements.table("methods", head, body),
    )


def _rankings(summary: summary_lib.Summary) -> str:
    """Returns which published paths suit a task that was learned later."""
    return _list(
        "ranked",
        "Ranked parents",
        "Validation accuracy of a linear head on the frozen features of each "
        "path that a task could start from, before anything was trained.",
        [phrases.ranking(ranking) for ranking in summary.history.rankings],
    )


def _data(summary: summary_lib.Summary) -> str:
    """Returns what preparing the data of the tasks said about them."""
    return _list(
        "images",
        "Data",
        "How own images were read, and what is odd about them.",
        [
            f"{task.name}: {notice}"
            for task in summary.tasks
            for notice in task.data_notices
        ],
    )


def _list(name: str, heading: str, lead: str, texts: list[str]) -> str:
    if not texts:
        return ""
    items = "\n".join(f"<li>{html_elements.esc(text)}</li>" for text in texts)
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">\n'
        f'<h2 id="{name}-title">{heading}</h2>\n<p class="quiet lead">{lead}'
        f"</p>\n<ul>\n{items}\n</ul>\n</section>"
    )


def _facts(summary: summary_lib.Summary) -> str:
    facts: list[tuple[str, str, str]] = []
    if summary.tasks:
        share = formatting.percent(
            summary.params_in_use, summary.params_separate
        )
        validation, test = summary.measures_of_means
        facts += [
            (f"Mean test {test}", formatting.fraction(summary.mean_test), ""),
            (
                f"Mean validation {validation}",
                formatting.fraction(summary.mean_validation),
                "",
            ),
            (
                "Parameters in use",
                formatting.count(summary.params_in_use),
                f"{share} of separate models",
            ),
        ]
    history = summary.history
    if history.generations:
        facts += [
            (
                "Children",
                formatting.count(history.num_children),
                f"{history.num_improved:,} improved",
            ),
            (
                "Time",
                formatting.secs(history.total_secs),
                formatting.number_of(len(history.generations), "generation"),
            ),
        ]
    if not facts:
        return ""
    items = "\n".join(
        f"<div><dt>{name}</dt><dd>{value}"
        + (f"<small>{more}</small>" if more else "")
        + "</dd></div>"
        for name, value, more in facts
    )
    return f'<dl class="facts">\n{items}\n</dl>'
