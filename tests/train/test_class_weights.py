"""Weights of classes in training: the same loss in every engine."""

from __future__ import annotations

import dataclasses

import coordinator_samples
import keras
import numpy as np
import pytest
import tensorflow as tf
import training_samples as samples

from keras_munet.train import closed_form
from keras_munet.train import losses

_WEIGHTS = '{"b":5.0}'


def test_weighted_losses_are_those_of_keras():
    logits = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    labels = np.array([0, 2, 1, 1, 2, 0], np.int32)
    weights = (0.5, 4.0, 1.5)
    of_keras = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="none"
    )
    found = losses.cross_entropy(
        tf.constant(logits), tf.constant(labels), 0.0, weights
    )
    expected = of_keras(labels, logits, sample_weight=np.take(weights, labels))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    smoothed = losses.cross_entropy(
        tf.constant(logits), tf.constant(labels), 0.2, weights
    )
    plain = losses.cross_entropy(tf.constant(logits), tf.constant(labels), 0.2)
    np.testing.assert_allclose(
        smoothed, plain * np.take(weights, labels), rtol=1e-5
    )


def _children():
    return [
        samples.job(0, 1),
        samples.job(1, 1, ("embedding",), hparams={"opt_label_smoothing": 0.1}),
    ]


@pytest.mark.slow
def test_layers_and_program_train_alike():
    layers, program = (
        samples.train(
            _children(), samples.trainer(engine=engine, class_weights=_WEIGHTS)
        )
        for engine in ("layerwise", "program")
    )
    for first, second in zip(layers, program, strict=True):
        np.testing.assert_allclose(first.losses, second.losses, atol=1e-5)
        samples.assert_close(first, second, atol=1e-5)
    for first, plain in zip(layers, samples.train(_children()), strict=True):
        assert first.losses != plain.losses


def test_weights_of_one_task_are_not_those_of_the_next():
    made = samples.trainer(class_weights="auto")
    (first,) = samples.train([samples.job(0, 1)], made)
    other = samples.data()
    labels = np.where(other.train.labels == 2, 0, other.train.labels)
    samples.train(
        [samples.job(0, 1)],
        made,
        task=dataclasses.replace(
            other,
            name="other",
            train=dataclasses.replace(other.train, labels=labels),
        ),
    )
    (again,) = samples.train([samples.job(0, 1)], made)
    assert first.losses == again.losses


def test_a_child_that_is_sent_away_has_the_weights():
    jobs = [samples.job(0, 1)]
    (here,) = samples.train(jobs, samples.trainer(class_weights=_WEIGHTS))
    (away,) = samples.train(
        jobs, coordinator_samples.trainer(class_weights=_WEIGHTS)
    )
    np.testing.assert_allclose(here.losses, away.losses, atol=1e-5)


def _overlapping(num, seed):
    """Two clouds, nine tenths of one of them."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(num) < 0.1).astype(int)
    return closed_form.Features(
        rng.normal(size=(num, 3)) + 1.2 * labels[:, None], labels
    )


@pytest.mark.parametrize("logistic", [False, True])
def test_a_solved_head_finds_the_rare_class_where_it_counts(logistic):
    train, validation, test = (_overlapping(n, n) for n in (900, 901, 902))
    counts = np.bincount(train.labels)

    def recalls(**options):
        head = closed_form.solve_head(
            train, validation, counts, logistic=logistic, **options
        )
        guess = (test.values @ head.kernel + head.bias).argmax(1)
        return head, [(guess[test.labels == c] == c).mean() for c in (0, 1)]

    plain, before = recalls()
    weighted, after = recalls(
        quality="balanced_accuracy",
        class_weights=tuple(counts.sum() / (2 * counts)),
    )
    assert after[1] > before[1] + 0.2
    assert np.mean(after) > np.mean(before) + 0.08
    assert plain.quality == plain.accuracy
    assert weighted.quality > weighted.accuracy - 0.1
    assert weighted.quality != weighted.accuracy


def test_a_head_that_is_never_wrong_is_not_certain():
    noise = np.random.default_rng(0).normal(size=(20, 2))
    features = closed_form.Features(
        10 * np.eye(2)[[0, 1] * 10] + noise, np.array([0, 1] * 10)
    )
    head = closed_form.solve_head(features, features, np.array([10, 10]))
    logits = features.values @ head.kernel + head.bias
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert head.accuracy == 1
    assert 0.8 < probs.max(1).mean() < 0.999
