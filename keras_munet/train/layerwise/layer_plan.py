"""Plans the layers of each child and what a step needs of them."""

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
class PlannedLayer:
    """A layer where it stands in a child.

    Attributes:
      signature: of the layer in a training step.
      values: handle of what a training step reads, the layer's weights or
        their factors.
      scored: signature of the layer in what is scored, which is what is served.
      weights: handle of the layer's weights.
      gradients: which a training step needs of it.
      slot: the layer.
      stack: equal for places whose output is the same for all children.
    """

    signature: layer_signature.LayerSignature
    values: tf.Tensor
    scored: layer_signature.LayerSignature
    weights: tf.Tensor
    gradients: str
    slot: layer_pool.PooledLayer
    stack: Stack


def planned_layers(
    slots: list[layer_pool.PooledLayer],
    gradients: list[str],
    narrowed: list[bool],
    products: matmul_precision.MatmulPrecision,
) -> list[PlannedLayer]:
    """Returns the places of one child, input first.

    Args:
      slots: of its layers, input first.
      gradients: which a training step needs of each.
      narrowed: of each whether token 0 alone is computed.
      products: which precision a training step multiplies in.
    """
    places = []
    stack: Stack = ()
    for slot, needed, class_token_only in zip(
        slots, gradients, narrowed, strict=True
    ):
        spec, policy = slot.spec, slot.layer.dtype_policy.name
        depth = slot.layout.depth if slot.layout else 0
        stack = (*stack, id(slot), int(class_token_only))
        places.append(
            PlannedLayer(
                layer_signature.LayerSignature.of(
                    spec, policy, class_token_only, products.of(spec), depth
                ),
                slot.variable.handle,
                layer_signature.LayerSignature.of(
                    spec,
                    policy,
                    class_token_only,
                    matmul_precision.FLOAT32.of(spec),
                ),
                slot.weights.value.handle,
                needed,
                slot,
                stack,
            )
        )
    return places


def split_at_trained(
    chain: list[PlannedLayer],
) -> tuple[list[PlannedLayer], list[PlannedLayer]]:
    """Returns the places below a child's lowest trained one, and the rest.

    Args:
      chain: all of one child, input first.
    """
    for height, layer in enumerate(chain):
        if layer.slot.momentum is not None:
            return chain[:height], chain[height:]
    return chain, []


def prefix_keys(
    stem: Sequence[PlannedLayer], image: feature_cache.Image
) -> list[feature_cache.Prefix | None]:
    """Returns what identifies the output of each place, lowest first.

    None where not all that computes it is published.

    Args:
      stem: places of one child, input first.
      image: what the input is.
    """
    ids: tuple[tuple[str, bool], ...] = ()
    prefixes_of_stem: list[feature_cache.Prefix | None] = []
    for layer in stem:
        if layer.slot.holds is None:
            break
        ids = (*ids, (layer.slot.holds, layer.signature.class_token_only))
        prefixes_of_stem.append((image, ids))
    return prefixes_of_stem + [None] * (len(stem) - len(prefixes_of_stem))
