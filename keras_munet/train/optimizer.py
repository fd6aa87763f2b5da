"""Clipped SGD with momentum, its hyperparameters as tensors.

Invariant: nothing here depends on the value of a hyperparameter, so children
that differ only in these share one compiled step. The momentum is kept in
bfloat16 between steps and used in float32 within one (section 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

CLIP_NORM = 1.0


class Rates(NamedTuple):
    """Optimizer hyperparameters of one child at one step; float32 scalars.

    Attributes:
      learning_rate: of this step.
      momentum: decay of the accumulator.
      nesterov: 1.0 with the Nesterov update, else 0.0.
    """

    learning_rate: tf.Tensor
    momentum: tf.Tensor
    nesterov: tf.Tensor


def squared_norm(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the sum of squares over all gradients, a float32 scalar."""
    return 2.0 * tf.add_n([tf.nn.l2_loss(gradient) for gradient in gradients])


def clip_scale(squared_norms: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns min(1, CLIP_NORM / global norm), a float32 scalar.

    Args:
      squared_norms: of all parts of one child's gradients.
    """
    norm = tf.sqrt(tf.add_n(squared_norms))
    return CLIP_NORM / tf.maximum(norm, CLIP_NORM)


def update(
    weight: tf.Tensor,
    momentum: tf.Tensor,
    gradient: tf.Tensor,
    scale: tf.Tensor,
    rates: Rates,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the next (weight float32, momentum bfloat16).

    trace = momentum * decay + g; the step is trace, or g + decay * trace
    with Nesterov (Sutskever et al. 2013, as SGD is commonly implemented).
    """
    gradient = gradient * scale
    trace = gradient + rates.momentum * tf.cast(momentum, tf.float32)
    # nesterov is 0 or 1: both rules in one formula, without a branch.
    step = trace + rates.nesterov * (gradient + (rates.momentum - 1.0) * trace)
    weight = weight - rates.learning_rate * step
    return weight, tf.cast(trace, tf.bfloat16)


def update_all(
    weights: Sequence[tf.Tensor],
    momenta: Sequence[tf.Tensor],
    gradients: Sequence[tf.Tensor],
    scale: tf.Tensor,
    rates: tf.Tensor,
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Returns the next weights and momenta of one component.

    Args:
      weights: float32 tensors.
      momenta: bfloat16 tensors of the same shapes.
      gradients: float32 tensors of the same shapes.
      scale: the child's `clip_scale`.
      rates: `[3] float32`, in the order of `Rates`.
    """
    rates = Rates(*tf.unstack(rates))
    pairs = [
        update(weight, momentum, gradient, scale, rates)
        for weight, momentum, gradient in zip(
            weights, momenta, gradients, strict=True
        )
    ]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _compiled_apart(function):
    # Never inlined, for the reason `vit.functions.apart` gives.
    return tf.function(
        function, autograph=False, experimental_attributes={"_noinline": True}
    )


compiled_squared_norm = _compiled_apart(squared_norm)
compiled_update_all = _compiled_apart(update_all)
