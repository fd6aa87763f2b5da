"""Draws a system's records as plotly figures, for notebooks and papers.

Invariant: the values are those of the report's page; a figure that has nothing
to show is left out.
"""

from __future__ import annotations

import os
import statistics
from typing import TYPE_CHECKING
from typing import Any

from keras_munet.core import classification_metrics
from keras_munet.report import events
from keras_munet.report import formatting
from keras_munet.report import history_table
from keras_munet.report import page_data
from keras_munet.report import summary as summary_lib

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from keras_munet.system import system as system_lib

# A confusion matrix of more classes is larger than a page.
_NUM_CLASSES_MAX = 50
_SingleLabel = classification_metrics.ClassificationMetrics


def figures(
    system: system_lib.System | str | os.PathLike[str],
) -> dict[str, go.Figure]:
    """Returns plotly figures of a system, by name.

    Args:
      system: an open system, or its directory.

    Returns:
      `accuracy`: validation quality and test accuracy of each task, with
      Wilson's 95% interval where the record has test figures; `progress`: the
      best score of every child and of each task so far; `tree`: the published
      paths and all their ancestors; `sharing`: which task uses which
      component in which slot; `parameters`: accounted parameters against
      test accuracy; `time`: seconds of each task by kind of work; and
      `confusion TASK` of tasks of up to 50 classes with test figures.

    Raises:
      UsageError: there is no system.
      StoreError: it is damaged or of a newer format.

    Example:
      >>> from keras_munet import report
      >>> sorted(report.figures(system))[0]
      'accuracy'
    """
    workdir = (
        system if isinstance(system, str | os.PathLike) else system.workdir
    )
    summary = summary_lib.read_summary(workdir)
    data = page_data.build_page_data(summary)
    by_name = {
        "accuracy": _accuracy(summary),
        "progress": _progress(data),
        "tree": _tree(data),
        "sharing": _sharing(summary),
        "parameters": _parameters(summary),
        "time": _time(summary.history),
        **{
            f"confusion {task.name}": _confusion(task)
            for task in summary.tasks
            if task.num_classes <= _NUM_CLASSES_MAX
        },
    }
    return {name: figure for name, figure in by_name.items() if figure.data}


def _figure(traces: list[Any], x: str, y: str, **layout: Any) -> go.Figure:
    import plotly.graph_objects as go

    return go.Figure(
        traces,
        {
            "template": "plotly_white",
            "xaxis": {"title": {"text": x}},
            "yaxis": {"title": {"text": y}},
            **layout,
        },
    )


def _accuracy(summary: summary_lib.Summary) -> go.Figure:
    tests = {t.name: t.test for t in summary.tasks if t.test is not None}
    traces = []
    if tests:
        intervals = {
            task.name: metrics.accuracy_interval
            for task in summary.tasks
            if isinstance(metrics := task.test_metrics, _SingleLabel)
        }
        above, below = [], []
        for name, test in tests.items():
            low, high = intervals.get(name, (test, test))
            above.append(high - test)
            below.append(test - low)
        names = list(tests)
        traces = [
            {
                "type": "bar",
                "name": f"validation {summary.quality}",
                "x": names,
                "y": [t.validation for t in summary.tasks if t.name in tests],
            },
            {
                "type": "bar",
                "name": "test accuracy",
                "x": names,
                "y": list(tests.values()),
                "error_y": {"array": above, "arrayminus": below},
            },
        ]
    return _figure(traces, "task", "share of the pictures", barmode="group")


def _task_names(data: dict[str, Any]) -> list[str]:
    """Returns the names that the page's task numbers stand for."""
    return [*(task["name"] for task in data["tasks"]), *data["other_tasks"]]


def _progress(data: dict[str, Any]) -> go.Figure:
    points, names = data["points"], _task_names(data)
    rows = sorted(
        (i for i, g in enumerate(points["generation"]) if g >= 0),
        key=lambda i: (points["generation"][i], points["child"][i]),
    )
    order = {row: number for number, row in enumerate(rows, 1)}
    traces = []
    for number, name in enumerate(names):
        of_task = [row for row in rows if points["task"][row] == number]
        if not of_task:
            continue
        scores = [points["score"][row] for row in of_task]
        best: list[float | None] = []
        for score in scores:
            so_far = (s for s in (score, *best[-1:]) if s is not None)
            best.append(max(so_far, default=None))
        trained = [order[row] for row in of_task]
        common = {"type": "scatter", "x": trained, "legendgroup": name}
        texts = [
            history_table.STATUSES[points["status"][row]] for row in of_task
        ]
        traces += [
            {
                **common,
                "y": scores,
                "mode": "markers",
                "name": name,
                "text": texts,
            },
            {
                **common,
                "y": best,
                "mode": "lines",
                "line": {"shape": "hv"},
                "name": f"{name}, best so far",
            },
        ]
    return _figure(traces, "children trained", "best validation score")


def _tree(data: dict[str, Any]) -> go.Figure:
    points, names = data["points"], _task_names(data)
    parents = points["parent"]
    rows: set[int] = set()
    for row, status in enumerate(points["status"]):
        if status == history_table.PUBLISHED:
            while row >= 0 and row not in rows:
                rows.add(row)
                row = parents[row]
    height = _heights(sorted(rows), parents)
    x, y = [], []
    for row in sorted(rows):
        if parents[row] in rows:
            ends = parents[row], row
            x += [*(points["generation"][end] for end in ends), None]
            y += [*(height[end] for end in ends), None]
    traces: list[dict[str, Any]] = []
    if rows:
        traces = [
            {
                "type": "scatter",
                "mode": "lines",
                "showlegend": False,
                "hoverinfo": "skip",
                "line": {"color": "lightgrey"},
                "x": x,
                "y": y,
            }
        ]
    for number in sorted({points["task"][row] for row in rows}):
        of_task = [row for row in sorted(rows) if points["task"][row] == number]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "root" if number < 0 else names[number],
                "x": [points["generation"][row] for row in of_task],
                "y": [height[row] for row in of_task],
                "text": [points["id"][row] for row in of_task],
            }
        )
    return _figure(
        traces,
        "generation, in the order of training",
        "",
        yaxis={"showticklabels": False, "showgrid": False},
    )


def _heights(rows: list[int], parents: list[int]) -> dict[int, float]:
    """Returns row -> its height: leaves apart, parents amid their children."""
    below: dict[int, list[int]] = {row: [] for row in rows}
    tops: list[int] = []
    for row in rows:
        below.get(parents[row], tops).append(row)
    order, stack = [], tops[::-1]
    while stack:
        row = stack.pop()
        order.append(row)
        stack += reversed(below[row])
    leaves = (row for row in order if not below[row])
    heights = {row: float(number) for number, row in enumerate(leaves)}
    for row in reversed(order):
        if below[row]:
            heights[row] = statistics.fmean(heights[c] for c in below[row])
    return heights


def _sharing(summary: summary_lib.Summary) -> go.Figure:
    names = [task.name for task in summary.tasks]
    slots = [slot.name for slot in summary.components]
    labels = [
        [
            "" if (used := slot.of_task(name)) is None else used.label
            for slot in summary.components
        ]
        for name in names
    ]
    shares = [
        [
            None
            if (used := slot.of_task(name)) is None
            else len(used.tasks) / len(names)
            for slot in summary.components
        ]
        for name in names
    ]
    traces = [
        {
            "type": "heatmap",
            "x": slots,
            "y": names,
            "z": shares,
            "zmin": 0,
            "zmax": 1,
            "text": labels,
            "texttemplate": "%{text}",
            "colorbar": {"title": {"text": "share of the tasks"}},
        }
    ]
    return _figure(traces if names else [], "slot of the path", "task")


def _parameters(summary: summary_lib.Summary) -> go.Figure:
    measured = [task for task in summary.tasks if task.test is not None]
    traces = [
        {
            "type": "scatter",
            "mode": "markers+text",
            "x": [task.accounted_params for task in measured],
            "y": [task.test for task in measured],
            "text": [task.name for task in measured],
            "textposition": "top center",
        }
    ]
    return _figure(
        traces if measured else [], "accounted parameters", "test accuracy"
    )


def _time(history: events.History) -> go.Figure:
    names = list(dict.fromkeys(g.task for g in history.generations))
    traces = [
        {
            "type": "bar",
            "name": formatting.work_type(key),
            "x": names,
            "y": [
                sum(
                    page_data.clock_secs(g.clock, g.secs, key)
                    for g in history.generations
                    if g.task == name
                )
                for name in names
            ],
        }
        for key in history.clock
        if names
    ]
    return _figure(traces, "task", "wall time, s", barmode="stack")


def _confusion(task: summary_lib.TaskSummary) -> go.Figure:
    traces = []
    # An image with several labels is not taken for one other class.
    metrics = task.test_metrics
    if isinstance(metrics, _SingleLabel):
        classes = list(task.class_names) or [
            f"class {i}" for i in range(task.num_classes)
        ]
        counts = [[0] * task.num_classes for _ in range(task.num_classes)]
        for label, predicted, count in metrics.confusion:
            counts[label][predicted] = count
        traces = [
            {
                "type": "heatmap",
                "x": classes,
                "y": classes,
                "z": counts,
                "colorbar": {"title": {"text": "pictures"}},
            }
        ]
    return _figure(traces, "predicted class", "class")
