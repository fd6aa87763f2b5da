"""Lists every path's origin and history, for a terminal or a program.

Invariant: lineage is read from the records alone, so it is right even where
`metrics.jsonl` is lost; what happened is read from there and may have gaps.
Text of others cannot leave its line.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_munet.core import names
from keras_munet.core import specs
from keras_munet.report import events
from keras_munet.report import formatting
from keras_munet.report import lineages
from keras_munet.report import phrases
from keras_munet.store import reader
from keras_munet.store import task_state
from keras_munet.system import population_view

_NUM_ID_CHARS = 8


def entries(
    workdir: str | os.PathLike[str], task_name: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yields the log of a system, or of one of its tasks, as plain JSON.

    First the `root`; then every `task` in the order in which their published
    paths were born, each with its `generation` entries, a `ranked` one before
    the first if its parents were ranked; then every task that
    was `removed`, and every `note` on what `metrics.jsonl` lacks. The key
    `entry` tells which it is.

    Raises:
      UsageError: there is no system, or no such task.
      StoreError: it is damaged or of a newer format.
    """
    directory = reader.SystemReader.open(workdir)
    states = list(directory.tasks().values())
    removed = directory.removed()
    if task_name is not None:
        bare = names.bare_name(task_name)
        removed = {n: r for n, r in removed.items() if n == bare}
        states = [] if removed else [directory.task(bare)]
    history = events.read_history(workdir)
    tree = lineages.FamilyTree(
        population_view.read_population(directory), history.path_tasks
    )
    yield {
        "entry": "root",
        "path_id": directory.root.id,
        "source": directory.root_source,
    }
    generations = collections.defaultdict(list)
    for event in history.generations:
        generations[event.task].append(event)
    rankings = {(r.task, r.iteration): r for r in history.rankings}
    for state in sorted(states, key=lambda s: s.published.created_in):
        yield _task(state, tree)
        for event in generations[state.task]:
            ranking = rankings.get((event.task, event.iteration))
            if event.number == 1 and ranking is not None:
                yield _ranked(ranking)
            yield _generation(event)
    for name, removed_task in removed.items():
        yield {
            "entry": "removed",
            "task": name,
            "num_iterations_done": removed_task.num_iterations_done,
        }
    for note in history.notes:
        yield {"entry": "note", "text": note}


def lines(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yields an entry as lines of text."""
    entry_type = entry["entry"]
    if entry_type == "root":
        yield f"root {_short(entry['path_id'])}, {_text_of(entry['source'])}"
    elif entry_type == "task":
        # Of the system, while events count those of the task.
        iteration, _, _ = entry["born"]
        iterations = formatting.number_of(
            entry["num_iterations_done"], "iteration"
        )
        yield (
            f"{_text_of(entry['task'])}{' (private)' * entry['private']}: path "
            f"{_short(entry['path_id'])}, {iterations}, "
            f"test {formatting.fraction(entry['test_quality'])}, born in the "
            f"system's iteration {iteration + 1}"
        )
        for step in entry["ancestors"]:
            whose = _text_of(step["task"] or "an unknown task")
            if step["task"] == specs.NOT_TRAINABLE:
                whose = "the root"
            since = "" if step["living"] else ", replaced since"
            yield f"    from {_short(step['path_id'])} of {whose}{since}"
    elif entry_type == "ranked":
        paths = ", ".join(
            f"{_text_of(phrases.parent_name(path['task']))} "
            f"{formatting.fraction(path['accuracy'])}"
            for path in entry["paths"]
        )
        yield f"    iteration {entry['iteration'] + 1} ranked: {paths}"
    elif entry_type == "generation":
        children = formatting.number_of(
            entry["num_children"], "child", "children"
        )
        yield (
            f"    iteration {entry['iteration'] + 1} generation "
            f"{entry['generation']}: {children}, "
            f"{entry['num_improved']} improved, {entry['num_failed']} failed, "
            f"best score {formatting.fraction(entry['best_score'])}, "
            f"{formatting.secs(entry['secs'])}"
        )
        yield f"        components: {_origins(entry['children'])}"
    elif entry_type == "removed":
        num_done = entry["num_iterations_done"]
        yield (
            f"{_text_of(entry['task'])}: removed after "
            f"{formatting.number_of(num_done, 'iteration')}"
        )
    else:
        yield f"note: {_text_of(entry['text'])}"


def _task(
    state: task_state.TaskState, tree: lineages.FamilyTree
) -> dict[str, Any]:
    path = state.published
    return {
        "entry": "task",
        "task": state.task,
        "private": state.private,
        "path_id": path.id,
        "num_iterations_done": state.num_iterations_done,
        "test_quality": path.metrics.get("test_quality"),
        "score": path.metrics.get("score"),
        "born": list(path.created_in),
        "hparams": dict(path.hparams),
        "components": [c.to_json() for c in path.components],
        "ancestors": [
            {"path_id": s.path_id, "task": s.task, "living": s.living}
            for s in tree.lineage(path)
        ],
    }


def _ranked(ranking: events.Ranking) -> dict[str, Any]:
    return {
        "entry": "ranked",
        "task": ranking.task,
        "iteration": ranking.iteration,
        "paths": [
            {"task": task, "accuracy": accuracy}
            for task, accuracy in ranking.paths
        ],
    }


def _generation(event: events.Generation) -> dict[str, Any]:
    return {
        "entry": "generation",
        "task": event.task,
        "iteration": event.iteration,
        "generation": event.number,
        "num_children": event.num_children,
        "num_improved": event.num_improved,
        "num_failed": event.num_failed,
        "best_score": event.best_score,
        "secs": event.secs,
        "clock": dict(event.clock),
        "children": [
            {
                "index": child.get("index"),
                "path_id": child.get("path_id"),
                "parent": child["parent"],
                "score": child["score"],
                "improved": child["improved"] is True,
                "record": record and record.to_json(),
            }
            for child, record in zip(event.children, event.records, strict=True)
        ],
    }


def _origins(children: Sequence[Mapping[str, Any]]) -> str:
    """Returns how many components of a generation came in which way."""
    records = [child["record"] for child in children]
    if None in records:
        return "unknown"
    inits = [init for record in records for _, init, *_ in record["components"]]
    return ", ".join(
        f"{inits.count(init):,} {word}"
        for init, word in formatting.INITS.items()
        if init in inits
    )


def _short(path_id: str) -> str:
    return path_id[:_NUM_ID_CHARS]


def _text_of(text: str) -> str:
    return formatting.plain(text)
