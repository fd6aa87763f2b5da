"""The loss of each kind of task, over what is labelled.

Invariant: an element that is not labelled has no influence on the loss or on
any gradient, for any value (NaN included). A loss is a sum and a weight,
so that the mean over a batch that lies on several devices is exact; a batch
without any label of a task has weight 0.

Segmentation: softmax cross-entropy. Depth: absolute error. Normals: one minus
the product with the true one, of an output that is shortened to 1 at most: for
lengths from 1 the cosine of the angle. Edges: cross-entropy in which an edge's
pixel weighs `EDGE_WEIGHT` others, as they are few. Presence: cross-entropy per
class.
Classification: softmax cross-entropy of the mean over the image.
Detection: focal loss of the middles, absolute errors of the boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_munet import errors
from keras_munet.overparam.experiments import tasks as tasks_lib

# What a pixel on an edge weighs beside one on none.
EDGE_WEIGHT = 5.0
# Length below which a normal is no label.
_LENGTH_MIN = 1e-6
# Exponents of the penalty-reduced focal loss of heatmaps (arXiv 1808.01244,
# equation 1).
_FOCUS = 2
_NEARNESS = 4
# Of an object's box beside its heatmap; boxes are in shares of the image.
_BOX_WEIGHT = 5.0


class TaskLoss(keras.losses.Loss):
    """The mean loss of a task over what is labelled in a batch.

    A batch without a label has a loss of 0. On several replicas it is the mean
    of theirs.
    """

    def __init__(self, task: tasks_lib.Task):
        """Takes the task, whose kind says which loss it has."""
        super().__init__(name=task.name)
        self._task = task

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the loss, `[1] float32`; Keras takes its mean."""
        total, weight = loss(self._task, y_true, y_pred)
        return tf.math.divide_no_nan(total, weight)[tf.newaxis]


def make_losses(tasks: Sequence[tasks_lib.Task]) -> dict[str, TaskLoss]:
    """Returns the loss of each task by its name."""
    return {task.name: TaskLoss(task) for task in tasks}


def loss(
    task: tasks_lib.Task, labels: tf.Tensor, outputs: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the summed loss and the weight of what is labelled.

    Args:
      task: whose output it is.
      labels: `[batch, height, width]`, with channels for normals and
        detection; `[batch, classes]` for presence, `[batch]` for
        classification.
      outputs: `[batch, height, width, num_outputs]`.

    Raises:
      UsageError: labels and outputs are not of one size.
    """
    rank = 1 if task.task_type in tasks_lib.OF_IMAGES else 3
    if not outputs.shape[:rank].is_compatible_with(labels.shape[:rank]):
        raise errors.UsageError(
            f"task {task.name!r} has labels of {tuple(labels.shape)} for "
            f"outputs of {tuple(outputs.shape)}; give images and labels one "
            "number, height and width"
        )
    return _LOSSES[task.task_type](labels, tf.cast(outputs, tf.float32))


def _segmentation(labels, logits):
    labels = tf.cast(labels, tf.int32)
    labelled = labels != tasks_lib.VOID
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.where(labelled, labels, 0), logits=logits
    )
    return _summed(each, labelled)


def _depth(labels, outputs):
    labels = tf.cast(labels, tf.float32)
    labelled = tf.math.is_finite(labels) & (labels > 0)
    # Replaced before the difference: 0 * NaN would be NaN in its gradient.
    apart = outputs[..., 0] - tf.where(labelled, labels, 0.0)
    return _summed(tf.abs(apart), labelled)


def _normals(labels, outputs):
    labels = tf.cast(labels, tf.float32)
    square = tf.reduce_sum(labels**2, -1)
    labelled = tf.math.is_finite(square) & (square > _LENGTH_MIN**2)
    there = tf.where(labelled[..., None], labels, 0.0)
    # Outputs are shortened and never lengthened: a pixel at 0, as ReLU and a
    # first bias of 0 make, would else have a gradient without bound.
    shortened = outputs / tf.maximum(_length(outputs), 1.0)
    cosines = tf.reduce_sum(_unit(there) * shortened, -1)
    return _summed(1.0 - cosines, labelled)


def _edges(labels, outputs):
    labels = tf.cast(labels, tf.int32)
    weights = tf.where(labels > 0, EDGE_WEIGHT, 1.0)
    weights = tf.where(labels != tasks_lib.VOID, weights, 0.0)
    each = _binary(labels > 0, outputs[..., 0])
    return tf.reduce_sum(each * weights), tf.reduce_sum(weights)


def _presence(labels, outputs):
    logits = tf.reduce_mean(outputs, (1, 2))
    labels = tf.cast(labels, tf.int32)
    return _summed(_binary(labels > 0, logits), labels != tasks_lib.VOID)


def _classification(labels, outputs):
    labels = tf.cast(labels, tf.int32)
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.maximum(labels, 0), logits=tf.reduce_mean(outputs, (1, 2))
    )
    return _summed(each, labels != tasks_lib.VOID)


def _detection(labels, outputs):
    """Labels are those of `detection.targets`.

    Divided by the number of objects, so that images without any count where
    others of the batch have some.
    """
    num_classes = outputs.shape[-1] - tasks_lib.NUM_BOX_CHANNELS
    heat = labels[..., :num_classes]
    boxes = labels[..., num_classes:-1]
    # One over the object's pixels.
    shares = labels[..., -1]
    logits = outputs[..., :num_classes]
    chances = tf.sigmoid(logits)
    positive = _binary(heat >= 1, logits) * (1 - chances) ** _FOCUS
    nearness = (1 - tf.clip_by_value(heat, 0.0, 1.0)) ** _NEARNESS
    negative = _binary(heat >= 1, logits) * nearness * chances**_FOCUS
    each = tf.where(heat >= 1, positive, negative)
    total, _ = _summed(each, heat != tasks_lib.VOID)
    apart = tf.reduce_sum(tf.abs(outputs[..., num_classes:] - boxes), -1)
    total += _BOX_WEIGHT * tf.reduce_sum(apart * shares)
    return total, tf.reduce_sum(shares)


_LOSSES: dict[str, Callable] = {
    tasks_lib.SEGMENTATION: _segmentation,
    tasks_lib.DEPTH: _depth,
    tasks_lib.NORMALS: _normals,
    tasks_lib.EDGES: _edges,
    tasks_lib.PRESENCE: _presence,
    tasks_lib.DETECTION: _detection,
    tasks_lib.CLASSIFICATION: _classification,
}


def _binary(is_positive, logits):
    """Returns the cross-entropy of each logit with a truth value."""
    return tf.nn.sigmoid_cross_entropy_with_logits(
        tf.cast(is_positive, tf.float32), logits
    )


def _unit(vectors):
    return tf.math.l2_normalize(vectors, -1, _LENGTH_MIN**2)


def _length(vectors):
    """Returns lengths, of a gradient that is finite at 0."""
    square = tf.reduce_sum(vectors**2, -1, keepdims=True)
    return tf.sqrt(tf.maximum(square, _LENGTH_MIN**2))


def _summed(each, labelled):
    """Returns the sum of what is labelled and how much that is."""
    total = tf.reduce_sum(tf.where(labelled, each, 0.0))
    return total, tf.reduce_sum(tf.cast(labelled, tf.float32))
