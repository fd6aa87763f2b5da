from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import re

import comparison_samples
import pytest
import report_samples

from keras_munet import compare
from keras_munet import report
from keras_munet.core import classification_metrics
from keras_munet.report import comparison_points
from keras_munet.report import method_table
from keras_munet.report import summary as summary_lib

_TASKS = ("digits", "glyphs/greek", "birds")


def _metrics(num_correct):
    """Test figures of 100 pictures."""
    return classification_metrics.ClassificationMetrics(
        2, ((0, 0, num_correct), (0, 1, 100 - num_correct))
    )


@pytest.fixture
def workdir(tmp_path):
    """Two tasks of the comparison and one that is not in it."""
    folder = tmp_path / "system"
    directory = report_samples.create(folder, _TASKS)
    embedding, block, norm = directory.root.components
    for number, name in enumerate(_TASKS):
        head = directory.objects.put(
            report_samples.component("head", 4 + number, number)
        )
        report_samples.publish(
            directory,
            name,
            [embedding, block, norm, head],
            directory.root,
            metrics={"quality": 0.5, "test_quality": 0.9 - 0.1 * number},
            test_metrics=_metrics(90 - 10 * number),
        )
    report_samples.write_events(
        folder,
        *(report_samples.generation(name, 1, cpu_secs=8.0) for name in _TASKS),
    )
    return folder


@pytest.fixture
def compared(tmp_path):
    made = comparison_samples.comparison()
    compare.write(made, tmp_path / "compared")
    return tmp_path / "compared"


def _rows(workdir, compared):
    return method_table.rows(
        summary_lib.read_summary(workdir),
        comparison_points.read_points(compared),
    )


def test_the_system_and_each_method_are_a_row_over_the_common_tasks(
    workdir, compared
):
    num_tasks, (ours, *rows) = _rows(workdir, compared)
    assert num_tasks == 2
    assert ours.test == pytest.approx(0.85)
    # Three tasks share 130; each head is its own.
    assert ours.num_params == pytest.approx(2 * 130 / 3 + 4 + 5)
    assert ours.cpu_secs == 16.0
    assert [(row.name, row.num_seeds) for row in rows] == [
        ("one system, mu2Net", 2),
        ("one system, muNet", 2),
        ("separate fine-tuned models", 2),
    ]
    finetuned = rows[2]
    # 0.7 and 0.75 under seed 0; 0.02 more under seed 1.
    assert finetuned.test == pytest.approx(0.735)
    assert finetuned.num_params == 4_000
    assert finetuned.secs == 25.0
    assert finetuned.cpu_secs == 41.0


def test_the_margin_is_that_of_the_test_pictures(workdir, compared):
    _, (ours, *_) = _rows(workdir, compared)
    variance = (0.9 * 0.1 + 0.8 * 0.2) / 100
    assert ours.margin == pytest.approx(1.96 * math.sqrt(variance) / 2)


def test_what_is_not_known_of_every_task_is_missing(workdir, compared):
    file = compared / comparison_points.FILE
    record = json.loads(file.read_text())
    for run in record["runs"]:
        run["tasks"][1]["train_secs"] = None
        del run["tasks"][0]["cpu_secs"]
    file.write_text(json.dumps(record))
    directory = report_samples.system_dir.SystemDir.open(workdir)
    state = directory.tasks()["digits"]
    directory.publish(
        dataclasses.replace(state, num_iterations_done=2, test_metrics=None)
    )
    _, rows = _rows(workdir, compared)
    assert {row.margin for row in rows} == {None}
    assert {row.secs for row in rows[1:]} == {None}
    assert {row.cpu_secs for row in rows[1:]} == {None}
    assert rows[1].cells()[3] == "-"


def test_without_a_common_task_there_is_no_table(tmp_path, compared):
    folder = tmp_path / "other"
    report_samples.build(folder)
    assert _rows(folder, compared) == (0, [])
    page, _ = report.write(folder, tmp_path / "out", comparison=compared)
    assert "beside separate models" not in pathlib.Path(page).read_text()


def test_the_report_opens_with_the_table(workdir, compared, tmp_path):
    page, text = report.write(workdir, tmp_path / "out", comparison=compared)
    html = pathlib.Path(page).read_text()
    assert (
        "One system beside separate models"
        in re.findall(r"<h2[^>]*>([^<]*)</h2>", html)[0]
    )
    assert '<th scope="row">this system: 2 tasks in one</th>' in html
    lines = pathlib.Path(text).read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if "95% margin" in line)
    leaderboard = next(i for i, x in enumerate(lines) if "validation" in x)
    assert first < leaderboard
    assert lines[first + 2].startswith("this system: 2 tasks in one")
    assert max(map(len, lines)) <= 100


def test_names_of_methods_stay_text(workdir, compared, tmp_path):
    file = compared / comparison_points.FILE
    record = json.loads(file.read_text())
    for run in record["runs"]:
        run["method"] = "<b>\u202emethod"
    file.write_text(json.dumps(record))
    page, _ = report.write(workdir, tmp_path / "out", comparison=compared)
    html = pathlib.Path(page).read_text()
    assert "<b>\\u202e" not in html
    assert "&lt;b&gt;\\u202emethod" in html
