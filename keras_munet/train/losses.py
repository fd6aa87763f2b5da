"""Computes losses and the number of correct answers from logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from typing import TypeAlias

import tensorflow as tf

from keras_munet.core import target_types

# Of a class that does not exist: its exponential is 0, and so is its gradient.
_NO_LOGIT = -1e30


def of_real_classes(logits: tf.Tensor, num_classes: tf.Tensor) -> tf.Tensor:
    """Returns logits whose classes beyond `num_classes` are never chosen.

    Args:
      logits: `[n, classes]`.
      num_classes: int32 scalar, at most as many as there are logits.
    """
    return tf.where(_is_real(logits, num_classes), logits, _NO_LOGIT)


class MixedLabels(NamedTuple):
    """The labels of images that are mixed of two.

    Attributes:
      own: of the image, as of `cross_entropy`.
      partner: of the image that it is mixed with.
      shares: `[n] float32`, how much of it is the partner.
    """

    own: tf.Tensor
    partner: tf.Tensor
    shares: tf.Tensor


Labels: TypeAlias = tf.Tensor | MixedLabels


def training_loss(
    logits: tf.Tensor, labels: Labels, *options: Any
) -> tf.Tensor:
    """Returns the loss of each example, `[n] float32`, nats.

    Of a mixed image it is that of its own label and that of its partner's,
    in their shares.

    Args:
      logits: `[n, classes]`.
      labels: of the images.
      *options: what else `cross_entropy` takes.
    """
    if not isinstance(labels, MixedLabels):
        return cross_entropy(logits, labels, *options)
    own, partner = (
        cross_entropy(logits, part, *options)
        for part in (labels.own, labels.partner)
    )
    return (1.0 - labels.shares) * own + labels.shares * partner


def cross_entropy(
    logits: tf.Tensor,
    labels: tf.Tensor,
    smoothing: float | tf.Tensor = 0.0,
    class_weights: Sequence[float] | tf.Tensor = (),
    num_classes: tf.Tensor | None = None,
) -> tf.Tensor:
    """Returns the cross-entropy of each example, `[n] float32`, nats.

    Where an image has any number of labels, it is the sum of the classes'
    binary cross-entropies, so that an error in one class has about the same
    gradient as with one label; class weights have no part in it.

    Args:
      logits: `[n, classes]`.
      labels: `[n] int32`, or `[n, classes] int32` of 0 and 1.
      smoothing: the share of each label that all classes have alike (label
        smoothing: Szegedy et al. 2016); of 0 and 1 the share that both have.
      class_weights: of each class, which an example's loss is multiplied by;
        none for 1.
      num_classes: int32 scalar, of the classes that exist; None for all.
    """
    logits = tf.cast(logits, tf.float32)
    if target_types.of_labels(labels) is target_types.MULTI_LABEL:
        return _binary(logits, labels, smoothing, num_classes)
    if num_classes is not None:
        logits = of_real_classes(logits, num_classes)
    whole = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    if tf.is_tensor(smoothing) or smoothing:
        mean = _mean(logits, num_classes)
        of_all = tf.reduce_logsumexp(logits, -1) - mean
        whole = (1.0 - smoothing) * whole + smoothing * of_all
    if tf.is_tensor(class_weights) or len(class_weights):
        whole *= tf.gather(tf.cast(class_weights, tf.float32), labels)
    return whole


def _binary(
    logits: tf.Tensor,
    labels: tf.Tensor,
    smoothing: float | tf.Tensor,
    num_classes: tf.Tensor | None,
) -> tf.Tensor:
    """Returns the sums of binary cross-entropies; see `cross_entropy`."""
    targets = tf.cast(labels, tf.float32)
    targets = (1.0 - smoothing) * targets + 0.5 * smoothing
    losses = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
    if num_classes is not None:
        losses = tf.where(_is_real(logits, num_classes), losses, 0.0)
    return tf.reduce_sum(losses, -1)


def _mean(logits: tf.Tensor, num_classes: tf.Tensor | None) -> tf.Tensor:
    """Returns the mean logit over the classes that exist, `[n]`."""
    if num_classes is None:
        return tf.reduce_mean(logits, -1)
    real = tf.where(_is_real(logits, num_classes), logits, 0.0)
    return tf.reduce_sum(real, -1) / tf.cast(num_classes, tf.float32)


def _is_real(logits: tf.Tensor, num_classes: tf.Tensor) -> tf.Tensor:
    return tf.range(logits.shape[-1]) < num_classes


def num_correct(
    logits: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor
) -> tf.Tensor:
    """Counts right answers.

    Args:
      logits: `[..., n, classes]`.
      labels: `[n] int32`.
      mask: `[n] float32`, 0 where an example is padding.

    Returns:
      `[...] float32`, or NaN where a logit is not finite.
    """
    logits = tf.cast(logits, tf.float32)
    hits = tf.cast(tf.argmax(logits, -1, tf.int32) == labels, tf.float32)
    # 0 * x is NaN where x is not finite: a diverged child never wins.
    poison = 0.0 * tf.reduce_sum(logits, [-2, -1])
    return tf.reduce_sum(hits * mask, -1) + poison


def scored_outputs(
    logits: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor
) -> tf.Tensor:
    """Returns what a quality is computed of, as one tensor.

    Args:
      logits: `[..., n, classes]`.
      labels: `[n] int32`, below 2**24, or `[n, classes] int32`.
      mask: `[n] float32`, 0 where an example is padding.

    Returns:
      `[..., n, classes + 2] float32`: logits, label, mask; or `[..., n, 2 *
      classes + 1]` with a label for each class.
    """
    logits = tf.cast(logits, tf.float32)
    labels = tf.cast(labels, tf.float32)
    if target_types.of_labels(labels) is target_types.SINGLE_LABEL:
        labels = labels[:, tf.newaxis]
    targets = tf.concat([labels, mask[:, tf.newaxis]], -1)
    shape = tf.concat([tf.shape(logits)[:-1], tf.shape(targets)[-1:]], 0)
    return tf.concat([logits, tf.broadcast_to(targets, shape)], -1)
