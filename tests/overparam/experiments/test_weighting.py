"""Uncertainty weights and projected gradients, by hand and by definition."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_munet.overparam.experiments import weighting


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


def _linear(kind, loss_of_b):
    """Returns two linear outputs of one input under a combining model."""
    image = keras.Input((1,))
    shared = keras.layers.Dense(2, use_bias=False, name="shared")(image)
    outputs = {
        "a": keras.layers.Dense(1, use_bias=False, name="a_head")(shared),
        "b": keras.layers.Dense(1, use_bias=False, name="b_head")(shared),
    }
    model = kind(image, outputs)
    model.get_layer("shared").set_weights([np.array([[1.0, 1.0]])])
    model.get_layer("a_head").set_weights([np.array([[1.0], [0.0]])])
    model.get_layer("b_head").set_weights([np.array([[-1.0], [1.0]])])
    model.compile(
        keras.optimizers.SGD(0.1),
        {"a": _Mean("a"), "b": _Mean("b", loss_of_b)},
    )
    labels = {name: np.zeros([4, 1], np.float32) for name in outputs}
    return model, np.ones([4, 1], np.float32), labels


class _Mean(keras.losses.Loss):
    """A loss whose gradient is known: the mean output, times a factor."""

    def __init__(self, name, factor=1.0):
        super().__init__(name=name)
        self.factor = factor

    def call(self, y_true, y_pred):
        return self.factor * y_pred


def test_shared_weights_move_along_the_projected_sum():
    model, x, y = _linear(weighting.PCGradModel, 1.0)
    before = model.get_layer("shared").kernel.numpy()
    model.fit(x, y, batch_size=4, verbose=0)
    after = model.get_layer("shared").kernel.numpy()
    # All weights: a's gradient is (1, 0; 1, 1; 0, 0), b's (-1, 1; 0, 0; 1, 1),
    # kernel, a's head, b's head. Their product is -1.
    gradients = np.array([[1, 0, 1, 1, 0, 0], [-1, 1, 0, 0, 1, 1]])
    np.testing.assert_allclose(
        after, before - 0.1 * _sum(gradients)[:2], atol=1e-6
    )


def test_a_head_that_one_task_alone_reads_moves_by_both_projections():
    model, x, y = _linear(weighting.PCGradModel, 0.0)
    model.fit(x, y, batch_size=4, verbose=0)
    # A task whose gradient is zero takes nothing away.
    np.testing.assert_allclose(
        model.get_layer("a_head").kernel, [[0.9], [-0.1]], atol=1e-6
    )


def test_uncertainty_weights_by_its_trained_variances():
    model, x, y = _linear(weighting.UncertaintyModel, 1.0)
    outputs = model(x)
    y_pred = {"a": outputs["a"] + 1.0, "b": outputs["b"] + 0.5}

    def total():
        return float(model.compute_loss(y=y, y_pred=y_pred))

    # Losses of 2 and 0.5.
    assert total() == pytest.approx(2.5)
    model.log_variances.assign([np.log(2.0), 0.0])
    assert total() == pytest.approx(1 + np.log(2) + 0.5)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(y=y, y_pred=y_pred)
    slopes = tape.gradient(loss, model.log_variances.value)
    # At the loss itself, 2, a variance would stand still; b's falls.
    np.testing.assert_allclose(slopes, [0, 0.5], atol=1e-6)
    model.fit(x, y, batch_size=4, verbose=0)
    assert not np.allclose(model.log_variances, [np.log(2.0), 0.0])
