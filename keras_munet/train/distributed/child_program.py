"""A whole child training as one pure function: weights in, weights out.

Invariant: the function reads its arguments alone and changes nothing, so it
may run anywhere, be lost and run again, and gives the same result each time;
each step is that of `generation.GenerationGraph`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_munet.data import preprocessing
from keras_munet.train import batches
from keras_munet.train import generation_structure
from keras_munet.train import layer_pool
from keras_munet.train import matmul_precision
from keras_munet.train import optimizer
from keras_munet.train.graph import generation


class ChildInputs(NamedTuple):
    """The inputs of a child's training besides its weights.

    Attributes:
      images: `[n, height, width, channels] uint8`, what it trains on.
      labels: `[n] int32`.
      indices: `[steps, batch] int32`, the examples of each step.
      seeds: `[steps, 2] int32`, of each step's augmentation.
      rates: `[steps, 3] float32`, `optimizer.Rates` of each step.
      augment: `preprocessing.AugmentHparams`, of scalars.
      held_out: `[m, height, width, channels] uint8`, what it is validated on.
      held_out_labels: `[m] int32`.
      held_out_indices: `[batches, part] int32`, padded.
      held_out_mask: `[batches, part] float32`, 0 where padded.
      num_held_out: float64, the examples that count.
      num_cycles: int32; validations, equally far apart.
      size_factor: float64; score = quality * size_factor.
      score_to_beat: float64; the first snapshot must reach it.
      accept_ties: bool, whether an equal score makes a new snapshot.
    """

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    seeds: np.ndarray
    rates: np.ndarray
    augment: preprocessing.AugmentHparams
    held_out: np.ndarray
    held_out_labels: np.ndarray
    held_out_indices: np.ndarray
    held_out_mask: np.ndarray
    num_held_out: np.float64
    num_cycles: np.int32
    size_factor: np.float64
    score_to_beat: np.float64
    accept_ties: np.bool_


class ChildOutputs(NamedTuple):
    """The result of a child.

    Attributes:
      scores: `[cycles] float64`, after each cycle.
      losses: `[cycles] float32`, the mean of each cycle, nats.
      quality: float64, of the best snapshot; negative without one.
      weights: of every component, `[num_params] float32`, as the best
        snapshot left them.
      momenta: of every trained component, `[num_params] bfloat16`.
    """

    scores: tf.Tensor
    losses: tf.Tensor
    quality: tf.Tensor
    weights: tuple[tf.Tensor, ...]
    momenta: tuple[tf.Tensor, ...]


class _Best(NamedTuple):
    score: tf.Tensor
    quality: tf.Tensor
    weights: tuple[tf.Tensor, ...]
    momenta: tuple[tf.Tensor, ...]


class ChildProgram(generation.GenerationGraph):
    """The structure of one child as a function of its weights."""

    def __init__(
        self,
        structure: generation_structure.GenerationStructure,
        products: matmul_precision.MatmulPrecision,
        jitter: preprocessing.ColorJitter,
    ):
        """Builds the graph; traces nothing.

        Args:
          structure: of one child.
          products: which precision a training step multiplies in.
          jitter: when saturation and hue vary.
        """
        strategy = tf.distribute.get_strategy()
        # Its variables say shapes alone and are never read.
        pool = layer_pool.LayerPool(strategy)
        super().__init__(structure, pool, strategy, products)
        self._jitter = jitter
        (self._chain,) = self.slots
        self.is_trained = [slot.momentum is not None for slot in self._chain]

    def traced(
        self, inputs: ChildInputs
    ) -> tf.types.experimental.ConcreteFunction:
        """Returns the function for inputs of these shapes.

        How many examples, steps and validation batches there are may differ.

        Returns:
          A function of the flat tensors of (inputs, weights, momenta) whose
          result `ChildOutputs` takes apart.
        """
        open_ended = {
            *("images", "labels", "indices", "seeds", "rates", "held_out"),
            *("held_out_labels", "held_out_indices", "held_out_mask"),
        }

        def spec(name: str, value: np.ndarray) -> tf.TensorSpec:
            tensor = tf.TensorSpec.from_tensor(tf.convert_to_tensor(value))
            if name not in open_ended:
                return tensor
            return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)

        input_specs = ChildInputs(
            *(
                tf.nest.map_structure(lambda v, n=name: spec(n, v), value)
                for name, value in inputs._asdict().items()
            )
        )
        sizes = [slot.trained.shape[0] for slot in self._chain]
        weight_specs = tuple(tf.TensorSpec([n], tf.float32) for n in sizes)
        momentum_specs = tuple(
            tf.TensorSpec([n], tf.bfloat16)
            for n, trained in zip(sizes, self.is_trained, strict=True)
            if trained
        )
        structure = input_specs, weight_specs, momentum_specs

        def run(*flat: tf.Tensor) -> ChildOutputs:
            return self._run(*tf.nest.pack_sequence_as(structure, flat))

        return tf.function(run, autograph=False).get_concrete_function(
            *tf.nest.flatten(structure)
        )

    def _run(
        self,
        inputs: ChildInputs,
        weights: tuple[tf.Tensor, ...],
        momenta: tuple[tf.Tensor, ...],
    ) -> ChildOutputs:
        num_steps = tf.shape(inputs.indices)[0] // inputs.num_cycles
        scores = tf.TensorArray(tf.float64, inputs.num_cycles)
        losses = tf.TensorArray(tf.float32, inputs.num_cycles)
        none = tf.constant(-1.0, tf.float64)
        best = _Best(
            inputs.score_to_beat, none, *self._contracted(weights, momenta)
        )

        def cycle(number, weights, momenta, best, scores, losses):
            first = number * num_steps
            _, weights, momenta, total = tf.while_loop(
                lambda step, *_: step < first + num_steps,
                lambda *state: self._step_of(inputs, *state),
                (first, weights, momenta, tf.zeros([])),
                parallel_iterations=1,
            )
            ordinary = self._contracted(weights, momenta)
            quality = self._quality(inputs, ordinary[0])
            score = quality * inputs.size_factor
            # NaN compares as neither: a diverged child is never taken.
            better = (score > best.score) | (
                inputs.accept_ties & (score == best.score)
            )
            now = _Best(score, quality, *ordinary)
            best = tf.nest.map_structure(
                lambda new, old: tf.where(better, new, old), now, best
            )
            return (
                *(number + 1, weights, momenta, best),
                scores.write(number, score),
                losses.write(number, total / tf.cast(num_steps, tf.float32)),
            )

        *_, best, scores, losses = tf.while_loop(
            lambda number, *_: number < inputs.num_cycles,
            cycle,
            (tf.constant(0), weights, momenta, best, scores, losses),
            parallel_iterations=1,
        )
        return ChildOutputs(scores.stack(), losses.stack(), *best[1:])

    def _step_of(self, inputs, step, weights, momenta, total):
        """Returns the state of a cycle after one step."""
        images, labels = batches.training_batch(
            inputs.images,
            inputs.labels,
            inputs.indices[step],
            inputs.seeds[step],
            inputs.augment,
            self.image_size,
            self._jitter,
        )
        self._prepare(self._products)
        with self._holding([slot.trained for slot in self._chain], weights):
            losses, (gradients,) = self._gradients(
                images, labels, images.shape[0]
            )
        scale = optimizer.clip_scale(optimizer.half_square(gradients))
        moved = iter(
            [
                optimizer.compiled_update(*parts, scale, inputs.rates[step])
                for parts in zip(
                    self._trained_of(weights), momenta, gradients, strict=True
                )
            ]
        )
        next_weights, next_momenta = [], []
        for weight, trained in zip(weights, self.is_trained, strict=True):
            if trained:
                weight, momentum = next(moved)
                next_momenta.append(momentum)
            next_weights.append(weight)
        return (
            *(step + 1, tuple(next_weights), tuple(next_momenta)),
            total + losses[0],
        )

    def _quality(self, inputs: ChildInputs, weights: Sequence[tf.Tensor]):
        """Returns the accuracy on what is held out, float64."""

        def count(batch, right):
            images, labels = batches.evaluation_batch(
                inputs.held_out,
                inputs.held_out_labels,
                inputs.held_out_indices[batch],
                self.image_size,
                self.antialias,
            )
            with self._holding([slot.weights for slot in self._chain], weights):
                counts = self._count(
                    images, labels, inputs.held_out_mask[batch]
                )
            return batch + 1, right + counts[0]

        _, right = tf.while_loop(
            lambda batch, _: batch < tf.shape(inputs.held_out_indices)[0],
            count,
            (tf.constant(0), tf.zeros([])),
            parallel_iterations=1,
        )
        return tf.cast(right, tf.float64) / inputs.num_held_out

    def _trained_of(self, weights: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return [
            weight
            for weight, trained in zip(weights, self.is_trained, strict=True)
            if trained
        ]

    def _contracted(
        self, weights: Sequence[tf.Tensor], momenta: Sequence[tf.Tensor]
    ) -> tuple[tuple[tf.Tensor, ...], tuple[tf.Tensor, ...]]:
        """Returns the layers' own weights and the momenta of these."""
        moving = iter(momenta)
        own_weights, own_momenta = [], []
        for slot, weight in zip(self._chain, weights, strict=True):
            momentum = None if slot.momentum is None else next(moving)
            if slot.layout is not None:
                momentum = slot.layout.momentum(weight, momentum)
                weight = slot.layout.product(weight)
            own_weights.append(weight)
            if momentum is not None:
                own_momenta.append(momentum)
        return tuple(own_weights), tuple(own_momenta)

    @contextlib.contextmanager
    def _holding(
        self, variables: Sequence[keras.Variable], weights: Sequence[tf.Tensor]
    ) -> Iterator[None]:
        """Has the layers compute with `weights` and not with `variables`."""
        self._bound_variables = list(zip(variables, weights, strict=True))
        try:
            with keras.StatelessScope(state_mapping=self._bound_variables):
                yield
        finally:
            self._bound_variables = []
