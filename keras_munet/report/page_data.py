"""Builds the plain JSON values that the page's script draws.

Invariant: every text that was read from a system has gone through
`formatting.plain`, and the numbers are those of the summary: the script chooses
and arranges, it computes nothing that a reader could not check in the text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from keras_munet.core import multi_label_metrics
from keras_munet.core import specs
from keras_munet.core import target_types
from keras_munet.report import formatting
from keras_munet.report import history_table
from keras_munet.report import phrases
from keras_munet.report import predictions as predictions_lib
from keras_munet.report import samples
from keras_munet.report import summary as summary_lib

# Above it a page would be pictures more than anything else.
_NUM_PICTURES_MAX = 1_200
_NUM_STRIPS_MAX = 50
# Above it a chart's points are drawn by the graphics processor.
_NUM_SVG_POINTS_MAX = 1_500


def build_page_data(
    summary: summary_lib.Summary,
    *,
    live_secs: float = 0,
    baselines: Mapping[str, Any] | None = None,
    predictions: Mapping[str, predictions_lib.Predictions] | None = None,
) -> dict[str, Any]:
    """Returns the page's data.

    Args:
      summary: of the system.
      live_secs: after how many seconds the page loads itself again; 0 never.
      baselines: what `comparison_points.read_points` returned.
      predictions: of the published paths, by task.
    """
    names = [task.name for task in summary.tasks]
    task_names = set(names)
    history = summary.history
    other_names = {g.task for g in history.generations} | {
        *history.path_tasks.values()
    }
    other_names -= task_names | {specs.NOT_TRAINABLE}
    names += sorted(other_names)
    numbers = {name: i for i, name in enumerate(names)}
    numbers[specs.NOT_TRAINABLE] = -1
    guesses = predictions or {}
    table = history_table.columns(
        history, summary.root, summary.published, numbers
    )
    many = len(table["id"]) > _NUM_SVG_POINTS_MAX
    return {
        "format_version": 1,
        "name": formatting.plain(summary.name),
        "live_secs": live_secs,
        "root": {
            "source": formatting.plain(summary.root_source),
            "num_params": summary.root_params,
        },
        "params": {
            "in_use": summary.params_in_use,
            "separate": summary.params_separate,
        },
        "quality": summary.quality,
        "means": {
            "validation": history_table.rounded(summary.mean_validation),
            "test": history_table.rounded(summary.mean_test),
        },
        "tasks": [_task(task, summary) for task in summary.tasks],
        "other_tasks": [formatting.plain(name) for name in sorted(other_names)],
        "places": _places(summary, numbers),
        "statuses": list(history_table.STATUSES),
        "inits": formatting.INITS,
        "points": table,
        "svg_points_max": _NUM_SVG_POINTS_MAX if many else None,
        "generations": _generations(summary, numbers),
        "kinds": {key: formatting.work_type(key) for key in history.clock},
        "baselines": baselines,
        "test_figures": _test_figures(summary, guesses),
        "predictions": _predictions(summary, guesses),
        "strips": _strips(summary, guesses),
        "settings": [
            [formatting.plain(key), formatting.plain(value)]
            for key, value in summary.flat_settings
        ],
    }


def to_script(value: Mapping[str, Any]) -> str:
    """Returns JSON that can stand inside a `<script>` element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    # These can end the element or begin another; in JSON they occur in texts
    # alone, where an escape means the same.
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _task(
    task: summary_lib.TaskSummary, summary: summary_lib.Summary
) -> dict[str, Any]:
    is_multi = task.target is target_types.MULTI_LABEL
    return {
        "name": formatting.plain(task.name),
        "private": task.private,
        "path": task.path_id,
        "parent": formatting.plain(phrases.parent_name(task.parent_task)),
        "num_iterations": task.num_iterations_done,
        "num_classes": task.num_classes,
        "num_layers": history_table.rounded(task.num_layers),
        "classes": [formatting.plain(name) for name in task.class_names],
        "validation": history_table.rounded(task.validation),
        "test": history_table.rounded(task.test),
        "measure": summary.multi_label_measure if is_multi else "accuracy",
        "score": history_table.rounded(task.score),
        "params": task.num_params,
        "shared": task.shared_params,
        "own": task.own_params,
        "accounted": round(task.accounted_params, 1),
    }


def _places(
    summary: summary_lib.Summary, numbers: Mapping[str, int]
) -> list[dict[str, Any]]:
    return [
        {
            "name": formatting.plain(slot.name),
            "components": [
                {
                    "id": component.id[:12],
                    "label": component.label,
                    "params": component.num_params,
                    "tasks": [numbers[task] for task in component.tasks],
                }
                for component in slot.components
            ],
        }
        for slot in summary.components
    ]


def _generations(
    summary: summary_lib.Summary, numbers: Mapping[str, int]
) -> dict[str, Any]:
    """Returns a column per kind of value, in the order of events."""
    ended = sorted(summary.history.generations, key=lambda g: g.position)
    return {
        "task": [numbers[g.task] for g in ended],
        "iteration": [g.iteration for g in ended],
        "number": [g.number for g in ended],
        "num_children": [g.num_children for g in ended],
        "num_improved": [g.num_improved for g in ended],
        "best": [history_table.rounded(g.best_score) for g in ended],
        "secs": [history_table.rounded(g.secs) for g in ended],
        "clock": {
            key: [
                history_table.rounded(clock_secs(g.clock, g.secs, key))
                for g in ended
            ]
            for key in summary.history.clock
        },
    }


def clock_secs(clock: Mapping[str, float], secs: float, key: str) -> float:
    """Returns the seconds of a kind of work; other work is what is left."""
    if key != "other_secs":
        return clock.get(key, 0.0)
    return clock.get(key, 0.0) + max(0.0, secs - sum(clock.values()))


def _test_figures(
    summary: summary_lib.Summary,
    by_task: Mapping[str, predictions_lib.Predictions],
) -> dict[str, Any]:
    """Returns what each published path answers on test data.

    A record that does not say is completed by predictions of the same path.
    """
    figures = {}
    for task in summary.tasks:
        metrics: target_types.Metrics | None = task.test_metrics
        guesses = by_task.get(task.name)
        if (
            metrics is None
            and guesses is not None
            and guesses.path_id == task.path_id
        ):
            metrics = guesses.metrics(task.num_classes)
        if metrics is None:
            continue
        figures[formatting.plain(task.name)] = {
            "num_examples": metrics.num_examples,
            "figures": [
                pair
                for pair in phrases.test_figures(metrics)
                if pair[1] != formatting.NONE
            ],
            "per_class": [
                [history_table.rounded(number) for number in row]
                for row in metrics.per_class
            ],
            **_target_figures(metrics),
        }
    return figures


def _target_figures(metrics: target_types.Metrics) -> dict[str, Any]:
    """Returns the figures that one type of labels alone has."""
    if isinstance(metrics, multi_label_metrics.MultiLabelMetrics):
        return {
            "num_correct": metrics.num_exact,
            "per_label": [
                [history_table.rounded(number) for number in pair]
                for pair in zip(
                    metrics.average_precision, metrics.thresholds, strict=True
                )
            ],
        }
    return {
        "num_correct": metrics.num_correct,
        "confusion": [list(cell) for cell in metrics.confusion],
    }


def _predictions(
    summary: summary_lib.Summary,
    by_task: Mapping[str, predictions_lib.Predictions],
) -> dict[str, Any]:
    current = {
        task.name: by_task[task.name].to_json()
        for task in summary.tasks
        if task.name in by_task and by_task[task.name].path_id == task.path_id
    }
    if not current:
        return {}
    num_each = max(1, _NUM_PICTURES_MAX // len(current))
    return {
        formatting.plain(name): {
            **value,
            "samples": value["samples"][:num_each],
        }
        for name, value in current.items()
    }


def _strips(
    summary: summary_lib.Summary,
    by_task: Mapping[str, predictions_lib.Predictions],
) -> list[dict[str, Any]]:
    """Returns a picture of the classes of tasks without predictions."""
    strips: list[dict[str, Any]] = []
    for task in summary.tasks:
        if task.name in by_task or not samples.has(task.name):
            continue
        if len(strips) == _NUM_STRIPS_MAX:
            break
        strip = samples.strip(task.name)
        strips.append(
            {
                "task": formatting.plain(task.name),
                "classes": [
                    formatting.plain(name) for name in strip.class_names
                ],
                "address": strip.address,
                "width": strip.width,
                "problem": formatting.plain(strip.problem),
            }
        )
    return strips
