"""Combines the losses of several tasks into one step of shared weights.

`Uncertainty` learns a weight per task (Kendall, Gal and Cipolla 2018, arXiv
1705.07115); `PCGrad` takes from each task's gradient what goes against another
task's (Yu et al. 2020, arXiv 2001.06782, algorithm 1). The plain sum is
`combiners.Equal`.

Invariant: both are functions of the losses or gradients of the whole batch and
of the step's seed, so that they are the same on any number of devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_munet.overparam import combiners

# A gradient shorter than this has no direction to keep away from.
_SQUARE_MIN = 1e-24


class Uncertainty(combiners.Combiner):
    """Sums exp(-s) * loss + s over tasks, with a trained s per task.

    The paper's halves before a regression's terms are left out: they move s by
    a constant.
    """

    def __init__(self):
        self._log_variances: dict[str, keras.Variable] = {}

    def build(self, tasks: Sequence[str]) -> list[keras.Variable]:
        """Returns the trained s of each task, 0 at first."""
        self._log_variances = {
            task: keras.Variable(
                0.0, dtype="float32", name=f"log_variance_{task}"
            )
            for task in tasks
        }
        return list(self._log_variances.values())

    def total(self, losses: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns the weighted sum, a scalar."""
        return tf.add_n(
            [
                tf.exp(-self._log_variances[task].value) * loss
                + self._log_variances[task].value
                for task, loss in losses.items()
            ]
        )


class PCGrad(combiners.Combiner):
    """Sums the tasks' gradients without what goes against other tasks'."""

    per_task = True

    def combine(
        self,
        gradients: Mapping[str, Sequence[tf.Tensor | None]],
        seed: tf.Tensor,
    ) -> list[tf.Tensor]:
        """Returns one gradient per shared variable.

        Args:
          gradients: per task, of each shared variable; None where the task
            does not depend on it, which counts as 0.
          seed: `[2] int32`; the others are taken in an order drawn from it.
        """
        tasks = sorted(gradients)
        columns = list(zip(*(gradients[t] for t in tasks), strict=True))
        # What no task reaches is not trained; some task has each of these.
        likes = [next(g for g in column if g is not None) for column in columns]
        flat = [
            [
                tf.reshape(tf.zeros_like(like) if g is None else g, [-1])
                for g, like in zip(gradients[t], likes, strict=True)
            ]
            for t in tasks
        ]
        total = projected_sum(
            tf.stack([tf.concat(parts, 0) for parts in flat]), seed
        )
        parts = tf.split(total, [like.shape.num_elements() for like in likes])
        return [
            tf.reshape(part, like.shape)
            for part, like in zip(parts, likes, strict=True)
        ]


def projected_sum(gradients: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Returns the sum of gradients projected off those they conflict with.

    Args:
      gradients: `[num_tasks, size] float32`.
      seed: `[2] int32`, of the orders.

    Returns:
      `[size] float32`.
    """
    num = gradients.shape[0]
    products = tf.matmul(gradients, gradients, transpose_b=True)
    # Row i: the part of each gradient in task i's projected one. Projections
    # are then arithmetic on these few numbers, not on whole gradients.
    total = tf.zeros([num])
    for i in range(num):
        order = tf.argsort(
            tf.random.stateless_uniform([num], seed + tf.constant([0, i])),
            stable=True,
        )
        parts = tf.one_hot(i, num)
        for position in range(num):
            j = order[position]
            against = tf.reduce_sum(parts * products[j])
            square = products[j, j]
            conflicts = (against < 0) & (j != i) & (square > _SQUARE_MIN)
            share = tf.where(conflicts, against / square, 0.0)
            parts -= share * tf.one_hot(j, num)
        total += parts
    return tf.linalg.matvec(gradients, total, transpose_a=True)
