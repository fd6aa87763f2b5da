from __future__ import annotations

import dataclasses

import pytest
import report_samples

from keras_munet import report
from keras_munet.core import classification_metrics
from keras_munet.report import summary as summary_lib
from keras_munet.system import system as system_lib

_METRICS = classification_metrics.ClassificationMetrics(
    2, ((0, 0, 5), (0, 1, 1), (1, 1, 4))
)


@pytest.fixture
def workdir(tmp_path):
    folder = tmp_path / "a\x07system"
    directory = report_samples.build(folder)
    birds = directory.tasks()["birds"]
    directory.publish(
        dataclasses.replace(
            birds, num_iterations_done=3, test_metrics=_METRICS
        ),
    )
    report_samples.write_events(
        folder,
        report_samples.generation("birds", 1),
        report_samples.published("birds", 0),
        report_samples.generation("birds", 1, 1),
        report_samples.generation("dogs", 1),
    )
    return folder


def _trace(figure, name):
    (trace,) = [trace for trace in figure.data if trace.name == name]
    return trace


def test_every_figure_shows_the_values_of_the_summary(workdir):
    figures = report.figures(workdir)
    assert set(figures) == {
        *("accuracy", "progress", "tree", "sharing", "parameters", "time"),
        "confusion birds",
    }
    summary = summary_lib.read_summary(workdir)
    tasks = {task.name: task for task in summary.tasks}
    bars = _trace(figures["accuracy"], "test accuracy")
    assert dict(zip(bars.x, bars.y, strict=True)) == {
        name: task.test for name, task in tasks.items()
    }
    low, high = _METRICS.accuracy_interval
    at = list(bars.x).index("birds")
    assert bars.error_y.array[at] == pytest.approx(high - 0.5)
    assert bars.error_y.arrayminus[at] == pytest.approx(0.5 - low)
    assert bars.error_y.array[1 - at] == 0
    (points,) = figures["parameters"].data
    assert list(points.x) == [task.accounted_params for task in summary.tasks]
    (cells,) = figures["confusion birds"].data
    assert [list(row) for row in cells.z] == [[5, 1], [0, 4]]
    (heat,) = figures["sharing"].data
    row = list(heat.y).index("cats/wild")
    assert dict(zip(heat.x, heat.text[row], strict=True)) == {
        slot.name: slot.of_task("cats/wild").label
        for slot in summary.components
    }


def test_times_of_a_task_add_up_to_its_generations(workdir):
    figure = report.figures(workdir)["time"]
    summary = summary_lib.read_summary(workdir)
    for name in ("birds", "dogs"):
        at = list(figure.data[0].x).index(name)
        assert sum(trace.y[at] for trace in figure.data) == pytest.approx(
            sum(g.secs for g in summary.history.generations if g.task == name)
        )


def test_the_best_score_so_far_never_falls(workdir):
    figure = report.figures(workdir)["progress"]
    points = _trace(figure, "birds")
    best = _trace(figure, "birds, best so far")
    scores = [score for score in points.y if score is not None]
    assert list(best.y) == sorted(best.y)
    assert best.y[-1] == max(scores)
    assert len(points.text) == len(points.x)


def test_parents_in_the_tree_stand_amid_their_children(workdir):
    figure = report.figures(workdir)["tree"]
    edges, *nodes = figure.data
    ids = {path for trace in nodes for path in trace.text}
    summary = summary_lib.read_summary(workdir)
    assert {path.id for path in summary.published} <= ids
    assert summary.root.id in ids
    heights = [y for trace in nodes for y in trace.y]
    places = {(x, y) for t in nodes for x, y in zip(t.x, t.y, strict=True)}
    assert min(heights) == 0
    assert len(edges.x) % 3 == 0
    for end in zip(edges.x, edges.y, strict=True):
        assert end == (None, None) or end in places


def test_a_system_gives_the_figures_of_its_directory(workdir, monkeypatch):
    class Opened:
        workdir = system_lib.System.workdir

        def __init__(self, directory):
            self._dir = directory

    opened = Opened(report_samples.system_dir.SystemDir.open(workdir))
    by_system = report.figures(opened)
    by_path = report.figures(str(workdir))
    assert {n: f.to_json() for n, f in by_system.items()} == {
        n: f.to_json() for n, f in by_path.items()
    }


def test_a_new_system_has_no_figure_of_tasks(tmp_path):
    report_samples.create(tmp_path / "new")
    assert set(report.figures(tmp_path / "new")) == set()
