"""From the network that is trained to the network that is deployed.

Invariant: a contracted network has ordinary layers alone, under the same
names, and gives the outputs of the one it was made of; it has the parameters
and the operations of the network that was overparameterised.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from keras_munet import errors
from keras_munet.overparam import layers

# What the ordinary layers do not get.
_OWN_KEYS = ("tasks", "depth", "combination", "task_factor")


def contract(model: keras.Model) -> keras.Model:
    """Returns the ordinary network that gives a network's outputs.

    Args:
      model: functional or Sequential, with factorised layers or without; it
        is not changed.

    Raises:
      UsageError: the model has no graph of layers.
    """
    return rewritten(model, _contracted, _copy_contracted)


def rewritten(
    model: keras.Model,
    replace: Callable[[keras.layers.Layer], keras.layers.Layer],
    copy: Callable[[keras.layers.Layer, keras.layers.Layer], None],
) -> keras.Model:
    """Returns a copy of a model with some of its layers replaced.

    Args:
      model: functional or Sequential; models within it are rewritten too.
      replace: gives the new layer, unbuilt, that takes a layer's place.
      copy: moves the values of a layer to the built one in its place.

    Raises:
      UsageError: the model has no graph of layers.
    """
    check_graph(model)

    def replaced(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Model):
            return rewritten(layer, replace, copy)
        new = replace(layer)
        new.trainable = layer.trainable
        return new

    clone = keras.models.clone_model(model, clone_function=replaced)
    clone.name = model.name
    clone.trainable = model.trainable
    for old, new in zip(model.layers, clone.layers, strict=True):
        if isinstance(old, keras.Model):
            continue
        copy(old, new)
    return clone


def check_graph(model: Any) -> None:
    """Refuses what is no built functional or Sequential model.

    Raises:
      UsageError: it is none.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise errors.UsageError(
            f"{type(model).__name__} {getattr(model, 'name', '')!r} has no "
            "graph of layers; give a built functional or Sequential model"
        )


def num_params(model: keras.Model) -> int:
    """Returns how many numbers the weights of a model have."""
    return sum(math.prod(variable.shape) for variable in _numbers(model))


def multiply_adds(model: keras.Model) -> int:
    """Returns the multiply-adds of convolutions and products for one example.

    Each use of a layer counts. Factorised layers count as what they become;
    layers without a kernel count as nothing.

    Raises:
      UsageError: a layer with a kernel has an output of unknown size.
    """
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            total += multiply_adds(layer)
            continue
        kernel_shape = _kernel_shape(layer)
        if kernel_shape is None:
            continue
        # One output's numbers each take one column of the kernel.
        sides = layer.output.shape[1:]
        if None in sides:
            raise errors.UsageError(
                f"layer {layer.name!r} has an output of shape "
                f"{list(layer.output.shape)}; build the model for one size"
            )
        outputs = math.prod(sides)
        if isinstance(layer, keras.layers.Conv2DTranspose):
            # Each input's number meets the kernel, not each output's.
            outputs = math.prod(layer.input.shape[1:])
            total += outputs * math.prod(kernel_shape[:3])
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            total += outputs * math.prod(kernel_shape[:2])
        else:
            total += outputs * math.prod(kernel_shape[:-1])
    return total


def _numbers(model: keras.Model) -> list[keras.Variable]:
    """Returns the weights of a model; a dropout's seed is none."""
    return [v for v in model.weights if "float" in str(v.dtype)]


def _kernel_shape(layer: keras.layers.Layer) -> tuple[int, ...] | None:
    if isinstance(layer, layers.Factorized):
        return layer.arrangement.kernel_shape
    kernel = getattr(layer, "kernel", None)
    return None if kernel is None else tuple(kernel.shape)


def _contracted(layer: keras.layers.Layer) -> keras.layers.Layer:
    config = layer.get_config()
    if not isinstance(layer, layers.Factorized):
        return type(layer).from_config(config)
    plain = (
        keras.layers.Conv2D
        if isinstance(layer, layers.FactorizedConv2D)
        else keras.layers.Dense
    )
    return plain.from_config(
        {key: value for key, value in config.items() if key not in _OWN_KEYS}
    )


def _copy_contracted(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    if not isinstance(old, layers.Factorized):
        new.set_weights(old.get_weights())
        return
    # The very product that the factorised layer multiplies with.
    values: list[Any] = [keras.ops.convert_to_numpy(old.kernel)]
    if old.bias is not None:
        values.append(keras.ops.convert_to_numpy(old.bias))
    new.set_weights(values)
