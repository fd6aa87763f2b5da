"""A component as a live Keras layer, and its values in and out of it.

Invariant: a layer's variables stand in the order of its spec's weights, so
values move between records and layers without a name map.
"""

# Keras's backend is checked before Keras is imported.
# ruff: noqa: E402
from __future__ import annotations

import functools
import math
from collections.abc import Mapping

from keras_munet.core import keras_backend

keras_backend.require_tensorflow()

import keras
import numpy as np

from keras_munet import errors
from keras_munet.core import registry
from keras_munet.core import specs
from keras_munet.models.keras_blocks import layers as _blocks  # noqa: F401  registers
from keras_munet.models.vit import layers as _vit_layers  # noqa: F401  registers


def make_layer(
    spec: specs.ComponentSpec, name: str, dtype: str | None = None
) -> keras.layers.Layer:
    """Returns a new, unbuilt layer for `spec`.

    Args:
      spec: what the layer is.
      name: its name in the graph, unique there.
      dtype: a Keras dtype policy name; None for the global one.

    Raises:
      UsageError: no layer of that kind is registered.
      StoreError: the layer cannot be made from the spec's config.
    """
    layer_class = registry.LAYERS.get(spec.layer)
    try:
        return layer_class(**spec.config, name=name, dtype=dtype)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise errors.StoreError(
            f"component {spec.name!a} is no {spec.layer} that this program "
            f"can make: {' '.join(str(error).split())}; restore it from a copy "
            "of the system"
        ) from error


@functools.lru_cache(maxsize=256)
def unbuilt_layer(
    spec: specs.ComponentSpec, dtype: str | None = None
) -> keras.layers.Layer:
    """Returns the one layer of `spec` that is never built.

    Args:
      spec: what the layer is.
      dtype: see `make_layer`.
    """
    return make_layer(spec, spec.name, dtype)


def assign_values(
    layer: keras.layers.Layer,
    spec: specs.ComponentSpec,
    weights: Mapping[str, np.ndarray],
) -> None:
    """Gives a built layer the values of a component.

    Args:
      layer: built from `spec`, packed or not.
      spec: what the layer is.
      weights: weight name -> float32 array of the spec's shape.
    """
    if layer.packed:
        (variable,) = layer.weights
        variable.assign(pack(spec, weights))
        return
    for variable, (name, _) in zip(layer.weights, spec.weights, strict=True):
        variable.assign(weights[name])


def layer_values(
    layer: keras.layers.Layer, spec: specs.ComponentSpec
) -> dict[str, np.ndarray]:
    """Returns copies of a layer's values: weight name -> float32 array."""
    if layer.packed:
        (variable,) = layer.weights
        return unpack(spec, np.array(variable.numpy()))
    return {
        name: np.array(variable.numpy(), dtype=np.float32)
        for variable, (name, _) in zip(layer.weights, spec.weights, strict=True)
    }


def pack(
    spec: specs.ComponentSpec, arrays: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Returns the arrays of a component end to end, `[num_params]`."""
    return np.concatenate([arrays[name].ravel() for name, _ in spec.weights])


def unpack(
    spec: specs.ComponentSpec, packed: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns weight name -> its array, a view of `packed`."""
    arrays, start = {}, 0
    for name, shape in spec.weights:
        end = start + math.prod(shape)
        arrays[name] = packed[start:end].reshape(shape)
        start = end
    return arrays
