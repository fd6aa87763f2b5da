"""Where layers stand in children, and what a step needs of them there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from keras_munet.train import features
from keras_munet.train import kinds
from keras_munet.train import precision
from keras_munet.train import slots as slots_lib

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
      stack: equal for places whose output is the same for all children.
    """

    kind: kinds.Kind
    values: tf.Tensor
    scored: kinds.Kind
    weights: tf.Tensor
    gradients: str
    slot: slots_lib.Slot
    stack: Stack


def places(
    slots: list[slots_lib.Slot],
    gradients: list[str],
    narrowed: list[bool],
    products: precision.Products,
) -> list[Place]:
    """Returns the places of one child, input first.

    Args:
      slots: of its layers, input first.
      gradients: which a training step needs of each.
      narrowed: of each whether token 0 alone is computed.
      products: which precision a training step multiplies in.
    """
    places = []
    stack: Stack = ()
    for slot, needed, narrow in zip(slots, gradients, narrowed, strict=True):
        spec, policy = slot.spec, slot.layer.dtype_policy.name
        depth = slot.layout.depth if slot.layout else 0
        stack = (*stack, id(slot), int(narrow))
        places.append(
            Place(
                kinds.Kind.of(spec, policy, narrow, products.of(spec), depth),
                slot.variable.handle,
                kinds.Kind.of(spec, policy, narrow, precision.FLOAT32.of(spec)),
                slot.weights.value.handle,
                needed,
                slot,
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


def prefixes(
    stem: Sequence[Place], image: features.Image
) -> list[features.Prefix | None]:
    """Returns what identifies the output of each place, lowest first.

    None where not all that computes it is published.

    Args:
      stem: places of one child, input first.
      image: what the input is.
    """
    ids: tuple[tuple[str, bool], ...] = ()
    found: list[features.Prefix | None] = []
    for place in stem:
        if place.slot.holds is None:
            break
        ids = (*ids, (place.slot.holds, place.kind.narrow))
        found.append((image, ids))
    return found + [None] * (len(stem) - len(found))
