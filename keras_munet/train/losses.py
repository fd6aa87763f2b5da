"""Computes losses and the number of correct answers from logits."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def cross_entropy(
    logits: tf.Tensor,
    labels: tf.Tensor,
    smoothing: float = 0.0,
    class_weights: Sequence[float] = (),
) -> tf.Tensor:
    """Returns the cross-entropy of each example, `[n] float32`, nats.

    Args:
      logits: `[n, classes]`.
      labels: `[n] int32`.
      smoothing: the share of each label that all classes have alike (label
        smoothing: Szegedy et al. 2016).
      class_weights: of each class, which an example's loss is multiplied by;
        none for 1.
    """
    logits = tf.cast(logits, tf.float32)
    whole = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    if smoothing:
        of_all = tf.reduce_logsumexp(logits, -1) - tf.reduce_mean(logits, -1)
        whole = (1.0 - smoothing) * whole + smoothing * of_all
    if class_weights:
        whole *= tf.gather(tf.constant(class_weights, tf.float32), labels)
    return whole


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
      labels: `[n] int32`, below 2**24.
      mask: `[n] float32`, 0 where an example is padding.

    Returns:
      `[..., n, classes + 2] float32`: logits, label, mask.
    """
    logits = tf.cast(logits, tf.float32)
    targets = tf.stack([tf.cast(labels, tf.float32), mask], -1)
    shape = tf.concat([tf.shape(logits)[:-1], [2]], 0)
    return tf.concat([logits, tf.broadcast_to(targets, shape)], -1)
