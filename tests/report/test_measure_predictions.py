"""What published paths answer on test images, from a system to its report."""

from __future__ import annotations

import base64
import dataclasses
import io
import json

import numpy as np
import pytest
import report_samples
import system_samples
from PIL import Image

from keras_munet import errors
from keras_munet.data import tasks
from keras_munet.report import events
from keras_munet.report import history_table
from keras_munet.report import measure_predictions
from keras_munet.report import page_data
from keras_munet.report import predictions as predictions_lib
from keras_munet.report import summary as summary_lib
from keras_munet.system import system as system_lib

PNG = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    from keras_munet.callbacks import progress

    workdir = tmp_path_factory.mktemp("system") / "run"
    settings = system_samples.settings(
        task_names=["digits"],
        num_task_iters=1,
        num_samples_per_task=4,
        children_per_generation=2,
    )
    made = system_lib.System.create(workdir, settings)
    made.run(progress=progress.Progress(workdir, quiet=True))
    return made, workdir


@pytest.fixture(scope="module")
def measured(system):
    return measure_predictions.measure_predictions(system[0], "digits")


def _made(path_id="a" * 24, **changes):
    values = {
        "path_id": path_id,
        "num_examples": 3,
        "num_correct": 2,
        "confusion": ((0, 0, 2), (1, 0, 1)),
        "samples": (predictions_lib.Sample(PNG, 1, 0, 0.75),),
        **changes,
    }
    return predictions_lib.Predictions(**values)


def test_the_answers_are_those_that_the_path_was_published_with(
    system, measured
):
    path = system[0].tasks["digits"].published
    data = tasks.load("digits")
    assert measured.path_id == path.id
    assert measured.num_examples == len(data.test)
    right = measured.num_correct / measured.num_examples
    assert right == pytest.approx(path.metrics["test_quality"], abs=1e-6)


def test_the_confusion_matrix_counts_every_image_once(measured):
    labels = tasks.load("digits").test.labels
    counts = np.zeros((10, 10), int)
    for label, predicted, num in measured.confusion:
        assert num > 0
        counts[label, predicted] += num
    assert (counts.sum(axis=1) == np.bincount(labels, minlength=10)).all()
    assert np.trace(counts) == measured.num_correct


def test_samples_are_test_images_half_of_them_wrong(measured):
    images = tasks.load("digits").test.images[..., 0]
    wrong = [s for s in measured.samples if s.label != s.predicted]
    num_wrong = measured.num_examples - measured.num_correct
    assert len(measured.samples) == measure_predictions.NUM_SAMPLES
    assert len(wrong) == min(num_wrong, measure_predictions.NUM_SAMPLES // 2)
    for sample in measured.samples:
        content = base64.b64decode(sample.address.partition(",")[2])
        pixels = np.asarray(Image.open(io.BytesIO(content)))
        assert (images == pixels).all(axis=(1, 2)).any()
        assert 0.1 < sample.prob <= 1


def test_few_images_are_spread_over_the_split(system):
    few = measure_predictions.measure_predictions(
        system[0], "digits", num_examples_max=20, num_samples=4
    )
    assert few.num_examples == 20
    assert len(few.samples) == 4


def test_every_parent_of_a_real_run_is_a_row_of_its_own(system):
    _, workdir = system
    summary = summary_lib.read_summary(workdir)
    found = page_data.build_page_data(summary)["points"]
    assert history_table.UNKNOWN not in found["status"]
    assert found["status"].count(history_table.PUBLISHED) == 1
    assert all(parent >= 0 for parent in found["parent"][1:])
    improved = [
        child["path_id"] is not None
        for generation in events.read_history(workdir).generations
        for child in generation.children
    ]
    assert sum(improved) == summary.history.num_improved


def test_predictions_come_back_as_they_were_written(tmp_path, measured):
    found = {"digits": measured, "b": _made()}
    predictions_lib.write_predictions(tmp_path, found)
    assert predictions_lib.read_predictions(tmp_path) == found


def test_a_folder_without_predictions_has_none(tmp_path):
    assert predictions_lib.read_predictions(tmp_path) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"path_id": 7},
        {"num_examples": -1},
        {"confusion": [[0, 1]]},
        {"confusion": [[0, 1, True]]},
        {"samples": [["http://example.org/x.png", 0, 0, 0.5]]},
        {"samples": [[PNG + '" onload="x', 0, 0, 0.5]]},
        {"samples": [[PNG, 0, 0, 1.5]]},
        {"samples": [[PNG, 0, 0]]},
    ],
)
def test_damaged_predictions_are_refused(tmp_path, change):
    predictions_lib.write_predictions(tmp_path, {"a": _made()})
    file = tmp_path / predictions_lib.FILE
    record = json.loads(file.read_text())
    record["tasks"]["a"].update(change)
    file.write_text(json.dumps(record))
    with pytest.raises(errors.StoreError, match="--predictions again"):
        predictions_lib.read_predictions(tmp_path)


def test_a_page_shows_predictions_of_published_paths_alone(tmp_path):
    report_samples.build(tmp_path)
    summary = summary_lib.read_summary(tmp_path)
    birds, cats, _ = summary.tasks
    shown = page_data.build_page_data(
        summary,
        predictions={
            birds.name: _made(birds.path_id),
            cats.name: _made("f" * 24),
            "gone": _made(),
        },
    )["predictions"]
    assert list(shown) == ["birds"]
    assert shown["birds"]["confusion"] == [[0, 0, 2], [1, 0, 1]]


def test_predictions_give_figures_where_the_record_has_none(system, tmp_path):
    _, workdir = system
    summary = summary_lib.read_summary(workdir)
    (task,) = summary.tasks
    made = {"digits": _made(task.path_id)}
    recorded = page_data.build_page_data(summary, predictions=made)[
        "test_figures"
    ]
    assert recorded["digits"]["num_examples"] > 3
    assert dict(recorded["digits"]["figures"])["log loss"] != "-"
    report_samples.build(tmp_path)
    old = summary_lib.read_summary(tmp_path)
    birds, cats, dogs = old.tasks
    figures = page_data.build_page_data(
        old,
        predictions={
            birds.name: _made(birds.path_id),
            cats.name: _made("f" * 24),
            dogs.name: _made(dogs.path_id, confusion=((0, 99, 1),)),
        },
    )["test_figures"]
    assert list(figures) == ["birds"]
    assert figures["birds"]["per_class"][:2] == [
        [0.66667, 1.0, 0.8, 2],
        [0.0, 0.0, 0.0, 1],
    ]
    assert "log loss" not in dict(figures["birds"]["figures"])


def test_pictures_of_many_tasks_are_fewer_for_each(tmp_path, monkeypatch):
    monkeypatch.setattr(page_data, "_NUM_PICTURES_MAX", 4)
    report_samples.build(tmp_path)
    summary = summary_lib.read_summary(tmp_path)
    sample = predictions_lib.Sample(PNG, 1, 0, 0.75)
    made = {
        task.name: dataclasses.replace(
            _made(task.path_id), samples=(sample,) * 9
        )
        for task in summary.tasks[:2]
    }
    shown = page_data.build_page_data(summary, predictions=made)["predictions"]
    assert [len(value["samples"]) for value in shown.values()] == [2, 2]
