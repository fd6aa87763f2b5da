"""A generation as calls of kept functions, layer by layer, on one CPU.

Invariant: as of `generation.GenerationGraph`, whose steps these are: what
children share frozen is computed once per batch, no gradient is computed below
a child's lowest trained component, and each child's update depends on its own
loss alone. Nothing is compiled for a structure; what a child becomes is the
same to the bit whatever is trained beside it.

A call takes Python ten microseconds, so it is for devices whose layers take
far longer: CPUs. The children of a step are promises that several threads keep.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import time
from collections.abc import Sequence

import tensorflow as tf

from keras_munet.graph import builder
from keras_munet.train import borrowed
from keras_munet.train import dataflow
from keras_munet.train import features as features_lib
from keras_munet.train import halves as halves_lib
from keras_munet.train import precision
from keras_munet.train import slots as slots_lib
from keras_munet.train import structures
from keras_munet.vit import functions

# What tells layers apart that stand on the same ones: their slots, input first.
Stack = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Place:
    """A layer where it stands in a child.

    Attributes:
      kind: of the layer in a training step.
      values: handle of what a training step reads, the layer's weights or
        their factors.
      scored: kind of the layer in what is scored, which is what is served.
      weights: handle of the layer's weights.
      gradients: which a training step needs of it.
      slot: the layer.
      narrow: whether token 0 alone is computed.
      stack: equal for places whose output is the same for all children.
    """

    kind: halves_lib.Kind
    values: tf.Tensor
    scored: halves_lib.Kind
    weights: tf.Tensor
    gradients: str
    slot: slots_lib.Slot
    narrow: bool
    stack: Stack


@dataclasses.dataclass(frozen=True)
class Part:
    """What some examples of a batch add up to.

    Attributes:
      loss: float32 scalar, nats.
      gradients: of what the child trains; none once they were applied.
    """

    loss: tf.Tensor
    gradients: list[tf.Tensor]


class LayerwiseGeneration(borrowed.Borrowed):
    """The layers of a structure, with its steps as promises."""

    def __init__(
        self,
        structure: structures.Structure,
        pool: slots_lib.SlotPool,
        strategy: tf.distribute.Strategy,
        layer_functions: halves_lib.LayerFunctions,
        products: precision.Products,
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
        """
        super().__init__(structure, pool, strategy)
        self._functions = layer_functions
        self._num_parts = num_parts
        chains = [
            _places(chain, builder.narrowed(layers), products)
            for chain, layers in zip(self.slots, self._layers, strict=True)
        ]
        # Below a child's lowest trained component nothing is its own.
        lowest = [
            next(
                (
                    i
                    for i, slot in enumerate(chain)
                    if slot.momentum is not None
                ),
                len(chain),
            )
            for chain in self.slots
        ]
        self._stems = [c[:n] for c, n in zip(chains, lowest, strict=True)]
        self._tops = [c[n:] for c, n in zip(chains, lowest, strict=True)]
        # What a child's last step took: whoever takes longest begins first.
        self._secs = [0.0] * len(chains)

    def begin_step(
        self,
        flow: dataflow.Dataflow,
        number: int,
        before: list[dataflow.Promise],
        images: tf.Tensor,
        labels: tf.Tensor,
        rates: tf.Tensor,
    ) -> list[dataflow.Promise]:
        """Has threads train every child on one batch.

        Args:
          flow: the threads.
          number: of the step; an earlier one is done first.
          before: what this returned for the step before; [] at first.
          images: `[batch, size, size, 3] float32`, ready.
          labels: `[batch] int32`.
          rates: `[children, 3] float32`: `optimizer.Rates` of each child.

        Returns:
          Of each child a promise of a result whose `loss` is its loss, a
          float32 scalar, nats.
        """
        batch_size = images.shape[0]
        of_child = tf.unstack(rates, self.num_children)
        some_images = tf.split(images, self._num_parts)
        some_labels = tf.split(labels, self._num_parts)
        promises = before
        for part in range(self._num_parts):
            order = number, part
            features = self._features(flow, order, some_images[part])
            promises = [
                flow.add(
                    functools.partial(
                        self._train,
                        child,
                        some_labels[part],
                        batch_size,
                        rates=of_child[child],
                        first=part == 0,
                        last=part == self._num_parts - 1,
                    ),
                    (*order, -self._secs[child]),
                    [features[child], *promises[child : child + 1]],
                )
                for child in range(self.num_children)
            ]
        return promises

    def begin_count(
        self,
        flow: dataflow.Dataflow,
        number: int,
        images: tf.Tensor,
        labels: tf.Tensor,
        mask: tf.Tensor,
        kept: features_lib.OfBatch,
    ) -> list[dataflow.Promise]:
        """Has threads count right answers in one batch.

        Args:
          flow: the threads.
          number: of the batch; an earlier one is done first.
          images: `[batch, size, size, 3] float32`, ready.
          labels: `[batch] int32`.
          mask: `[batch] float32`, 0 where padded.
          kept: features of this batch that need not be computed again.

        Returns:
          Of each child a promise of the number of right answers, float32, or
          NaN where its logits are not finite.
        """
        features = self._features(flow, (number, 0), images, kept)

        def count(child: int, x: tf.Tensor) -> tf.Tensor:
            for place in self._tops[child]:
                x = self._functions.output(place.scored, place.weights, x)
            return self._functions.right(x, labels, mask)

        return [
            flow.add(
                functools.partial(count, child),
                (number, 0, -self._secs[child]),
                [features[child]],
            )
            for child in range(self.num_children)
        ]

    @property
    def prefixes(self) -> frozenset[features_lib.Prefix]:
        """The published components below what a child has of its own."""
        found = map(_prefix, self._stems)
        return frozenset(prefix for prefix in found if prefix)

    def _features(
        self,
        flow: dataflow.Dataflow,
        order: dataflow.Order,
        images: tf.Tensor,
        kept: features_lib.OfBatch | None = None,
    ) -> list[dataflow.Promise]:
        """Returns of each child the promise of what its top reads.

        Args:
          flow: the threads.
          order: of the step.
          images: its batch.
          kept: of what is scored; None for a training step.
        """
        # First of their step: others wait for them.
        order = (*order, -float("inf"))
        promises: dict[Stack, dataflow.Promise] = {
            (): flow.add(lambda: images, order)
        }

        def feature(
            place: Place, prefix: features_lib.Prefix | None, x: tf.Tensor
        ) -> tf.Tensor:
            if kept is None:
                return self._functions.output(place.kind, place.values, x)
            y = self._functions.output(place.scored, place.weights, x)
            if prefix in self.prefixes:
                kept.put(prefix, y)
            return y

        def promise_of(stem: list[Place]) -> dataflow.Promise:
            stack = stem[-1].stack if stem else ()
            if stack not in promises:
                prefix = _prefix(stem)
                found = kept.get(prefix) if kept is not None else None
                promises[stack] = (
                    flow.add(lambda: found, order)
                    if found is not None
                    else flow.add(
                        functools.partial(feature, stem[-1], prefix),
                        order,
                        [promise_of(stem[:-1])],
                    )
                )
            return promises[stack]

        return [promise_of(stem) for stem in self._stems]

    def _train(
        self,
        child: int,
        labels: tf.Tensor,
        batch_size: int,
        x: tf.Tensor,
        before: Part | None = None,
        *,
        rates: tf.Tensor,
        first: bool,
        last: bool,
    ) -> Part:
        """Trains a child on a part of a batch.

        Args:
          child: its number.
          labels: `[n] int32`, of the part.
          batch_size: examples of the whole batch.
          x: what the child's top reads of the part.
          before: of the part before; of another step where this is the first.
          rates: `[3] float32`, of the update.
          first: whether this is the first part of the batch.
          last: whether it is the last, after which the child is updated.
        """
        started = time.perf_counter()
        part = self._gradients(child, x, labels, batch_size)
        if before is not None and not first:
            part = Part(
                before.loss + part.loss,
                list(map(operator.add, before.gradients, part.gradients)),
            )
        if last:
            self._update(child, part.gradients, rates)
            part = Part(part.loss, [])
        self._secs[child] = time.perf_counter() - started
        return part

    def _gradients(
        self, child: int, x: tf.Tensor, labels: tf.Tensor, batch_size: int
    ) -> Part:
        """Returns what some examples add to a child's loss and gradients."""
        pulls = []
        for place in self._tops[child]:
            x, pull = self._functions.forward(
                place.kind, place.gradients, place.values, x
            )
            pulls.append(pull)
        loss, dy = self._functions.loss(x, labels, batch_size)
        gradients = []
        for place in reversed(self._tops[child]):
            # What a layer kept is freed as soon as it was read.
            found = pulls.pop()(dy)
            if place.gradients != functions.INPUT_ONLY:
                gradients.append(found.pop())
            if found:
                (dy,) = found
        return Part(loss, gradients[::-1])

    def _update(
        self, child: int, gradients: list[tf.Tensor], rates: tf.Tensor
    ) -> None:
        halves = [tf.raw_ops.L2Loss(t=gradient) for gradient in gradients]
        half_square = tf.raw_ops.AddN(inputs=halves)
        for slot, gradient in zip(self._trained[child], gradients, strict=True):
            self._functions.update(
                slot.variable, slot.momentum, gradient, half_square, rates
            )


def _prefix(stem: Sequence[Place]) -> features_lib.Prefix | None:
    """Returns what identifies the features; None unless all are published."""
    prefix: list[tuple[str, bool]] = []
    for place in stem:
        if place.slot.holds is None:
            return None
        prefix.append((place.slot.holds, place.narrow))
    return tuple(prefix)


def _places(
    slots: list[slots_lib.Slot],
    narrowed: list[bool],
    products: precision.Products,
) -> list[Place]:
    """Returns the places of one child, input first."""
    places = []
    below = True
    stack: Stack = ()
    for slot, narrow in zip(slots, narrowed, strict=True):
        gradients = functions.ALL
        if slot.momentum is None:
            gradients = functions.INPUT_ONLY
        elif below:
            gradients, below = functions.WEIGHTS_ONLY, False
        spec = slot.spec
        depth = slot.layout.depth if slot.layout else 0
        stack = (*stack, id(slot), int(narrow))
        places.append(
            Place(
                halves_lib.Kind.of(spec, narrow, products.of(spec), depth),
                slot.variable.handle,
                halves_lib.Kind.of(spec, narrow, precision.FLOAT32.of(spec)),
                slot.weights.value.handle,
                gradients,
                slot,
                narrow,
                stack,
            )
        )
    return places
