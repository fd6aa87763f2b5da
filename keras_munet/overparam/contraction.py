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
from keras_munet.overparam import norm_folding

# What the ordinary layers do not get.
_OWN_KEYS = ("tasks", "depth", "task_factor")
_ORDINARY = {
    layers.FactorizedConv2D: keras.layers.Conv2D,
    layers.FactorizedConv2DTranspose: keras.layers.Conv2DTranspose,
    layers.FactorizedDense: keras.layers.Dense,
}
# They have two kernels.
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


def contract(model: keras.Model, *, fold_norms: bool = False) -> keras.Model:
    """Returns the ordinary network that gives a network's outputs.

    Args:
      model: functional or Sequential, with factorised layers or without; it
        is not changed.
      fold_norms: whether a batch norm that alone follows a linear convolution
        or dense layer becomes part of its kernel and bias. In inference the
        outputs are the same, to rounding.

    Raises:
      UsageError: the model has no graph of layers.

    Example:
      >>> image = keras.Input([8, 8, 3])
      >>> x = keras.layers.Conv2D(4, 3, use_bias=False)(image)
      >>> x = keras.layers.BatchNormalization()(x)
      >>> small = contract(keras.Model(image, x), fold_norms=True)
      >>> [type(layer).__name__ for layer in small.layers]
      ['InputLayer', 'Conv2D']
    """
    ordinary = rewritten(model, _contracted, _copy_contracted)
    return norm_folding.fold_norms(ordinary) if fold_norms else ordinary


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
    if not isinstance(model, keras.Sequential):
        # The same layers without what belongs to training, which a clone of
        # the model would compile anew.
        plain = keras.Model(model.input, model.output, name=model.name)
        plain.trainable = model.trainable
        model = plain

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
    check_graph(model)
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs)
    counts = []

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        # A factorised one would compute its first values.
        if isinstance(layer, layers.Factorized):
            return _contracted(layer)
        return type(layer).from_config(layer.get_config())

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        if isinstance(layer, keras.Model):
            counts.append(multiply_adds(layer))
        elif (
            isinstance(layer, _SEPARABLE)
            or getattr(layer, "kernel", None) is not None
        ):
            counts.append(_one_use(layer, args[0].shape, outputs.shape))
        return outputs

    keras.models.clone_model(model, clone_function=copy, call_function=call)
    return sum(counts)


def _one_use(
    layer: keras.layers.Layer,
    input_shape: tuple[Any, ...],
    output_shape: tuple[Any, ...],
) -> int:
    """Returns the multiply-adds of one use of a layer with a kernel."""
    if None in output_shape[1:]:
        raise errors.UsageError(
            f"layer {layer.name!r} has an output of shape "
            f"{list(output_shape)}; build the model for one size"
        )
    num_outputs = math.prod(output_shape[1:])
    if isinstance(layer, _SEPARABLE):
        num_filtered = layer.pointwise_kernel.shape[-2]
        num_places = num_outputs // layer.filters
        depthwise = num_places * math.prod(layer.depthwise_kernel.shape)
        return depthwise + num_outputs * num_filtered
    kernel_shape = tuple(layer.kernel.shape)
    if isinstance(layer, _TRANSPOSED):
        # Each input's number meets the kernel, not each output's.
        return math.prod(input_shape[1:]) * math.prod(kernel_shape[:-1])
    if isinstance(layer, _DEPTHWISE):
        return num_outputs * math.prod(kernel_shape[:-2])
    # One output's numbers each take one column of the kernel.
    return num_outputs * math.prod(kernel_shape[:-1])


def _numbers(model: keras.Model) -> list[keras.Variable]:
    """Returns the weights of a model; a dropout's seed is none."""
    return [v for v in model.weights if "float" in str(v.dtype)]


def _contracted(layer: keras.layers.Layer) -> keras.layers.Layer:
    config = layer.get_config()
    if not isinstance(layer, layers.Factorized):
        return type(layer).from_config(config)
    return _ORDINARY[type(layer)].from_config(
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
