"""Measures of several labels equal scikit-learn's, and records keep them."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from keras_munet import errors
from keras_munet.core import multi_label_metrics
from keras_munet.core import qualities
from keras_munet.core import target_types


def _sample(num=80, num_classes=4, seed=0, decimals=1):
    """Returns logits with many ties, and labels that go along with them."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((num, num_classes)) < 0.3).astype(np.int64)
    logits = (2 * labels - 1 + rng.normal(0, 2, labels.shape)).round(decimals)
    return logits, labels


@pytest.mark.parametrize("decimals", [0, 6])
def test_average_precision_is_scikit_learns_with_ties_and_without(decimals):
    logits, labels = _sample(decimals=decimals)
    scores = multi_label_metrics.sigmoid(logits)
    expected = sklearn_metrics.average_precision_score(
        labels, scores, average=None
    )
    np.testing.assert_allclose(
        multi_label_metrics.average_precisions(labels, scores), expected
    )
    assert qualities.measure_quality(
        "mean_average_precision", logits, labels
    ) == pytest.approx(sklearn_metrics.average_precision_score(labels, scores))


def test_a_class_without_examples_is_no_part_of_the_mean():
    logits, labels = _sample()
    labels[:, 1] = 0
    rest = [0, 2, 3]
    assert qualities.measure_quality(
        "mean_average_precision", logits, labels
    ) == pytest.approx(
        qualities.measure_quality(
            "mean_average_precision", logits[:, rest], labels[:, rest]
        )
    )
    nothing = np.zeros_like(labels)
    for name in target_types.MULTI_LABEL.qualities:
        value = qualities.measure_quality(name, logits - 100.0, nothing)
        assert value == 0.0


def test_macro_f1_is_scikit_learns_at_one_half():
    logits, labels = _sample()
    expected = sklearn_metrics.f1_score(
        labels, logits >= 0, average="macro", zero_division=0
    )
    value = qualities.measure_quality("macro_f1", logits, labels)
    assert value == pytest.approx(expected)


def test_measures_of_fitted_thresholds_are_scikit_learns():
    logits, labels = _sample()
    validation = _sample(seed=1)
    measured = multi_label_metrics.measure_multi_label(
        logits, labels, validation
    )
    scores = multi_label_metrics.sigmoid(logits)
    assigned = scores >= np.array(measured.thresholds)
    expected = sklearn_metrics.precision_recall_fscore_support(
        labels, assigned, zero_division=0
    )
    for row, *parts in zip(measured.per_class, *expected, strict=True):
        assert tuple(row) == pytest.approx(tuple(parts))
    assert measured.macro_f1 == pytest.approx(np.mean(expected[2]))
    assert measured.micro_f1 == pytest.approx(
        sklearn_metrics.f1_score(labels, assigned, average="micro")
    )
    assert measured.exact_match == pytest.approx(
        sklearn_metrics.accuracy_score(labels, assigned)
    )
    losses = [
        sklearn_metrics.log_loss(labels[:, c], scores[:, c]) for c in range(4)
    ]
    assert measured.log_loss == pytest.approx(sum(losses), abs=1e-5)


def test_no_other_threshold_gives_a_higher_f1_on_validation_data():
    logits, labels = _sample(seed=3)
    scores = multi_label_metrics.sigmoid(logits)
    thresholds = multi_label_metrics.fit_thresholds(scores, labels)
    for column, threshold in enumerate(thresholds):
        tried = {
            t: sklearn_metrics.f1_score(
                labels[:, column], scores[:, column] >= t, zero_division=0
            )
            for t in (threshold, *np.unique(scores[:, column]))
        }
        assert tried[threshold] == max(tried.values())


def test_a_temperature_calibrates_decisions_that_are_too_sure():
    logits, labels = _sample(num=400, decimals=6)
    validation_logits, validation_labels = _sample(num=400, seed=1, decimals=6)
    measured = multi_label_metrics.measure_multi_label(
        4 * logits, labels, (4 * validation_logits, validation_labels)
    )
    assert measured.temperature > 3
    assert measured.calibration_error_scaled < measured.calibration_error / 2
    once = multi_label_metrics.fit_temperature(
        validation_logits, validation_labels
    )
    assert measured.temperature == pytest.approx(4 * once, rel=1e-4)
    losses = [
        multi_label_metrics.binary_log_loss(
            validation_logits / (once * factor), validation_labels
        )
        for factor in (0.9, 1.0, 1.1)
    ]
    assert min(losses) == losses[1]


def test_calibrated_thresholds_assign_the_same_classes():
    logits, labels = _sample(num=400, decimals=6)
    measured = multi_label_metrics.measure_multi_label(
        logits, labels, _sample(num=400, seed=1, decimals=6)
    )
    scores = multi_label_metrics.sigmoid(logits)
    scaled = multi_label_metrics.sigmoid(logits / measured.temperature)
    np.testing.assert_array_equal(
        scaled >= np.array(measured.calibrated.thresholds),
        scores >= np.array(measured.thresholds),
    )
    without = multi_label_metrics.measure_multi_label(logits, labels)
    assert without.temperature is None
    with pytest.raises(ValueError, match="no temperature"):
        without.calibrated  # noqa: B018
    ends = dataclasses.replace(measured, thresholds=(0.0, 1.0, 0.5, 0.5))
    assert ends.calibrated.thresholds == ends.thresholds


def test_a_class_of_few_examples_keeps_one_half():
    scores = np.array([[0.1]] * 4 + [[0.0]] * 9)
    labels = np.array([[1]] * 4 + [[0]] * 9)
    assert multi_label_metrics.fit_thresholds(scores, labels) == (0.5,)
    more = multi_label_metrics.fit_thresholds(
        np.vstack([scores, [[0.1]]]), np.vstack([labels, [[1]]])
    )
    assert more == (0.05,)


def test_logits_that_are_not_finite_have_no_measures():
    logits, labels = _sample()
    logits[3, 2] = np.nan
    assert multi_label_metrics.measure_multi_label(logits, labels) is None
    for name in target_types.MULTI_LABEL.qualities:
        assert math.isnan(qualities.measure_quality(name, logits, labels))


def test_huge_logits_have_finite_scores_and_losses():
    logits = np.array([[1e6, -1e6]])
    labels = np.array([[1, 0]])
    measured = multi_label_metrics.measure_multi_label(logits, labels)
    assert measured.log_loss == 0.0
    wrong = multi_label_metrics.measure_multi_label(logits, 1 - labels)
    assert wrong.log_loss == 2e6


def test_a_record_keeps_every_measure():
    logits, labels = _sample()
    labels[:, 0] = 0
    measured = multi_label_metrics.measure_multi_label(
        logits, labels, (logits, labels)
    )
    value = json.loads(json.dumps(measured.to_json()))
    again = multi_label_metrics.MultiLabelMetrics.from_json(value)
    assert again == measured and again.average_precision[0] is None
    rows = measured.summary(["a", "b", "c", "d"])["per_class"]
    assert rows[1]["class"] == "b" and rows[1]["threshold"] > 0


@pytest.mark.parametrize(
    ("key", "part"),
    [
        ("num_classes", 3),
        ("num_examples", 0),
        ("thresholds", [0.5, 0.5, 0.5, 1.5]),
        ("thresholds", [0.5, 0.5, 0.5, float("nan")]),
        ("thresholds", [0.5, 0.5, 0.5]),
        ("support", [1, 1, 1, -1]),
        ("predicted", [1, 1, 1, 10**9]),
        ("num_right", [81, 0, 0, 0]),
        ("average_precision", [None, 0.1, 0.1, "x"]),
        ("average_precision", [0.1, 0.1, 0.1, ""]),
        ("average_precision", [False, 0.1, 0.1, 0.1]),
        ("average_precision", [None, 0.1, 0.1, 0.1]),
        ("log_loss", -1.0),
        ("num_exact", 1.5),
        ("temperature", 0),
        ("calibration_error", ""),
        ("thresholds", 0.5),
        ("more", 1),
    ],
)
def test_a_record_of_what_no_measurement_gives_is_refused(key, part):
    value = multi_label_metrics.measure_multi_label(*_sample()).to_json()
    with pytest.raises(ValueError, match="its metrics"):
        multi_label_metrics.MultiLabelMetrics.from_json({**value, key: part})


@pytest.mark.parametrize("value", [[], None, "x", {}])
def test_a_record_that_is_no_record_is_refused(value):
    with pytest.raises(ValueError, match="its metrics"):
        multi_label_metrics.MultiLabelMetrics.from_json(value)


def test_a_record_is_read_under_a_setting_that_does_not_fit():
    measure = target_types.MULTI_LABEL.test_measure
    assert measure("macro_f1") == "macro_f1"
    assert measure("auc") == measure("accuracy") == "mean_average_precision"
    assert target_types.SINGLE_LABEL.test_measure("macro_f1") == "accuracy"


@pytest.mark.parametrize("name", ["balanced_accuracy", "auc", "log_loss", "my"])
def test_a_quality_of_one_label_is_refused_for_several_in_one_line(name):
    with pytest.raises(errors.UsageError, match="use one of mean_av") as caught:
        target_types.MULTI_LABEL.quality_of(name, "own/scenes")
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_each_type_has_a_quality_where_none_is_set():
    single, multi = target_types.SINGLE_LABEL, target_types.MULTI_LABEL
    assert single.quality_of("accuracy", "a") == "accuracy"
    assert multi.quality_of("accuracy", "a") == "mean_average_precision"
    assert single.quality_of("macro_f1", "a") == "macro_f1"
    assert multi.quality_of("macro_f1", "a") == "macro_f1"
    with pytest.raises(errors.UsageError, match="has one label an image"):
        single.quality_of("mean_average_precision", "a")
