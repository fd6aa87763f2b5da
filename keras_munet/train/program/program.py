"""Trains the children of a replica: one function of weights, plan and examples.

Invariant: pure; weights in, weights out. Shapes follow from a bucket alone;
which layers a child trains, how fast and on what are arguments.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from keras_munet.data import preprocessing
from keras_munet.train import batches
from keras_munet.train import losses as losses_lib
from keras_munet.train import matmul_precision
from keras_munet.train import optimizer
from keras_munet.train.program import bucket as bucket_lib
from keras_munet.train.program import call_data
from keras_munet.train.program import chain as chain_lib

_JITTERS = (
    preprocessing.ColorJitter.OFF,
    preprocessing.ColorJitter.BEFORE_RESIZE,
    preprocessing.ColorJitter.AFTER_RESIZE,
)


class ChildProgram:
    """The function of one bucket; `traced` is what runs."""

    def __init__(
        self,
        bucket: bucket_lib.Bucket,
        products: matmul_precision.MatmulPrecision,
        num_replicas: int = 1,
    ):
        """Prepares the layers; traces nothing.

        Args:
          bucket: the shapes.
          products: which precision a training step multiplies in.
          num_replicas: that run the function at one time, each for children
            of its own, or `bucket.group` of them for the same.
        """
        self._bucket = bucket
        self._groups = [
            list(range(first, first + bucket.group))
            for first in range(0, num_replicas, bucket.group)
        ]
        self._chain = chain_lib.Chain(bucket, products)

    def traced(self) -> tf.types.experimental.ConcreteFunction:
        """Returns the function of (state, plan, pool) that returns both."""
        function = tf.function(self.run, autograph=False)
        return function.get_concrete_function(
            call_data.state_specs(self._bucket),
            call_data.plan_specs(self._bucket),
            call_data.pool_specs(self._bucket),
        )

    def run(
        self, state: call_data.State, plan: call_data.Plan, pool: call_data.Pool
    ) -> tuple[call_data.State, call_data.Sums]:
        """Trains `num_steps` steps, then counts `num_batches` batches."""
        zeros = tf.zeros([self._bucket.children])

        def step(
            number: tf.Tensor, state: call_data.State, total: tf.Tensor
        ) -> Any:
            picked = plan.indices[number]
            images = self._varied(
                self._picked(pool, picked), plan.draws[number], plan
            )
            labels = tf.gather(pool.labels, picked)
            if self._bucket.has_mixup:
                images, labels = batches.mixed(
                    images, labels, plan.draws[number], plan.augment.mixup
                )
            losses, gradients = self._summed(
                self._chain.gradients(state.weights, plan, images, labels)
            )
            state = self._updated(state, gradients, plan, plan.rates[number])
            return number + 1, state, total + losses

        _, state, total = tf.while_loop(
            lambda number, *_: number < plan.num_steps,
            step,
            (tf.constant(0), state, zeros),
            parallel_iterations=1,
        )
        right, logits = self._counted(state.weights, plan, pool)
        return state, call_data.Sums(total, right, logits)

    def _summed(self, values: Any) -> Any:
        """Returns sums over the replicas that train the same children."""
        if self._bucket.group == 1:
            return values
        return tf.nest.map_structure(
            lambda v: tf.raw_ops.CrossReplicaSum(
                input=v, group_assignment=self._groups
            ),
            values,
        )

    def _picked(self, pool: call_data.Pool, picked: tf.Tensor) -> tf.Tensor:
        """Returns `[batch, side, side, 3] uint8`."""
        side = self._bucket.side
        flat = tf.gather(pool.images, picked)
        return tf.reshape(flat, [picked.shape[0], side, side, 3])

    def _varied(
        self, images: tf.Tensor, draws: tf.Tensor, plan: call_data.Plan
    ) -> tf.Tensor:
        """Returns training images, varied by their draws."""
        jitters = _JITTERS if self._bucket.has_colors else _JITTERS[:1]
        branches = [
            functools.partial(
                preprocessing.varied_images,
                *(images, self._bucket.image_size, draws, plan.augment, jitter),
                plan.sides,
            )
            for jitter in jitters
        ]
        if len(branches) == 1:
            return branches[0]()
        return tf.switch_case(plan.jitter, branches)

    def _updated(
        self,
        state: call_data.State,
        gradients: Any,
        plan: call_data.Plan,
        rates: tf.Tensor,
    ) -> call_data.State:
        """Returns the state after one step of what is trained."""
        half_squares = []
        for key, values in gradients.items():
            trained = plan.trained[key]
            for name, value in values.items():
                moved = tf.where(chain_lib.wide(trained, value), value, 0.0)
                values[name] = moved
                lead = trained.shape.rank - 1
                axes = [a for a in range(value.shape.rank) if a != lead]
                half_squares.append(0.5 * tf.reduce_sum(moved * moved, axes))
        scale = optimizer.clip_scale(tf.add_n(half_squares))
        # Rates stand before the children, as `optimizer` takes them apart.
        rates = tf.transpose(rates)
        weights, momenta, second = (
            _copy(state.weights),
            _copy(state.momenta),
            _copy(state.second),
        )
        for key, values in gradients.items():
            trained = plan.trained[key]
            for name, gradient in values.items():
                ones = [1] * (gradient.shape.rank - trained.shape.rank)
                children = [self._bucket.children, *ones]
                arguments = (
                    gradient,
                    tf.reshape(scale, children),
                    tf.reshape(rates, [3, *children]),
                )
                weight, momentum = weights[key][name], momenta[key][name]
                is_trained = chain_lib.wide(trained, gradient)
                moved = optimizer.update(weight, momentum, *arguments)
                if second:
                    square = second[key][name]
                    *moved_by_adamw, new_square = optimizer.adamw_update(
                        weight, momentum, square, *arguments
                    )
                    by_adamw = tf.reshape(plan.uses_adamw, children)
                    moved = tuple(
                        tf.where(by_adamw, new, other)
                        for new, other in zip(
                            moved_by_adamw, moved, strict=True
                        )
                    )
                    second[key][name] = tf.where(is_trained, new_square, square)
                weights[key][name] = tf.where(is_trained, moved[0], weight)
                momenta[key][name] = tf.where(is_trained, moved[1], momentum)
        return call_data.State(weights, momenta, second)

    def _counted(
        self,
        weights: call_data.Tensors,
        plan: call_data.Plan,
        pool: call_data.Pool,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns right answers and logits of the validation batches."""
        bucket = self._bucket
        shape = [bucket.children, bucket.batch_size, bucket.num_classes]
        logits = tf.TensorArray(
            tf.float32,
            bucket.batches if bucket.has_logits else 0,
            element_shape=shape,
        )
        if bucket.has_logits:
            logits = logits.unstack(tf.zeros([bucket.batches, *shape]))

        def batch(number: tf.Tensor, right: tf.Tensor, logits: Any) -> Any:
            picked = plan.held_indices[number]
            images = preprocessing.corner_images(
                self._picked(pool, picked),
                bucket.image_size,
                plan.augment.antialias,
                plan.held_sides,
            )
            # What is scored is what will be served.
            exact = matmul_precision.FLOAT32
            x, _ = self._chain.forward(
                weights, plan, images, exact, keeps=False
            )
            values = self._chain.logits(weights, plan, x)
            values = losses_lib.of_real_classes(values, plan.num_classes)
            if not bucket.is_multi_label:
                right += losses_lib.num_correct(
                    values,
                    tf.gather(pool.labels, picked),
                    plan.held_mask[number],
                )
            if bucket.has_logits:
                logits = logits.write(number, values)
            return number + 1, right, logits

        _, right, logits = tf.while_loop(
            lambda number, *_: number < plan.num_batches,
            batch,
            (tf.constant(0), tf.zeros([bucket.children]), logits),
            parallel_iterations=1,
        )
        whole = logits.stack() if bucket.has_logits else tf.zeros([0, *shape])
        return self._summed(right), whole


def _copy(values: call_data.Tensors) -> dict[str, dict[str, tf.Tensor]]:
    return {key: dict(value) for key, value in values.items()}
