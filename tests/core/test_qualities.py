"""Qualities against scikit-learn's measures, and what a plug-in may return."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from keras_munet import errors
from keras_munet.core import qualities


def _sample(num_classes, n=600):
    """Returns skewed labels and logits that know something of them."""
    rng = np.random.default_rng(0)
    shares = 1.0 / np.arange(1, num_classes + 1)
    labels = rng.choice(num_classes, n, p=shares / shares.sum())
    labels[:num_classes] = np.arange(num_classes)
    logits = rng.normal(size=(n, num_classes)).astype(np.float32)
    logits[np.arange(n), labels] += 1.0
    return 2 * logits, labels


@pytest.mark.parametrize("num_classes", [2, 5])
def test_a_quality_is_higher_where_more_is_right(num_classes):
    logits, labels = _sample(num_classes)
    guess = logits.argmax(axis=1)
    probs = np.exp(logits.astype(np.float64))
    probs /= probs.sum(axis=1, keepdims=True)
    scores = probs[:, 1] if num_classes == 2 else probs
    wanted = {
        "accuracy": np.mean(guess == labels),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(
            labels, guess
        ),
        "macro_f1": sklearn_metrics.f1_score(labels, guess, average="macro"),
        "auc": sklearn_metrics.roc_auc_score(labels, scores, multi_class="ovr"),
        "log_loss": np.exp(-sklearn_metrics.log_loss(labels, probs)),
    }
    # That of several labels has tests of its own.
    names = {*qualities.QUALITIES.names()} - {"mean_average_precision"}
    assert set(wanted) == names
    better = logits + 2 * np.eye(num_classes)[labels]
    for name, value in wanted.items():
        found = qualities.measure_quality(name, logits, labels)
        assert found == pytest.approx(value, abs=2e-6), name
        assert found < qualities.measure_quality(name, better, labels) <= 1
        spoilt = logits.copy()
        spoilt[3, 1] = np.inf
        assert np.isnan(qualities.measure_quality(name, spoilt, labels))


@pytest.fixture
def plugin(monkeypatch):
    """Adds a quality `mine`; returns what sets the function."""
    loaded = {}
    monkeypatch.setattr(qualities.QUALITIES, "_loaded", loaded)
    return lambda function: loaded.update(mine=function)


def test_a_plugin_gets_labels_and_probabilities(plugin):
    logits, labels = _sample(3)
    given = []
    plugin(lambda *args: given.append(args) or np.float32(0.25))
    value = qualities.measure_quality("mine", logits, labels)
    assert value == 0.25 and isinstance(value, float)
    ((seen_labels, scores),) = given
    np.testing.assert_array_equal(seen_labels, labels)
    np.testing.assert_allclose(scores.sum(axis=1), 1.0)
    np.testing.assert_array_equal(scores.argmax(1), logits.argmax(1))


@pytest.mark.parametrize(
    "value", [-0.1, 1.5, float("nan"), True, np.bool_(True), "0.5", None, [0.5]]
)
def test_a_plugin_that_returns_no_share_is_refused(plugin, value):
    plugin(lambda labels, scores: value)
    with pytest.raises(errors.UsageError, match="'mine' returned") as refused:
        qualities.measure_quality("mine", *_sample(2))
    assert "from 0 to 1" in str(refused.value)


def test_a_plugin_is_not_called_for_a_child_that_diverged(plugin):
    plugin(lambda labels, scores: pytest.fail("it was called"))
    logits, labels = _sample(2)
    logits[0, 0] = np.nan
    assert np.isnan(qualities.measure_quality("mine", logits, labels))


def test_an_unknown_quality_is_refused_with_those_that_there_are():
    with pytest.raises(errors.UsageError, match=r"'acuracy'.*macro_f1"):
        qualities.measure_quality("acuracy", *_sample(2))
