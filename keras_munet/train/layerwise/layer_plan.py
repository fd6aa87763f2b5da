"""Where layers stand in children, and what a step needs of them there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from keras_munet.train import layer_pool
from keras_munet.train import matmul_precision
from keras_munet.train.layerwise import feature_cache
from keras_munet.train.layerwise import layer_signature

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

    kind: layer_signature.Kind
    values: tf.Tensor
    scored: layer_signature.Kind
    weights: tf.Tensor
    gradients: str
    slot: layer_pool.Slot
    stack: Stack


def places(
    slots: list[layer_pool.Slot],
    gradients: list[str],
    narrowed: list[bool],
    products: matmul_precision.Products,
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
                layer_signature.Kind.of(
                    spec, policy, narrow, products.of(spec), depth
                ),
                slot.variable.handle,
                layer_signature.Kind.of(
                    spec, policy, narrow, matmul_precision.FLOAT32.of(spec)
                ),
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
    stem: Sequence[Place], image: feature_cache.Image
) -> list[feature_cache.Prefix | None]:
    """Returns what identifies the output of each place, lowest first.

    None where not all that computes it is published.

    Args:
      stem: places of one child, input first.
      image: what the input is.
    """
    ids: tuple[tuple[str, bool], ...] = ()
    found: list[feature_cache.Prefix | None] = []
    for place in stem:
        if place.slot.holds is None:
            break
        ids = (*ids, (place.slot.holds, place.kind.narrow))
        found.append((image, ids))
    return found + [None] * (len(stem) - len(found))
