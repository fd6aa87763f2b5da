"""Where layers stand in children, and what a step needs of them there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from keras_munet.train import features
from keras_munet.train import kinds
from keras_munet.train import precision
from keras_munet.train import slots as slots_lib
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

    kind: kinds.Kind
    values: tf.Tensor
    scored: kinds.Kind
    weights: tf.Tensor
    gradients: str
    slot: slots_lib.Slot
    narrow: bool
    stack: Stack


def places(
    slots: list[slots_lib.Slot],
    narrowed: list[bool],
    products: precision.Products,
) -> list[Place]:
    """Returns the places of one child, input first.

    Args:
      slots: of its layers, input first.
      narrowed: of each whether token 0 alone is computed.
      products: which precision a training step multiplies in.
    """
    places = []
    below = True
    stack: Stack = ()
    for slot, narrow in zip(slots, narrowed, strict=True):
        gradients = functions.ALL
        if slot.momentum is None:
            gradients = functions.INPUT_ONLY
        elif below:
            gradients, below = functions.WEIGHTS_ONLY, False
        spec, policy = slot.spec, slot.layer.dtype_policy.name
        depth = slot.layout.depth if slot.layout else 0
        stack = (*stack, id(slot), int(narrow))
        places.append(
            Place(
                kinds.Kind.of(spec, policy, narrow, products.of(spec), depth),
                slot.variable.handle,
                kinds.Kind.of(spec, policy, narrow, precision.FLOAT32.of(spec)),
                slot.weights.value.handle,
                gradients,
                slot,
                narrow,
                stack,
            )
        )
    return places


def cut(chain: list[Place]) -> tuple[list[Place], list[Place]]:
    """Returns the places below a child's lowest trained one, and the rest.

    Args:
      chain: all of one child, input first.
    """
    for height, place in enumerate(chain):
        if place.slot.momentum is not None:
            return chain[:height], chain[height:]
    return chain, []


def prefix(stem: Sequence[Place], image_size: int) -> features.Prefix | None:
    """Returns what identifies features; None unless all of it is published.

    Args:
      stem: what computes them, input first.
      image_size: side of the input, pixels.
    """
    ids = []
    for place in stem:
        if place.slot.holds is None:
            return None
        ids.append((place.slot.holds, place.narrow))
    return (image_size, tuple(ids)) if ids else None
