"""Turns children's components into a program's arrays and back.

Invariant: a component comes back to the bit, from any size of bucket;
values beyond its own sizes are zeros, and training leaves them zeros.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_munet.core import specs
from keras_munet.models import layer_factory
from keras_munet.train import child_job
from keras_munet.train import layer_pool
from keras_munet.train import weight_factors
from keras_munet.train.program import bucket as bucket_lib

# Of each layer, name -> array: what a layer computes with.
Arrays = dict[str, dict[str, np.ndarray]]
_BFLOAT16 = tf.bfloat16.as_numpy_dtype


@dataclasses.dataclass(frozen=True)
class Position:
    """Says where a component's arrays lie.

    Attributes:
      chain_layer: in the bucket.
      index: its number in the stack; None outside of it.
    """

    chain_layer: bucket_lib.ChainLayer
    index: int | None

    def at(self, child: int) -> tuple[int, ...]:
        """Returns the index of a child's values in the layer's arrays."""
        return (child,) if self.index is None else (self.index, child)


@dataclasses.dataclass(frozen=True)
class Stacked:
    """The arrays of children that a replica trains together.

    Attributes:
      weights: `[layers, children, ...] float32` of the stack, else
        `[children, ...]`.
      momenta: the same, bfloat16.
      trained: layer -> `[layers, children]` or `[children]` bool.
      present: the same: whether a child has the layer.
      num_layers: `[children] int32`, blocks.
      lowest: `[children] int32`, the lowest block that a gradient reaches; as
        many as there are blocks where none does.
    """

    weights: Arrays
    momenta: Arrays
    trained: dict[str, np.ndarray]
    present: dict[str, np.ndarray]
    num_layers: np.ndarray
    lowest: np.ndarray


def positions(
    components: Sequence[child_job.JobComponent], bucket: bucket_lib.Bucket
) -> list[Position]:
    """Returns where each component of a child lies.

    Args:
      components: of the child, input first.
      bucket: covers it.
    """
    singles = {
        chain_layer.key: chain_layer
        for chain_layer in (*bucket.below, *bucket.above)
    }
    num_blocks = 0
    layer_positions = []
    for part in components:
        if part.spec.name in singles:
            layer_positions.append(Position(singles[part.spec.name], None))
        elif bucket_lib.is_adapter(part.spec):
            assert bucket.adapter is not None, part.spec.name
            layer_positions.append(Position(bucket.adapter, num_blocks))
        else:
            assert bucket.block is not None, part.spec.name
            layer_positions.append(Position(bucket.block, num_blocks))
            num_blocks += 1
    return layer_positions


def stack(
    children: Sequence[child_job.ChildJob],
    bucket: bucket_lib.Bucket,
    loaded: dict[str, specs.Component] | None = None,
) -> Stacked:
    """Returns the arrays of children.

    Args:
      children: at most `bucket.children`; the rest of the arrays is zeros.
      bucket: covers each of them.
      loaded: shared components that need not be loaded again; those that this
        loads are added.
    """
    loaded = {} if loaded is None else loaded
    weights: Arrays = {}
    trained, present = {}, {}
    for chain_layer in bucket.chain_layers:
        lead = bucket.lead(chain_layer)
        weights[chain_layer.key] = {
            name: np.zeros((*lead, *shape), np.float32)
            for name, shape in chain_layer.arrays
        }
        trained[chain_layer.key] = np.zeros(lead, np.bool_)
        present[chain_layer.key] = np.zeros(lead, np.bool_)
    momenta = {
        key: {name: np.zeros(a.shape, _BFLOAT16) for name, a in arrays.items()}
        for key, arrays in weights.items()
    }
    num_layers = np.zeros(bucket.children, np.int32)
    lowest = np.zeros(bucket.children, np.int32)
    for number, child in enumerate(children):
        layer_positions = positions(child.components, bucket)
        blocks = [
            p.index for p in layer_positions if p.chain_layer == bucket.block
        ]
        num_layers[number] = lowest[number] = len(blocks)
        for part, position in zip(
            child.components, layer_positions, strict=True
        ):
            at = position.at(number)
            key = position.chain_layer.key
            present[key][at] = True
            trained[key][at] = part.trainable
            if part.trainable and position.index is not None:
                lowest[number] = min(lowest[number], position.index)
            if part.trainable and position.chain_layer in bucket.below:
                lowest[number] = 0
            component = loaded.get(part.shared_id or "")
            if component is None:
                component = part.load()
            if part.shared_id is not None:
                loaded[part.shared_id] = component
            _put(
                weights[key],
                momenta[key],
                at,
                component,
                part,
                position.chain_layer,
            )
    return Stacked(weights, momenta, trained, present, num_layers, lowest)


def unstack(
    child: child_job.ChildJob,
    number: int,
    bucket: bucket_lib.Bucket,
    weights: Mapping[str, Mapping[str, np.ndarray]],
    momenta: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, specs.Component]:
    """Returns what a child does not share, as its arrays are now.

    Args:
      child: as it was stacked.
      number: which of the stacked children it is.
      bucket: that it was stacked for.
      weights: as of `Stacked`.
      momenta: likewise.

    Returns:
      Name of the component -> values; momenta of those that it trains.
    """
    components = {}
    for part, position in zip(
        child.components, positions(child.components, bucket), strict=True
    ):
        if part.shared_id is not None:
            continue
        key, at = position.chain_layer.key, position.at(number)
        values = _packed_values(weights[key], at, part, position.chain_layer)
        moving = _packed_values(momenta[key], at, part, position.chain_layer)
        layout = _layout(part, position.chain_layer)
        if layout is not None:
            with tf.device("CPU:0"):
                trained = tf.constant(values)
                moving = layout.momentum(trained, tf.constant(moving)).numpy()
                values = layout.product(trained).numpy()
        momentum = None
        if part.trainable:
            momentum = layer_factory.unpack(part.spec, moving.view(np.uint16))
        components[part.spec.name] = specs.Component(
            part.spec, layer_factory.unpack(part.spec, values), momentum
        )
    return components


def squares(stacked: Stacked) -> Arrays:
    """Returns AdamW's second moments at first.

    From zero, the first step would be the parent's momentum over the child's
    gradient, which has no bound.
    """
    return {
        key: {name: np.square(v.astype(np.float32)) for name, v in part.items()}
        for key, part in stacked.momenta.items()
    }


def own_places(
    children: Sequence[child_job.ChildJob], bucket: bucket_lib.Bucket
) -> set[str]:
    """Returns the keys of the layers that `unstack` reads."""
    return {
        position.chain_layer.key
        for child in children
        for part, position in zip(
            child.components, positions(child.components, bucket), strict=True
        )
        if part.shared_id is None
    }


def _layout(
    part: child_job.JobComponent, chain_layer: bucket_lib.ChainLayer
) -> weight_factors.FactorLayout | None:
    if not chain_layer.factor_depth:
        return None
    return weight_factors.FactorLayout(part.spec, chain_layer.factor_depth)


def _put(
    weights: dict[str, np.ndarray],
    momenta: dict[str, np.ndarray],
    at: tuple[int, ...],
    component: specs.Component,
    part: child_job.JobComponent,
    chain_layer: bucket_lib.ChainLayer,
) -> None:
    """Writes a component's values where they lie."""
    values = layer_factory.pack(part.spec, component.weights)
    moving = layer_pool.packed_momentum(
        part.spec, component.momentum if part.trainable else None
    )
    layout = _layout(part, chain_layer)
    if layout is not None:
        values = layout.first_values(values)
        moving = layout.first_momentum(moving)
    for arrays, packed in ((weights, values), (momenta, moving)):
        start = 0
        for name, shape in _own_arrays(part, chain_layer):
            end = start + int(np.prod(shape, dtype=np.int64))
            arrays[name][_box(at, shape)] = packed[start:end].reshape(shape)
            start = end


def _packed_values(
    arrays: Mapping[str, np.ndarray],
    at: tuple[int, ...],
    part: child_job.JobComponent,
    chain_layer: bucket_lib.ChainLayer,
) -> np.ndarray:
    """Returns a component's own values end to end."""
    return np.concatenate(
        [
            arrays[name][_box(at, shape)].ravel()
            for name, shape in _own_arrays(part, chain_layer)
        ]
    )


def _own_arrays(
    part: child_job.JobComponent, chain_layer: bucket_lib.ChainLayer
) -> bucket_lib.Arrays:
    """Returns (name, shape) of a component's own arrays."""
    return dataclasses.replace(chain_layer, spec=part.spec).arrays


def _box(at: tuple[int, ...], shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Returns the index of an array's own values among padded ones."""
    return (*at, *map(slice, shape))
