"""A system of a task with any number of labels beside one of one label."""

from __future__ import annotations

import csv
import dataclasses
import json
import pathlib

import multi_label_samples
import numpy as np
import pytest
import report_browser
import system_samples
import tensorflow as tf
from forked import launch
from sklearn import metrics as sklearn_metrics

import keras_munet
from keras_munet import errors
from keras_munet import report
from keras_munet.core import multi_label_metrics
from keras_munet.core import settings as settings_lib
from keras_munet.core import target_types
from keras_munet.data.own import prepare
from keras_munet.export import golden_outputs
from keras_munet.report import measure_predictions
from keras_munet.report import predictions as predictions_lib
from keras_munet.report import summary as summary_lib
from keras_munet.store import task_state
from keras_munet.system import inference

_TASK = "own/overlaid"


def _settings(data_dir, **changes):
    values = {
        "task_names": ["digits", _TASK],
        "num_task_iters": 1,
        "num_samples_per_task": 2,
        "children_per_generation": 2,
        "data": {"data_dir": str(data_dir)},
        "search": {"probe_child": True, "rank_parents": "probe"},
        **changes,
    }
    return system_samples.settings(**values)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Prepared data, a system of both types of tasks and its export."""
    base = tmp_path_factory.mktemp("multi_label")
    images, labels = multi_label_samples.overlaid_digits(240)
    source = multi_label_samples.write_table(base / "in", images, labels)
    prepare.prepare_task(source, str(base / "data"), name=_TASK, side=12)
    system = keras_munet.System.create(base / "run", _settings(base / "data"))
    system.run()
    system.export(base / "served", formats=("savedmodel", "tflite"))
    return base


@pytest.fixture
def system(base):
    return keras_munet.System.open(
        base / "run", settings_lib.DataSettings(data_dir=str(base / "data"))
    )


def test_the_record_names_the_type_and_keeps_the_thresholds(system, base):
    state = system.tasks[_TASK]
    assert state.target is target_types.MULTI_LABEL
    assert len(state.thresholds) == 10
    value = state.to_json()
    assert value["target_type"] == "multi_label"
    assert task_state.TaskState.from_json(value) == state
    plain = system.tasks["digits"].to_json()
    assert "target_type" not in plain
    assert system.tasks["digits"].thresholds is None
    assert system.check() == []


@pytest.mark.parametrize(
    "change",
    [
        {"target_type": "single_label"},
        {"target_type": "several"},
        {"target_type": None},
        {"target_type": ["multi_label"]},
    ],
)
def test_a_record_of_another_type_than_its_measures_is_refused(system, change):
    value = {**system.tasks[_TASK].to_json(), **change}
    with pytest.raises(ValueError, match="its "):
        task_state.TaskState.from_json(value)


def test_measures_are_those_of_predicted_scores(system, base):
    data = system.data(_TASK)
    predictions = system.predict(_TASK, data.test.images)
    scores = np.array(
        [[p.scores[name] for name in data.class_names] for p in predictions]
    )
    measured = system.evaluate([_TASK])[_TASK]
    expected = sklearn_metrics.average_precision_score(data.test.labels, scores)
    assert measured.measure == system[_TASK].measure == "mean_average_precision"
    assert measured.test_accuracy == pytest.approx(expected, abs=1e-5)
    assert system[_TASK].test_accuracy == measured.test_accuracy
    assert system[_TASK].target_type == "multi_label"
    assigned = np.array(
        [[name in p.labels for name in data.class_names] for p in predictions]
    )
    rows = measured.test_metrics["per_class"]
    expected_rows = sklearn_metrics.precision_recall_fscore_support(
        data.test.labels, assigned, zero_division=0
    )
    for number, key in enumerate(("precision", "recall", "f1", "support")):
        assert [row[key] for row in rows] == pytest.approx(
            list(expected_rows[number]), abs=1e-6
        )
    assert [row["threshold"] for row in rows] == pytest.approx(
        list(system.tasks[_TASK].thresholds)
    )


def test_a_prediction_has_the_labels_above_their_thresholds(system):
    images = system.data(_TASK).test.images
    for p in system.predict(_TASK, images):
        above = [n for n, s in p.scores.items() if s >= p.thresholds[n]]
        assert list(p.labels) == above
        assert p.label == next(iter(p.scores))
    one = system.predict("digits", images[:1])[0]
    assert one.labels == (one.label,) and one.thresholds is None


def test_a_model_has_the_thresholds_of_its_tasks(system):
    assert system.model(_TASK).thresholds == system.tasks[_TASK].thresholds
    assert system.model(["digits", _TASK]).thresholds["digits"] is None


def test_an_export_has_scores_and_thresholds_of_each_class(system, base):
    served = tf.saved_model.load(str(base / "served"))
    images = tf.constant(np.repeat(system.data(_TASK).test.images, 3, -1))
    outputs = served.signatures["predict_own_overlaid"](images=images)
    np.testing.assert_allclose(
        outputs["scores"], tf.sigmoid(outputs["logits"]), atol=1e-7
    )
    thresholds = np.float32(system.tasks[_TASK].thresholds)
    np.testing.assert_array_equal(
        outputs["thresholds"], np.tile(thresholds, (len(images), 1))
    )
    together = served.signatures["all_tasks"](images=images)
    np.testing.assert_array_equal(
        together["own_overlaid_thresholds"], outputs["thresholds"]
    )
    assert "digits_thresholds" not in together
    one = served.signatures["predict_digits"](images=images)
    assert set(one) == {"logits", "scores"}
    np.testing.assert_allclose(
        np.sum(one["scores"], axis=1), np.ones(len(images)), atol=1e-5
    )
    described = json.loads((base / "served/signatures.json").read_text())
    assert described["tasks"][_TASK]["target_type"] == "multi_label"
    assert "target_type" not in described["tasks"]["digits"]
    golden_outputs.replay(base / "served", base / "served")


def test_a_card_says_what_scores_of_both_types_mean(base, system, tmp_path):
    both = (base / "served" / "README.md").read_text()
    assert "one of the classes to any picture" in both
    assert "may answer with no class" in both
    system.export(tmp_path / "one", [_TASK])
    only = (tmp_path / "one" / "README.md").read_text()
    assert "one of the classes to any picture" not in only
    assert "may answer with no class" in only


def test_a_tflite_file_has_the_same_scores(system, base):
    pictures = np.zeros([1, 16, 16, 3], np.uint8)
    interpreter = tf.lite.Interpreter(
        str(base / "served" / "tflite" / "own_overlaid.tflite")
    )
    runner = interpreter.get_signature_runner()
    outputs = runner(images=pictures)
    np.testing.assert_allclose(
        outputs["scores"], tf.sigmoid(outputs["logits"]), atol=1e-6
    )


def test_system_and_export_predict_the_same(system, base):
    files = sorted(str(p) for p in (base / "in").glob("0000*.png"))
    exported = inference.exported_classifier(base / "served", _TASK)
    assert inference.predict(exported, files) == system.predict(_TASK, files)


@pytest.mark.parametrize(
    "thresholds", [None, [0.5], [2.0] * 10, ["a"] * 10, "0.5"]
)
def test_an_export_with_other_thresholds_is_refused(base, tmp_path, thresholds):
    import shutil

    shutil.copytree(base / "served", tmp_path / "copy")
    path = tmp_path / "copy" / "signatures.json"
    described = json.loads(path.read_text())
    described["tasks"][_TASK]["thresholds"] = thresholds
    path.write_text(json.dumps(described))
    with pytest.raises(errors.StoreError, match="is no export"):
        inference.exported_classifier(tmp_path / "copy", _TASK)


def test_calibrated_scores_assign_the_same_labels(system, base):
    system.export(base / "calibrated", [_TASK], calibrate=True)
    files = sorted(str(p) for p in (base / "in").glob("*.png"))
    plain, scaled = (
        inference.predict(inference.exported_classifier(folder, _TASK), files)
        for folder in (base / "served", base / "calibrated")
    )
    metrics = system.tasks[_TASK].test_metrics
    assert metrics.temperature not in (None, 1.0)
    assert [p.labels for p in scaled] == [p.labels for p in plain]
    before, after = (
        np.array([list(p.scores.values()) for p in rows])
        for rows in (plain, scaled)
    )
    logits = np.log(before) - np.log1p(-before)
    np.testing.assert_allclose(
        after,
        multi_label_metrics.sigmoid(logits / metrics.temperature),
        atol=1e-5,
    )
    card = (base / "calibrated" / "README.md").read_text()
    assert "temperature, which the model applies" in " ".join(card.split())


def test_report_and_card_show_every_class(system, base):
    text = report.text(base / "run")
    assert "mean AP" in text and "any number of labels" in text
    page = pathlib.Path(
        report.write(base / "run", base / "report")[0]
    ).read_text()
    assert '"per_label":[[' in page and '"measure":"mean average' in page
    assert "<dt>Mean test quality</dt>" in page
    summary = summary_lib.read_summary(base / "run")
    alone = dataclasses.replace(
        summary, tasks=[t for t in summary.tasks if t.name == _TASK]
    )
    assert alone.measures_of_means == ("mean average precision",) * 2
    assert report.figures(system)
    card = (base / "served/README.md").read_text()
    assert "(mean AP)" in card
    assert "| average precision | threshold |" in card


def test_sample_pictures_have_all_their_labels(system, tmp_path):
    state = system.tasks[_TASK]
    measured = measure_predictions.measure_predictions(system, _TASK)
    assert measured.num_correct == state.test_metrics.num_exact
    assert measured.num_examples == state.test_metrics.num_examples
    assert measured.confusion == ()
    data = system.data(_TASK).test
    labels_of = {
        measure_predictions.address(image): tuple(np.flatnonzero(labels))
        for image, labels in zip(*data.batch(np.arange(len(data))), strict=True)
    }
    for sample in measured.samples:
        assert sample.label == labels_of[sample.address]
    assert any(s.label != s.predicted for s in measured.samples)
    predictions_lib.write_predictions(tmp_path, {_TASK: measured})
    assert predictions_lib.read_predictions(tmp_path) == {_TASK: measured}


def test_the_launcher_writes_every_label_of_a_picture(base, system):
    out = base / "labels.csv"
    done = launch(
        *("predict", base / "in" / "00000.png", base / "in" / "labels.csv"),
        *(f"--workdir={base / 'run'}", f"--task={_TASK}", f"--out={out}"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, second = csv.DictReader(out.read_text().splitlines())
    (expected,) = system.predict(_TASK, first["path"])
    assert first["labels"] == "|".join(expected.labels)
    assert first["label"] == expected.label
    assert second["labels"] == "" and second["reason"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"search": {"quality": "log_loss"}}, "has any number of labels"),
        ({"search": {"quality": "auc"}}, "use one of mean_average_precision"),
        (
            {"data": {"class_weights": "auto"}},
            r"class_weights.*set it to none",
        ),
        (
            {
                "search": {"quality": "mean_average_precision"},
                "task_names": ["digits"],
            },
            "has one label an image",
        ),
    ],
)
def test_a_setting_that_does_not_fit_leaves_nothing_behind(
    base, tmp_path, changes, problem
):
    data = {**changes.get("data", {}), "data_dir": str(base / "data")}
    settings = _settings(base / "data", **{**changes, "data": data})
    with pytest.raises(errors.UsageError, match=problem) as caught:
        keras_munet.System.create(tmp_path / "run", settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("policy", ["linear_probe", "finetune_all"])
def test_baselines_learn_the_task_too(base, tmp_path, policy):
    settings = _settings(
        base / "data",
        task_names=[_TASK],
        search={"policy": policy, "quality": "macro_f1"},
        num_samples_per_task=1,
        children_per_generation=1,
        num_validations_per_path_training=1,
        ranges={},
    )
    system = keras_munet.System.create(tmp_path / "run", settings)
    system.run()
    assert system[_TASK].measure == "macro_f1"
    metrics = system.tasks[_TASK].published.metrics
    assert 0 <= metrics["test_quality"] <= 1


@pytest.mark.slow
def test_the_page_shows_the_figures_of_each_class(base, tmp_path):
    settings = _settings(
        base / "data",
        task_names=[_TASK],
        search={"policy": "linear_probe"},
        ranges={},
    )
    keras_munet.System.create(tmp_path / "run", settings).run()
    file = pathlib.Path(report.write(tmp_path / "run", tmp_path / "page")[0])
    with report_browser.launching() as launch:
        opened = report_browser.Opened(launch(), file)
        opened.draw()
        opened.open_all()
        heading = opened.heading()
        text = opened.page.inner_text("#details")
        said = opened.said
        opened.close()
    assert heading.startswith(_TASK) and said == []
    assert "average precision\tthreshold" in text
    assert "with exactly their labels" in text
    assert "test mean average precision" in text
