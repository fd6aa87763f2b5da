"""From the losses of several tasks to one update of what they share.

Invariant: a combiner gets the losses and gradients of the whole batch,
for any number of replicas, and gives one gradient per shared variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

import keras
import tensorflow as tf

Gradients = Mapping[str, Sequence[tf.Tensor | None]]


class Combiner:
    """Weighs losses; subclasses may combine gradients instead.

    Attributes:
      per_task: whether `combine` is used, which costs a backward pass for
        each task, and not `total`.
    """

    per_task = False

    def build(self, tasks: Sequence[str]) -> list[keras.Variable]:
        """Returns the variables that it has of its own.

        They are trained with the shared ones, with the gradient of `total`,
        and are part of a checkpoint. Called once, in the strategy's scope.
        """
        del tasks
        return []

    def total(self, losses: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns what the shared variables are trained to make small.

        Args:
          losses: task -> its mean loss over the global batch, float32 scalar.
        """
        return tf.add_n(list(losses.values()))

    def combine(
        self, gradients: Gradients, seed: tf.Tensor
    ) -> Sequence[tf.Tensor]:
        """Returns one gradient per shared variable.

        Args:
          gradients: task -> the gradient of its loss for each of the shared
            variables, in one order; None where the task does not reach it.
          seed: `[2] int32`, for draws; another in every step.
        """
        raise NotImplementedError


class Equal(Combiner):
    """The plain sum of the losses."""
