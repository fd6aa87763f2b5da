"""A generation as calls of kept functions, layer by layer, on one CPU.

Invariant: a component that children share frozen is one layer of all of them
and is computed once per batch; no gradient is computed below a child's lowest
trained component, and each child's update depends on its own loss alone.
Nothing is compiled for a structure; what a child becomes is the same to the
bit with any others trained beside it.

A call takes Python ten microseconds, so it is for devices whose layers take
far longer: CPUs. The children of a step are futures that several threads run.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import time
from collections.abc import Iterator
from collections.abc import Sequence

import tensorflow as tf

from keras_munet.models import path_model
from keras_munet.models.vit import functions
from keras_munet.train import generation_structure
from keras_munet.train import layer_pool
from keras_munet.train import losses
from keras_munet.train import matmul_precision
from keras_munet.train import optimizer
from keras_munet.train.layerwise import feature_cache
from keras_munet.train.layerwise import layer_functions as layer_functions_lib
from keras_munet.train.layerwise import layer_plan
from keras_munet.train.layerwise import shared_prefix
from keras_munet.train.layerwise import task_graph


@dataclasses.dataclass(frozen=True)
class BatchSums:
    """The sums over some examples of a batch.

    Attributes:
      loss: float32 scalar, nats.
      gradients: of what the child trains; none once they were applied.
    """

    loss: tf.Tensor
    gradients: list[tf.Tensor]


class LayerwiseGeneration:
    """The layers of a structure, whose steps are futures.

    Attributes:
      slots: of each child, input first.
      image_size: side of the input, pixels.
      antialias: see `preprocessing.evaluation_images`.
      image: both.
    """

    def __init__(
        self,
        structure: generation_structure.GenerationStructure,
        pool: layer_pool.LayerPool,
        strategy: tf.distribute.Strategy,
        layer_functions: layer_functions_lib.LayerFunctions,
        products: matmul_precision.MatmulPrecision,
        num_parts: int = 1,
    ):
        """Takes the layers; compiles nothing.

        Args:
          structure: which layers each child has.
          pool: lends them.
          strategy: of one CPU.
          layer_functions: keeps what is compiled.
          products: which precision a training step multiplies in.
          num_parts: into how many parts, one after the other, a batch is
            divided to save memory.

        Raises:
          UsageError: layers of a child do not fit together.
        """
        self.image_size = structure.image_size
        self.antialias = structure.antialias
        self.label_smoothing = structure.label_smoothing
        self.class_weights = structure.class_weights
        self.image = structure.image_size, structure.antialias
        with strategy.scope():
            self.slots = [
                [pool.get(role, spec, n) for role, spec, n in chain]
                for chain in structure.chains
            ]
        self._layers = [[slot.layer for slot in chain] for chain in self.slots]
        for chain in self._layers:
            path_model.check_layers(chain, structure.image_size)
        self._trained = [
            [slot for slot in chain if slot.momentum is not None]
            for chain in self.slots
        ]
        self._functions = layer_functions
        self._num_parts = num_parts
        chains = [
            layer_plan.planned_layers(
                chain, gradients, path_model.class_token_flags(layers), products
            )
            for chain, gradients, layers in zip(
                self.slots, self.gradients, self._layers, strict=True
            )
        ]
        # Below a child's lowest trained component nothing is its own.
        stems, self._tops = zip(
            *map(layer_plan.split_at_trained, chains), strict=True
        )
        self._stems = shared_prefix.SharedPrefixes(
            stems, layer_functions, self.image
        )
        # What a child's last step took: the slowest child begins first.
        self._secs = [0.0] * len(chains)

    @property
    def gradients(self) -> list[list[str]]:
        """Of each child what a training step needs of each layer.

        See `functions.noinline`; no gradient passes its lowest trained one.
        """
        return [list(_needed(chain)) for chain in self.slots]

    @property
    def num_children(self) -> int:
        """Of the generation."""
        return len(self.slots)

    def contract(self) -> None:
        """Gives every layer the weights that its factors stand for.

        What is counted and what a snapshot takes are these weights.
        """
        for child in self._trained:
            for slot in child:
                slot.contract()

    def begin_step(
        self,
        flow: task_graph.TaskGraph,
        number: int,
        before: list[task_graph.Future],
        images: tf.Tensor,
        labels: losses.Labels,
        rates: tf.Tensor,
    ) -> list[task_graph.Future]:
        """Has threads train every child on one batch.

        Args:
          flow: the threads.
          number: of the step; an earlier one is done first.
          before: what this returned for the step before; [] at first.
          images: `[batch, size, size, 3] float32`, ready.
          labels: as of `losses.training_loss`.
          rates: `[children, 3] float32`: `optimizer.Rates` of each child.

        Returns:
          Of each child a future of a result whose `loss` is its loss, a
          float32 scalar, nats.
        """
        batch_size = images.shape[0]
        of_child = tf.unstack(rates, self.num_children)
        some_images = tf.split(images, self._num_parts)
        some_labels = [
            tf.nest.pack_sequence_as(labels, part)
            for part in zip(
                *(
                    tf.split(values, self._num_parts)
                    for values in tf.nest.flatten(labels)
                ),
                strict=True,
            )
        ]
        futures = before
        for part in range(self._num_parts):
            order = number, part
            # Where memory is short, a part begins when the one before is done.
            waits = futures if self._num_parts > 1 else []
            features = self._stems.begin(flow, order, some_images[part], waits)
            futures = [
                flow.add(
                    functools.partial(
                        self._train,
                        child,
                        some_labels[part],
                        batch_size,
                        rates=of_child[child],
                        last=part == self._num_parts - 1,
                    ),
                    (*order, -self._secs[child]),
                    [features[child], *futures[child : child + 1]],
                )
                for child in range(self.num_children)
            ]
        return futures

    @property
    def prefixes(self) -> frozenset[feature_cache.Prefix]:
        """The published components below what a child has of its own."""
        return self._stems.prefixes

    def begin_count(
        self,
        flow: task_graph.TaskGraph,
        number: int,
        images: tf.Tensor,
        labels: tf.Tensor,
        mask: tf.Tensor,
        cache: feature_cache.BatchFeatures,
        whole: bool = False,
    ) -> list[task_graph.Future]:
        """Has threads count right answers in one batch.

        Args:
          flow: the threads.
          number: of the batch; an earlier one is done first.
          images: `[batch, size, size, 3] float32`, ready.
          labels: as of `losses.cross_entropy`; only with `whole` a label for
            each class.
          mask: `[batch] float32`, 0 where padded.
          cache: features of this batch that need not be computed again.
          whole: whether to return what `losses.scored_outputs` returns.

        Returns:
          Of each child a future of the number of right answers, float32, or
          NaN where its logits are not finite.
        """
        features = self._stems.begin(flow, (number, 0), images, cache=cache)
        answer = (
            self._functions.scored if whole else self._functions.num_correct
        )

        def count(child: int, x: tf.Tensor) -> tf.Tensor:
            for layer in self._tops[child]:
                x = self._functions.output(layer.scored, layer.weights, x)
            return answer(x, labels, mask)

        return [
            flow.add(
                functools.partial(count, child),
                (number, 0, -self._secs[child]),
                [features[child]],
            )
            for child in range(self.num_children)
        ]

    def _train(
        self,
        child: int,
        labels: losses.Labels,
        batch_size: int,
        x: tf.Tensor,
        before: BatchSums | None = None,
        *,
        rates: tf.Tensor,
        last: bool,
    ) -> BatchSums:
        """Trains a child on a part of a batch.

        Args:
          child: its number.
          labels: of the part.
          batch_size: examples of the whole batch.
          x: what the child's top reads of the part.
          before: of the part before, with its gradients; without any where
            another step is what was before.
          rates: `[3] float32`, of the update.
          last: whether this is the last part of the batch, after which the
            child is updated.
        """
        started = time.perf_counter()
        part = self._gradients(child, x, labels, batch_size)
        if before is not None and before.gradients:
            part = BatchSums(
                before.loss + part.loss,
                list(map(operator.add, before.gradients, part.gradients)),
            )
        if last:
            self._update(child, part.gradients, rates)
            part = BatchSums(part.loss, [])
        self._secs[child] = time.perf_counter() - started
        return part

    def _gradients(
        self, child: int, x: tf.Tensor, labels: losses.Labels, batch_size: int
    ) -> BatchSums:
        """Returns what some examples add to a child's loss and gradients."""
        pulls = []
        for layer in self._tops[child]:
            x, pull = self._functions.forward(
                layer.signature, layer.gradients, layer.values, x
            )
            pulls.append(pull)
        loss, dy = self._functions.loss(
            x,
            labels,
            batch_size,
            self.label_smoothing[child],
            self.class_weights,
        )
        gradients = []
        for layer in reversed(self._tops[child]):
            # What a layer kept is freed as soon as it was read.
            layer_gradients = pulls.pop()(dy)
            if layer.gradients != functions.INPUT_ONLY:
                gradients.append(layer_gradients.pop())
            if layer_gradients:
                (dy,) = layer_gradients
        return BatchSums(loss, gradients[::-1])

    def _update(
        self, child: int, gradients: list[tf.Tensor], rates: tf.Tensor
    ) -> None:
        half_square = optimizer.half_square(gradients)
        for slot, gradient in zip(self._trained[child], gradients, strict=True):
            self._functions.update(slot, gradient, half_square, rates)


def _needed(chain: Sequence[layer_pool.PooledLayer]) -> Iterator[str]:
    below = True
    for slot in chain:
        if slot.momentum is None:
            yield functions.INPUT_ONLY
        else:
            yield functions.WEIGHTS_ONLY if below else functions.ALL
            below = False
