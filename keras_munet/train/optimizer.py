"""Clipped SGD with momentum, and AdamW, their hyperparameters as tensors.

Invariant: nothing here depends on the value of a hyperparameter, so children
that differ only in these share one compiled step. The momentum is kept in
bfloat16 between steps and used in float32 within one (section 2); AdamW's
second moment is float32 and begins with every child as the square of what the
momentum is then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

CLIP_NORM = 1.0
# Decay of AdamW's second moment; short trainings forget faster than 0.999.
SECOND_DECAY = 0.99
_EPSILON = 1e-8


class Rates(NamedTuple):
    """Optimizer hyperparameters of one child at one step; float32 scalars.

    Attributes:
      learning_rate: of this step.
      momentum: decay of the accumulator.
      nesterov: 1.0 with the Nesterov update, else 0.0; of AdamW the weight
        decay.
    """

    learning_rate: tf.Tensor
    momentum: tf.Tensor
    nesterov: tf.Tensor


def half_square(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns half the square of the global norm, a float32 scalar.

    Args:
      gradients: float32, all parts of one child's.
    """
    return tf.add_n([tf.nn.l2_loss(part) for part in gradients])


def clip_scale(half_square: tf.Tensor) -> tf.Tensor:
    """Returns min(1, CLIP_NORM / global norm), a float32 scalar.

    Args:
      half_square: of all of one child's gradients.
    """
    return CLIP_NORM / tf.maximum(tf.sqrt(2.0 * half_square), CLIP_NORM)


def update(
    weight: tf.Tensor,
    momentum: tf.Tensor,
    gradient: tf.Tensor,
    scale: tf.Tensor,
    rates: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the next (weight float32, momentum bfloat16).

    trace = momentum * decay + g; the step is trace, or g + decay * trace
    with Nesterov (Sutskever et al. 2013, as SGD is commonly implemented).

    Args:
      weight: float32, of any shape.
      momentum: bfloat16, of the same shape.
      gradient: float32, of the same shape.
      scale: the child's `clip_scale`.
      rates: `[3] float32`, in the order of `Rates`.
    """
    rate, decay, nesterov = Rates(*tf.unstack(rates))
    gradient = gradient * scale
    trace = gradient + decay * tf.cast(momentum, tf.float32)
    # nesterov is 0 or 1: both rules in one formula, without a branch.
    step = trace + nesterov * (gradient + (decay - 1.0) * trace)
    return weight - rate * step, tf.cast(trace, tf.bfloat16)


def adamw_update(
    weight: tf.Tensor,
    momentum: tf.Tensor,
    second: tf.Tensor,
    gradient: tf.Tensor,
    scale: tf.Tensor,
    rates: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the next (weight float32, momentum bfloat16, second float32).

    Adam with decoupled weight decay (Loshchilov and Hutter 2019). The rate
    holds the correction of the second moment, see `schedules.rate_table`; the
    momentum is not corrected, as a clone's goes on from its parent's.

    Args:
      weight: float32, of any shape.
      momentum: bfloat16, of the same shape.
      second: float32, of the same shape: the mean square of the gradient.
      gradient: float32, of the same shape.
      scale: the child's `clip_scale`.
      rates: `[3] float32`, in the order of `Rates`.
    """
    rate, decay, weight_decay = Rates(*tf.unstack(rates))
    gradient = gradient * scale
    trace = decay * tf.cast(momentum, tf.float32) + (1.0 - decay) * gradient
    second = SECOND_DECAY * second + (1.0 - SECOND_DECAY) * gradient * gradient
    step = trace / (tf.sqrt(second) + _EPSILON) + weight_decay * weight
    return weight - rate * step, tf.cast(trace, tf.bfloat16), second
