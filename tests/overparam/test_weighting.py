"""Uncertainty weights and projected gradients, by hand and by definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_munet.overparam import weighting


def _projected(gradients: np.ndarray, orders) -> np.ndarray:
    """The published algorithm, on whole gradients, with given orders."""
    total = np.zeros(gradients.shape[1])
    for i, order in enumerate(orders):
        own = gradients[i].copy()
        for j in order:
            against = own @ gradients[j]
            if j != i and against < 0:
                own -= against / (gradients[j] @ gradients[j]) * gradients[j]
        total += own
    return total


def _sum(gradients, seed=(1, 2)) -> np.ndarray:
    return weighting.projected_sum(
        tf.constant(gradients, tf.float32), tf.constant(seed)
    ).numpy()


def test_gradients_that_agree_are_summed():
    np.testing.assert_allclose(_sum([[1, 2], [3, -1]]), [4, 1], rtol=1e-6)


def test_two_that_conflict_lose_what_goes_against_the_other():
    gradients = np.array([[1.0, 0], [-1, 1]])
    # (1, 0) off (-1, 1) is (0.5, 0.5); (-1, 1) off (1, 0) is (0, 1).
    np.testing.assert_allclose(_sum(gradients), [0.5, 1.5], atol=1e-6)


@pytest.mark.parametrize("seed", [(0, 0), (5, 1), (9, 9)])
def test_the_sum_is_the_published_one_for_some_order(seed):
    gradients = np.random.default_rng(sum(seed)).normal(size=(3, 4))
    gradients[1] -= 2 * gradients[0]
    found = _sum(gradients, seed)
    orders = list(itertools.permutations(range(3)))
    assert any(
        np.allclose(found, _projected(gradients, chosen), atol=1e-4)
        for chosen in itertools.product(orders, repeat=3)
    )


def test_a_gradient_of_zero_changes_nothing():
    np.testing.assert_allclose(_sum([[1, -1], [0, 0]]), [1, -1], atol=1e-6)


def test_a_variable_that_one_task_does_not_reach_keeps_the_others_gradient():
    combined = weighting.PCGrad().combine(
        {
            "a": [tf.constant([[1.0, 0]]), tf.constant([3.0])],
            "b": [tf.constant([[-1.0, 1]]), None],
        },
        tf.constant([0, 0]),
    )
    assert combined[0].shape == (1, 2) and combined[1].shape == (1,)
    # a's gradient (1, 0, 3) loses a half of (-1, 1, 0)'s negative; b's loses
    # a tenth of a's.
    np.testing.assert_allclose(combined[0], [[1 - 0.5 - 0.9, 1.5]], atol=1e-6)
    np.testing.assert_allclose(combined[1], [3.3], atol=1e-6)


def test_uncertainty_weights_by_its_trained_variances():
    combiner = weighting.Uncertainty()
    variables = combiner.build(("a", "b"))
    losses = {"a": tf.constant(2.0), "b": tf.constant(0.5)}
    assert float(combiner.total(losses)) == pytest.approx(2.5)
    variables[0].assign(np.log(2.0))
    assert float(combiner.total(losses)) == pytest.approx(1 + np.log(2) + 0.5)
    with tf.GradientTape() as tape:
        total = combiner.total(losses)
    slopes = tape.gradient(total, [v.value for v in variables])
    # At the loss itself, 2, a variance would stand still; b's falls.
    np.testing.assert_allclose(slopes, [0, 0.5], atol=1e-6)
