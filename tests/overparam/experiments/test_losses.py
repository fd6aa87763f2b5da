"""Losses by hand, and what is not labelled has no influence."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from keras_munet import errors
from keras_munet.overparam.experiments import losses
from keras_munet.overparam.experiments import tasks

_GRID = (2, 3, 4)
_TASKS = {
    "segmentation": tasks.Task("t", tasks.SEGMENTATION, 3),
    "depth": tasks.Task("t", tasks.DEPTH, 1),
    "normals": tasks.Task("t", tasks.NORMALS, 3),
    "edges": tasks.Task("t", tasks.EDGES, 1),
    "presence": tasks.Task("t", tasks.PRESENCE, 3),
    "classification": tasks.Task("t", tasks.CLASSIFICATION, 3),
}


def _labels(kind: str, generator: np.random.Generator) -> np.ndarray:
    if kind == "segmentation":
        return generator.integers(0, 3, _GRID)
    if kind == "edges":
        return generator.integers(0, 2, _GRID)
    if kind == "presence":
        return generator.integers(0, 2, (2, 3))
    if kind == "classification":
        return generator.integers(0, 3, 2)
    if kind == "depth":
        return generator.uniform(1, 4, _GRID)
    return generator.normal(size=(*_GRID, 3))


def _void(kind: str):
    return {"depth": np.nan, "normals": 0}.get(kind, tasks.VOID)


def _loss_and_gradient(task, labels, outputs):
    given = tf.constant(outputs, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(given)
        total, weight = losses.loss(task, tf.constant(labels), given)
        mean = tf.math.divide_no_nan(total, weight)
    return float(mean), float(weight), tape.gradient(mean, given).numpy()


def _mean(task, labels, outputs):
    return _loss_and_gradient(task, np.array(labels), np.array(outputs))[0]


def test_each_loss_by_hand():
    logits = [[[[0.0, np.log(3)], [0, 0]]]]
    two = tasks.Task("t", tasks.SEGMENTATION, 2)
    assert _mean(two, [[[1, 0]]], logits) == pytest.approx(
        -(np.log(3 / 4) + np.log(1 / 2)) / 2
    )
    assert _mean(
        _TASKS["depth"], [[[1.0, 4]]], [[[[1.5], [3]]]]
    ) == pytest.approx(0.75)
    # 60 degrees, and lengths do not matter.
    assert _mean(
        _TASKS["normals"],
        [[[[0.0, 0, 2]]]],
        [[[[3 * np.sqrt(0.75), 0, 1.5]]]],
    ) == pytest.approx(0.5, abs=1e-6)
    # An edge weighs 5 others.
    assert _mean(
        _TASKS["edges"], [[[1, 0]]], [[[[np.log(3)], [0]]]]
    ) == pytest.approx((5 * np.log(4 / 3) + np.log(2)) / 6)
    # The mean over pixels is the logit of the image.
    assert _mean(
        tasks.Task("t", tasks.PRESENCE, 1),
        [[1]],
        [[[[np.log(9)], [0]]]],
    ) == pytest.approx(np.log(4 / 3))


@pytest.mark.parametrize("kind", list(_TASKS))
def test_a_loss_does_not_see_what_is_not_labelled(kind):
    generator = np.random.default_rng(0)
    task = _TASKS[kind]
    labels = _labels(kind, generator)
    outputs = generator.normal(size=(*_GRID, task.num_outputs))
    labels[(0, 0)[: labels.ndim]] = _void(kind)
    mean, _, gradient = _loss_and_gradient(task, labels, outputs)
    assert np.isfinite(mean) and mean > 0
    assert np.isfinite(gradient).all() and gradient.any()
    if kind in ("presence", "classification"):
        assert not gradient[0, ..., 0].any()
        assert (kind == "presence") == gradient[0].any()
        return
    assert not gradient[0, 0].any()
    outputs[0, 0] += 100
    assert _loss_and_gradient(task, labels, outputs)[0] == mean


@pytest.mark.parametrize("kind", list(_TASKS))
def test_a_batch_without_labels_has_no_weight_and_no_gradient(kind):
    generator = np.random.default_rng(0)
    task = _TASKS[kind]
    labels = np.full_like(_labels(kind, generator), _void(kind))
    outputs = generator.normal(size=(*_GRID, task.num_outputs))
    mean, weight, gradient = _loss_and_gradient(task, labels, outputs)
    assert mean == weight == 0
    assert not gradient.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_depths_that_are_no_depth_are_masked(value):
    labels = np.array([[[2.0, value]]])
    mean, weight, gradient = _loss_and_gradient(
        _TASKS["depth"], labels, np.array([[[[3.0], [9.0]]]])
    )
    assert (mean, weight) == (1, 1)
    np.testing.assert_array_equal(gradient.ravel(), [1, 0])


def test_normals_that_are_nan_are_masked():
    labels = np.array([[[[0, 0, 1.0], [np.nan, 0, 1]]]])
    outputs = np.array([[[[0, 0, 1.0], [1, 0, 0]]]])
    mean, weight, gradient = _loss_and_gradient(
        _TASKS["normals"], labels, outputs
    )
    assert mean == pytest.approx(0, abs=1e-6) and weight == 1
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("length", [0.0, 1e-3, 0.5, 2.0])
def test_the_gradient_of_a_predicted_normal_is_bounded(length):
    labels = np.array([[[[0.0, 0, 1]]]])
    outputs = np.array([[[[length, 0, 0]]]])
    _, _, gradient = _loss_and_gradient(_TASKS["normals"], labels, outputs)
    # It pulls towards the label whatever the length.
    np.testing.assert_allclose(
        gradient.ravel(), [0, 0, -1 / max(length, 1)], atol=1e-6
    )


def test_labels_of_another_size_are_refused():
    with pytest.raises(errors.UsageError, match="one number, height and width"):
        losses.loss(
            _TASKS["depth"], tf.zeros((2, 4, 4)), tf.zeros((2, 8, 8, 1))
        )
