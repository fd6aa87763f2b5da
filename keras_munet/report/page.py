"""The report as one HTML page that needs nothing else: no network, no script.

Invariant: every text that was read from a system passes through `markup.esc`,
so a class or task name can never become markup.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence

from keras_munet.report import events
from keras_munet.report import formats
from keras_munet.report import lineages
from keras_munet.report import markup
from keras_munet.report import samples
from keras_munet.report import sharing
from keras_munet.report import summary as summary_lib
from keras_munet.report import wording


def render(summary: summary_lib.Summary) -> str:
    """Returns the page."""
    title = f"System {markup.esc(summary.name)}"
    parts = [
        f"<h1>{title}</h1>",
        f'<p class="where">Root: {markup.esc(summary.root_source)}, '
        f"{formats.count(summary.root_params)} parameters. Published: "
        f"{formats.number_of(len(summary.tasks), 'task')}, "
        f"{wording.iterations(summary)}.</p>",
        *(
            f'<p class="note">{markup.esc(note[:1].upper() + note[1:])}.</p>'
            for note in summary.notes
        ),
    ]
    if summary.tasks:
        parts += [
            _facts(summary),
            _leaderboard(summary),
            _parameters(summary),
            _sharing(summary),
            _lineage(summary),
        ]
    else:
        parts.append("<p>No task is published yet.</p>")
    if summary.history.generations:
        parts += [_scores(summary), _time(summary)]
    parts += [_samples(summary), _settings(summary), _classes(summary)]
    return markup.document(title, parts)


def _facts(summary: summary_lib.Summary) -> str:
    saved = formats.percent(summary.params_in_use, summary.params_separate)
    facts = [
        ("Mean test accuracy", formats.fraction(summary.mean_test), ""),
        (
            "Mean validation accuracy",
            formats.fraction(summary.mean_validation),
            "",
        ),
        (
            "Parameters in use",
            formats.count(summary.params_in_use),
            f"{saved} of separate models",
        ),
    ]
    history = summary.history
    if history.generations:
        facts += [
            (
                "Children trained",
                formats.count(history.num_children),
                f"{history.num_improved:,} improved",
            ),
            (
                "Time",
                formats.secs(history.total_secs),
                formats.number_of(len(history.generations), "generation"),
            ),
        ]
    items = "\n".join(
        f"<div><dt>{name}</dt><dd>{value}"
        + (f"<small>{more}</small>" if more else "")
        + "</dd></div>"
        for name, value, more in facts
    )
    return f'<dl class="facts">\n{items}\n</dl>'


def _leaderboard(summary: summary_lib.Summary) -> str:
    rows = [
        [
            markup.th(markup.name(task.name, task.private)),
            markup.td(formats.fraction(task.validation)),
            markup.td(formats.fraction(task.test)),
            markup.td(formats.fraction(task.score)),
            markup.td(formats.count(task.num_classes)),
            markup.td(
                formats.NONE
                if task.num_layers is None
                else markup.esc(task.num_layers)
            ),
            markup.td(
                markup.esc(wording.parent_name(task.parent_task)),
                markup.TEXT,
            ),
        ]
        for task in summary.tasks
    ]
    mean = [
        markup.th("mean"),
        markup.td(formats.fraction(summary.mean_validation)),
        markup.td(formats.fraction(summary.mean_test)),
        '<td colspan="4"></td>',
    ]
    columns = ["validation", "test", "score", "classes", "layers"]
    head = [
        markup.column("task"),
        *map(markup.column, columns),
        markup.column("parent", markup.TEXT),
    ]
    return markup.section(
        "Leaderboard",
        "Accuracies of the published paths. The score is the validation "
        "accuracy times a size penalty, as it was when the path was chosen.",
        markup.table("Leaderboard", head, rows, mean),
    )


def _parameters(summary: summary_lib.Summary) -> str:
    largest = max(task.num_params for task in summary.tasks)
    rows = [
        [
            markup.th(markup.name(task.name)),
            markup.td(
                markup.bar(
                    [
                        ("shared", task.shared_params),
                        ("own", task.own_params),
                    ],
                    largest,
                )
            ),
            markup.td(formats.count(task.shared_params)),
            markup.td(formats.count(task.own_params)),
            markup.td(formats.count(task.num_params)),
            markup.td(formats.count(task.accounted_params)),
        ]
        for task in summary.tasks
    ]
    accounted = sum(task.accounted_params for task in summary.tasks)
    total = [
        markup.th("sum"),
        '<td colspan="3"></td>',
        markup.td(formats.count(summary.params_separate)),
        markup.td(formats.count(accounted)),
    ]
    columns = ["", "shared", "own", "all", "accounted"]
    return markup.section(
        "Parameters",
        '<span class="key shared"></span>shared: in components that another '
        'task uses too. <span class="key own"></span>own: in components that '
        "no other task uses. Accounted: each parameter divided by the tasks "
        "that use it; these add up to the parameters in use.",
        markup.table(
            "Parameters", map(markup.column, ["task", *columns]), rows, total
        ),
    )


def _sharing(summary: summary_lib.Summary) -> str:
    rows = []
    for place in summary.components:
        used = [place.of_task(task.name) for task in summary.tasks]
        rows.append([markup.th(markup.esc(place.name)), *map(_use, used)])
    head = [
        markup.column("component"),
        *(markup.column(markup.name(t.name)) for t in summary.tasks),
    ]
    return markup.section(
        "Sharing",
        "Equal marks in a row are one and the same component; shaded ones "
        "serve several tasks. <b>root</b> is the root's own, letters tell the "
        "others apart.",
        markup.table("Sharing", head, rows, kind=' class="grid"'),
    )


def _use(component: sharing.Component | None) -> str:
    if component is None:
        return "<td></td>"
    title = (
        f"{formats.count(component.num_params)} parameters, used by "
        f"{formats.number_of(len(component.tasks), 'task')}, "
        f"{component.id[:12]}"
    )
    shared = ' class="several"' if component.is_shared else ""
    return markup.td(
        markup.esc(component.label), f'{shared} title="{markup.esc(title)}"'
    )


def _lineage(summary: summary_lib.Summary) -> str:
    private = {task.name for task in summary.tasks if task.private}
    return markup.section(
        "Lineage",
        "Each path stands below the one that it was cloned from.",
        '<div class="tree" role="region" aria-label="Lineage" tabindex="0">\n'
        + "\n".join(_tree(summary.tree, private))
        + "\n</div>",
    )


def _tree(nodes: Sequence[lineages.Node], private: set[str]) -> Iterator[str]:
    """Yields nested lists of nodes that come in depth-first order."""
    depth = -1
    for node in nodes:
        if node.depth > depth:
            yield "<ul>"
        else:
            yield "</li>" + "</ul></li>" * (depth - node.depth)
        depth = node.depth
        note = wording.node_note(node)
        name = wording.parent_name(node.task)
        yield (
            f"<li>{markup.name(name, node.task in private)}"
            + (
                f' <span class="quiet">{markup.esc(note)}</span>'
                if note
                else ""
            )
        )
    yield "</li></ul>" * (depth + 1)


def _scores(summary: summary_lib.Summary) -> str:
    order = {task.name: i for i, task in enumerate(summary.tasks)}
    found: dict[tuple[str, int], dict[int, events.Generation]] = {}
    for generation in summary.history.generations:
        key = generation.task, generation.iteration
        found.setdefault(key, {})[generation.number] = generation
    numbers = sorted({n for row in found.values() for n in row})
    # Tasks that were never published come last.
    keys = sorted(found, key=lambda k: (order.get(k[0], len(order)), *k))
    rows = [
        [
            markup.th(markup.name(task)),
            markup.td(str(iteration + 1)),
            *(_score(found[task, iteration].get(n)) for n in numbers),
        ]
        for task, iteration in keys
    ]
    columns = ["task", "iteration", *(f"gen. {n}" for n in numbers)]
    return markup.section(
        "Scores over generations",
        "The best score of the task after each generation, as a bar from 0 "
        "to 1, and how many of the generation's children improved.",
        markup.table("Scores", map(markup.column, columns), rows),
    )


def _score(generation: events.Generation | None) -> str:
    if generation is None:
        return "<td></td>"
    best = generation.best_score
    improved = f'<span class="quiet">+{generation.num_improved}</span>'
    return markup.td(
        f"{formats.fraction(best)} {improved}"
        + markup.bar([("shared", best or 0.0)], 1.0, ' class="bar thin"')
    )


def _time(summary: summary_lib.Summary) -> str:
    history = summary.history
    rows, total = [], history.total_secs
    *kinds, last = wording.time_rows(summary)
    for (name, *cells), secs in zip(kinds, history.clock.values(), strict=True):
        bar = markup.td(markup.bar([("shared", secs)], total))
        rows.append([markup.th(markup.esc(name)), bar, *map(markup.td, cells)])
    foot = [markup.th(last[0]), "<td></td>", *map(markup.td, last[1:])]
    columns = ["kind of work", "", "time", "share", "per generation"]
    return markup.section(
        "Time",
        f"Wall time of the generations. {wording.children(summary)}.",
        markup.table("Time", map(markup.column, columns), rows, foot),
    )


def _settings(summary: summary_lib.Summary) -> str:
    rows = [
        [markup.th(markup.esc(key)), markup.td(markup.esc(value))]
        for key, value in summary.flat_settings
    ]
    head = map(markup.column, ["setting", "value"])
    return (
        "<h2>Settings</h2>\n<details><summary>The experiment as it was "
        f"created</summary>\n{markup.table('Settings', head, rows)}\n</details>"
    )


def _samples(summary: summary_lib.Summary) -> str:
    if not summary.tasks:
        return ""
    figures = []
    sentences = []
    for task in summary.tasks:
        if not samples.has(task.name):
            continue
        strip = samples.strip(task.name)
        if strip.problem:
            sentences.append(f"{task.name}: {strip.problem}.")
            continue
        told = f"{task.name}: {', '.join(strip.class_names)}"
        figures.append(
            f'<figure><img src="{strip.address}" width="{strip.width}" '
            f'alt="{markup.esc(told)}">'
            f"<figcaption>{markup.name(task.name)}</figcaption></figure>"
        )
    others = [t.name for t in summary.tasks if not samples.has(t.name)]
    if others:
        sentences.append(
            f"Not shown, as their data lie elsewhere: {', '.join(others)}."
        )
    body = [*figures, *(f"<p>{markup.esc(text)}</p>" for text in sentences)]
    return markup.section(
        "Samples",
        "The first training image of each class, in the order of the outputs, "
        "of the tasks that come with the install.",
        "\n".join(body),
    )


def _classes(summary: summary_lib.Summary) -> str:
    named = [task for task in summary.tasks if task.class_names]
    if not named:
        return ""
    rows = [
        [
            markup.th(markup.name(task.name)),
            markup.td(", ".join(map(markup.esc, task.class_names))),
        ]
        for task in named
    ]
    head = map(markup.column, ["task", "classes, in the order of the outputs"])
    return (
        "<details><summary>Class names</summary>\n"
        f"{markup.table('Class names', head, rows)}\n</details>"
    )
