"""Linear heads on features, found without a step of training."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import discriminant_analysis

from keras_munet.train import closed_form

_NUM_CLASSES = 4


def _clouds(num, seed, num_classes=_NUM_CLASSES, width=6, spread=1.5):
    """Gaussian clouds of one covariance, some dimensions much wider."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(0).normal(size=(num_classes, width)) * 2
    labels = rng.integers(0, num_classes, num)
    scales = spread * np.geomspace(0.1, 10, width)
    values = means[labels] + rng.normal(size=(num, width)) * scales + 5
    return closed_form.Features(values, labels)


def _counts(features, num_classes=_NUM_CLASSES):
    return np.bincount(features.labels, minlength=num_classes)


def _logits(head, features):
    return features.values @ head.kernel + head.bias


def _accuracy(head, features):
    return (_logits(head, features).argmax(1) == features.labels).mean()


def test_a_head_is_the_lda_that_validation_chooses():
    train, validation, test = (_clouds(n, n) for n in (300, 200, 201))
    head = closed_form.solve_head(train, validation, _counts(train))
    peers = {
        shrinkage: discriminant_analysis.LinearDiscriminantAnalysis(
            solver="lsqr", shrinkage=shrinkage
        ).fit(train.values, train.labels)
        for shrinkage in closed_form.SHRINKAGES
    }
    scores = {
        s: peer.score(validation.values, validation.labels)
        for s, peer in peers.items()
    }
    assert head.accuracy == pytest.approx(max(scores.values()), abs=0.006)
    assert head.accuracy == _accuracy(head, validation)
    (chosen,) = (s for s in peers if f"shrinkage {s:g}," in head.method)
    same = _logits(head, test).argmax(1) == peers[chosen].predict(test.values)
    assert same.mean() > 0.99


def test_the_temperature_makes_the_logits_as_sure_as_they_are_right():
    train, validation = _clouds(40, 1, spread=4.0), _clouds(400, 2, spread=4.0)
    head = closed_form.solve_head(train, validation, _counts(train))

    def loss(factor):
        logits = factor * _logits(head, validation)
        log_probs = logits - np.logaddexp.reduce(logits, 1)[:, None]
        return -log_probs[np.arange(400), validation.labels].mean()

    assert loss(1.0) < min(loss(2.0), loss(0.5))


def test_logistic_regression_is_a_candidate_where_it_is_wanted():
    rng = np.random.default_rng(3)
    # Far outliers of one class turn LDA's line, not logistic regression's.
    values = np.concatenate([rng.normal(size=(300, 2)), [[900, 40]] * 60])
    labels = (values[:, 0] + 0.2 * values[:, 1] > 0).astype(int)
    train = closed_form.Features(values, labels)
    inner = closed_form.Features(values[:300], labels[:300])
    lda = closed_form.solve_head(train, inner, np.array([150, 150]))
    both = closed_form.solve_head(
        train, inner, np.array([150, 150]), logistic=True
    )
    assert both.method.startswith("logistic regression")
    assert both.accuracy > lda.accuracy + 0.05
    assert both.accuracy == _accuracy(both, inner)


@pytest.mark.parametrize("logistic", [False, True])
@pytest.mark.parametrize(
    ("values", "labels", "num_classes"),
    [
        # One class, equal features, a class without examples, more width
        # than examples.
        (np.ones((5, 3)), [0] * 5, 1),
        (np.ones((6, 3)), [0, 1] * 3, 2),
        (np.eye(4), [0, 1, 3, 3], 5),
        (np.random.default_rng(0).normal(size=(4, 50)), [0, 1, 0, 1], 2),
    ],
)
def test_poor_features_give_a_finite_head(
    values, labels, num_classes, logistic
):
    features = closed_form.Features(values, np.array(labels))
    head = closed_form.solve_head(
        features, features, _counts(features, num_classes), logistic=logistic
    )
    assert np.isfinite(head.kernel).all() and np.isfinite(head.bias).all()
    assert head.kernel.shape == (values.shape[1], num_classes)
    assert head.accuracy >= np.bincount(labels).max() / len(labels) - 1e-9


def test_equal_features_give_equal_heads():
    train, validation = _clouds(60, 1), _clouds(50, 2)
    one, two = (
        closed_form.solve_head(train, validation, _counts(train), logistic=True)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.kernel, two.kernel)
    np.testing.assert_array_equal(one.bias, two.bias)
