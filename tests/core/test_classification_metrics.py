"""Measures of a classifier against scikit-learn's and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from keras_munet.core import classification_metrics as metrics_lib


def _sample(num_classes, seed=0, n=600, scale=2.0):
    """Returns skewed labels and logits that know something of them."""
    rng = np.random.default_rng(seed)
    shares = 1.0 / np.arange(1, num_classes + 1)
    labels = rng.choice(num_classes, n, p=shares / shares.sum())
    labels[:num_classes] = np.arange(num_classes)
    logits = rng.normal(size=(n, num_classes)).astype(np.float32)
    logits[np.arange(n), labels] += 1.0
    return scale * logits, labels


def _probs(logits):
    exp = np.exp(logits.astype(np.float64))
    return exp / exp.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("num_classes", [2, 7, 23])
def test_measures_equal_those_of_scikit_learn(num_classes):
    logits, labels = _sample(num_classes)
    found = metrics_lib.measure_classifier(logits, labels)
    guess, probs = logits.argmax(axis=1), _probs(logits)
    near = {"abs": 2e-6}
    table = sklearn_metrics.precision_recall_fscore_support(
        labels, guess, labels=range(num_classes), zero_division=0
    )
    np.testing.assert_allclose(np.array(found.per_class).T, table)
    dense = np.zeros((num_classes, num_classes), int)
    for label, predicted, num in found.confusion:
        dense[label, predicted] = num
    assert (dense == sklearn_metrics.confusion_matrix(labels, guess)).all()
    assert found.balanced_accuracy == pytest.approx(
        sklearn_metrics.balanced_accuracy_score(labels, guess)
    )
    assert found.macro_f1 == pytest.approx(
        sklearn_metrics.f1_score(labels, guess, average="macro")
    )
    assert found.log_loss == pytest.approx(
        sklearn_metrics.log_loss(labels, probs), **near
    )
    scores = probs[:, 1] if num_classes == 2 else probs
    assert found.auc == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, scores, multi_class="ovr"), **near
    )
    if num_classes == 23:
        assert found.top_5_accuracy == pytest.approx(
            sklearn_metrics.top_k_accuracy_score(labels, probs, k=5), **near
        )
    else:
        assert found.top_5_accuracy is None


def test_classes_that_never_occur_are_left_out_as_in_scikit_learn():
    logits, labels = _sample(6)
    logits[:, 4:] -= 50.0
    labels[labels >= 4] = 0
    found = metrics_lib.measure_classifier(logits, labels)
    guess = logits.argmax(axis=1)
    assert found.macro_f1 == pytest.approx(
        sklearn_metrics.f1_score(labels, guess, average="macro")
    )
    assert found.balanced_accuracy == pytest.approx(
        sklearn_metrics.balanced_accuracy_score(labels, guess)
    )
    assert found.per_class[5] == (0, 0, 0, 0)
    one_class = metrics_lib.measure_classifier(logits, np.zeros_like(labels))
    assert one_class.auc is None


def test_equal_scores_count_half_in_the_area():
    logits = np.zeros((40, 2))
    labels = np.arange(40) % 2
    assert metrics_lib.measure_classifier(logits, labels).auc == 0.5


def test_a_temperature_calibrates_what_is_too_sure():
    logits, labels = _sample(5, n=4000, scale=1.0)
    sure = 4 * logits
    found = metrics_lib.measure_classifier(
        sure[2000:], labels[2000:], (sure[:2000], labels[:2000])
    )
    assert found.calibration_error_scaled < found.calibration_error / 2
    losses = [
        sklearn_metrics.log_loss(
            labels[:2000], _probs(sure[:2000] / (found.temperature * factor))
        )
        for factor in (0.97, 1, 1.03)
    ]
    assert losses[1] == min(losses)


@pytest.mark.parametrize("num", [12, 120, 1200])
def test_a_temperature_claims_no_certainty_where_all_is_right(num):
    labels = np.arange(num) % 2
    logits = 50 * np.eye(2)[labels]
    temperature = metrics_lib.fit_temperature(logits, labels)
    # Platt's target of a right example, met exactly by equal logits.
    probs = _probs(logits / temperature).max(axis=1)
    np.testing.assert_allclose(probs, (num + 1) / (num + 2), rtol=1e-4)
    losses = [
        metrics_lib.smoothed_log_loss(logits / (temperature * f), labels)
        for f in (0.9, 1, 1.1)
    ]
    assert losses[1] == min(losses)


def test_calibration_error_by_hand():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    found = metrics_lib.calibration_error(probs, np.array([0, 1, 1, 1]))
    # Bins hold {0.9, 0.9}, {0.6} and {0.7}.
    assert found == pytest.approx((abs(1 - 1.8) + 0.4 + 0.3) / 4)


@pytest.mark.parametrize(
    ("num_correct", "num", "interval"),
    [
        (0, 10, (0.0, 0.2775)),
        (10, 10, (0.7225, 1.0)),
        (81, 263, (0.2553, 0.3662)),
    ],
)
def test_wilsons_interval(num_correct, num, interval):
    # The last row is an example of Newcombe (1998).
    found = metrics_lib.wilson_interval(num_correct, num)
    assert found == pytest.approx(interval, abs=1e-4)


def test_a_diverged_path_has_no_measures():
    logits, labels = _sample(3)
    logits[7, 1] = np.nan
    assert metrics_lib.measure_classifier(logits, labels) is None


def test_measures_survive_json():
    logits, labels = _sample(12)
    found = metrics_lib.measure_classifier(logits, labels, (logits, labels))
    value = json.loads(json.dumps(found.to_json()))
    assert metrics_lib.ClassificationMetrics.from_json(value) == found


@pytest.mark.parametrize(
    "change",
    [
        {"num_classes": 1},
        {"num_classes": True},
        {"confusion": []},
        {"confusion": [[0, 1]]},
        {"confusion": [[0, 3, 1]]},
        {"confusion": [[0, 0, -1]]},
        {"log_loss": "<b>"},
        {"auc": float("nan")},
        {"other": 1},
    ],
)
def test_damaged_measures_are_refused(change):
    logits, labels = _sample(3)
    value = metrics_lib.measure_classifier(logits, labels).to_json()
    with pytest.raises(ValueError, match="its"):
        metrics_lib.ClassificationMetrics.from_json({**value, **change})
