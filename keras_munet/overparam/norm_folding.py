"""Makes batch norms part of the layers before them.

Invariant: a norm is folded only where inference cannot tell: its input is the
output of one linear layer that nothing else reads, on the same channels.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

# Type -> the axis of the kernel that its outputs lie on.
_OUTPUT_AXES = {
    keras.layers.Conv2D: -1,
    keras.layers.Conv2DTranspose: 2,
    keras.layers.Dense: -1,
    keras.layers.DepthwiseConv2D: None,
}


def fold_norms(model: keras.Model) -> keras.Model:
    """Returns a model without the batch norms that can be folded.

    Args:
      model: functional or Sequential, of ordinary layers; it is not changed.
        Models within it are folded too.
    """
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    norm_of = _foldable(model)
    folded = set(norm_of.values())

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Model):
            return fold_norms(layer)
        config = layer.get_config()
        if layer.name in norm_of:
            config["use_bias"] = True
        new = type(layer).from_config(config)
        new.trainable = layer.trainable
        return new

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        return args[0] if layer.name in folded else layer(*args, **kwargs)

    clone = keras.models.clone_model(
        model, clone_function=copy, call_function=call
    )
    for new in clone.layers:
        old = model.get_layer(new.name)
        if isinstance(old, keras.Model):
            continue
        if new.name in norm_of:
            norm = model.get_layer(norm_of[new.name])
            new.set_weights(_folded_weights(old, norm))
        else:
            new.set_weights(old.get_weights())
    return clone


def _foldable(model: keras.Model) -> dict[str, str]:
    """Returns the name of a linear layer -> that of the norm behind it."""
    config = model.get_config()
    readers: dict[str, list[str]] = collections.defaultdict(list)
    num_uses = {}
    for entry in config["layers"]:
        num_uses[entry["name"]] = len(entry["inbound_nodes"])
        for name in _tensor_sources(entry["inbound_nodes"]):
            readers[name].append(entry["name"])
    for name in _output_sources(config["output_layers"]):
        readers[name].append("")
    table = {}
    for layer in model.layers:
        behind = readers[layer.name]
        if len(behind) != 1 or not behind[0] or num_uses[layer.name] != 1:
            continue
        norm = model.get_layer(behind[0])
        if (
            type(layer) in _OUTPUT_AXES
            and layer.activation is keras.activations.linear
            and type(norm) is keras.layers.BatchNormalization
            and num_uses[norm.name] == 1
            and _same_channels(layer, norm)
        ):
            table[layer.name] = norm.name
    return table


def _same_channels(layer: keras.layers.Layer, norm: keras.layers.Layer) -> bool:
    rank = len(layer.output.shape)
    axis = norm.axis[0] if isinstance(norm.axis, list | tuple) else norm.axis
    is_first = getattr(layer, "data_format", "") == "channels_first"
    return axis % rank == (1 if is_first else rank - 1)


def _tensor_sources(value: Any) -> Iterator[str]:
    """Yields the names of the layers whose tensors a saved call takes."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            yield value["config"]["keras_history"][0]
            return
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _tensor_sources(item)


def _output_sources(value: Any) -> Iterator[str]:
    """Yields the names of the layers that give a model's outputs."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], str):
            yield value[0]
            return
        for item in value:
            yield from _output_sources(item)


def _folded_weights(
    layer: keras.layers.Layer, norm: keras.layers.Layer
) -> list[np.ndarray]:
    """Returns kernel and bias of a layer with its norm."""
    numpy = keras.ops.convert_to_numpy
    mean, variance = numpy(norm.moving_mean), numpy(norm.moving_variance)
    scale = 1.0 / np.sqrt(variance.astype(np.float64) + norm.epsilon)
    if norm.gamma is not None:
        scale = scale * numpy(norm.gamma)
    bias = numpy(layer.bias) if layer.bias is not None else 0.0
    shift = 0.0 if norm.beta is None else numpy(norm.beta)
    kernel = numpy(layer.kernel)
    axis = _OUTPUT_AXES[type(layer)]
    if axis is None:
        # One filter per input channel and multiplier, in this order.
        factors = scale.reshape(kernel.shape[2:])
    else:
        shape = [1] * kernel.ndim
        shape[axis] = -1
        factors = scale.reshape(shape)
    return [
        (kernel * factors).astype(kernel.dtype),
        ((bias - mean) * scale + shift).astype(kernel.dtype),
    ]
