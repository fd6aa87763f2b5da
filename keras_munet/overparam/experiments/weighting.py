"""Baselines that combine the losses of several tasks into one step.

`UncertaintyModel` learns a weight per task (Kendall, Gal and Cipolla 2018,
arXiv 1705.07115); `PCGradModel` takes from each task's gradient what goes
against another task's (Yu et al. 2020, arXiv 2001.06782, algorithm 1). Both
take a dictionary of losses by output.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

# A gradient shorter than this has no direction to keep away from.
_SQUARE_MIN = 1e-24


class UncertaintyModel(keras.Model):
    """Sums exp(-s) * loss + s over tasks, with a trained s per task.

    The paper's halves before a regression's terms are left out: they move s by
    a constant.
    """

    def compile(self, optimizer: Any, loss: Any, **kwargs: Any) -> None:
        """Configures training; see `keras.Model.compile`."""
        self._task_losses = dict(loss)
        self.log_variances = self.add_weight(
            shape=[len(loss)], initializer="zeros", name="log_variances"
        )
        super().compile(optimizer, loss, **kwargs)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Returns the weighted sum of the losses."""
        del x, sample_weight, training
        losses = tf.stack(
            [loss(y[t], y_pred[t]) for t, loss in self._task_losses.items()]
        )
        logs = tf.convert_to_tensor(self.log_variances)
        return tf.reduce_sum(tf.exp(-logs) * losses + logs)


class PCGradModel(keras.Model):
    """Sums the tasks' gradients without what goes against other tasks'."""

    def compile(self, optimizer: Any, loss: Any, **kwargs: Any) -> None:
        """Configures training; see `keras.Model.compile`."""
        self._task_losses = dict(loss)
        super().compile(optimizer, loss, **kwargs)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Trains on one batch; returns the metrics."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        variables = [v.value for v in self.trainable_variables]
        with tf.GradientTape(persistent=True) as tape:
            outputs = self(x, training=True)
            losses = [
                loss(y[t], outputs[t]) for t, loss in self._task_losses.items()
            ]
        gradients = [
            tape.gradient(loss, variables, unconnected_gradients="zero")
            for loss in losses
        ]
        del tape
        flat = tf.stack(
            [
                tf.concat([tf.reshape(g, [-1]) for g in gs], 0)
                for gs in gradients
            ]
        )
        step = tf.cast(self.optimizer.iterations, tf.int32)
        total = projected_sum(flat, tf.stack([step, 0]))
        sizes = [v.shape.num_elements() for v in variables]
        parts = [
            tf.reshape(part, v.shape)
            for part, v in zip(tf.split(total, sizes), variables, strict=True)
        ]
        self.optimizer.apply(parts, self.trainable_variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(tf.add_n(losses))
        return self.compute_metrics(x, y, outputs, sample_weight)


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
