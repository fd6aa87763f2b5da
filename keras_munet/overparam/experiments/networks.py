"""Builds the parts of compact networks: blocks, heads, checks of sizes.

Invariant: a network takes `[batch, height, width, 3]` of one static size and
gives task -> `[batch, height, width, channels] float32`, linear; all of it is
shared by the tasks but the heads. Layers have the same names in every process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_munet import errors

NUM_INPUT_CHANNELS = 3


def image_input(image_size: tuple[int, int], divisor: int) -> Any:
    """Returns the input of a network.

    Args:
      image_size: height and width, pixels.
      divisor: what both must be multiples of.

    Raises:
      UsageError: they are not.
    """
    height, width = image_size
    if min(height, width) < divisor or height % divisor or width % divisor:
        raise errors.UsageError(
            f"image_size is {height} x {width}; this network halves its input "
            f"until one place stands for {divisor} x {divisor}, so give "
            f"multiples of {divisor}, by cropping or padding the images, or "
            "use fewer stages"
        )
    return keras.Input((height, width, NUM_INPUT_CHANNELS), name="image")


def conv_block(x: Any, filters: int, name: str, strides: int = 1) -> Any:
    """Returns 3 x 3 convolution, batch norm and ReLU of `x`."""
    x = conv(x, filters, name, strides=strides)
    x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def conv(
    x: Any, filters: int, name: str, kernel_size: int = 3, strides: int = 1
) -> Any:
    """Returns a convolution without a bias, which a norm follows."""
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def with_heads(
    image: Any,
    features: Any,
    tasks: Mapping[str, int],
    width: int,
    name: str,
    scale: int = 1,
) -> keras.Model:
    """Returns the network with a head for each task.

    Args:
      image: the network's input.
      features: what the heads read, `[batch, height / scale, ...]`.
      tasks: task -> channels of its output.
      width: channels of the layer before each output.
      name: of the network.
      scale: how much smaller the features are than the image; outputs are
        enlarged to its size, linearly.

    Raises:
      UsageError: there is no task, or one has a bad name or no channels.
    """
    _check_tasks(tasks)
    outputs = {}
    for task in sorted(tasks):
        x = conv_block(features, width, f"{task}_conv")
        # Losses of bfloat16 outputs would be too coarse.
        x = keras.layers.Conv2D(
            tasks[task], 1, dtype="float32", name=f"{task}_output"
        )(x)
        if scale > 1:
            x = keras.layers.UpSampling2D(
                scale,
                interpolation="bilinear",
                dtype="float32",
                name=f"{task}_enlarged",
            )(x)
        outputs[task] = x
    return keras.Model(image, outputs, name=name)


def without_norms(model: keras.Model) -> keras.Model:
    """Returns a network without batch norms, whose layers have biases.

    Args:
      model: of this module's blocks; it is not changed. Kernels are copied.
    """

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if "use_bias" in config:
            config["use_bias"] = True
        return type(layer).from_config(config)

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        return args[0] if is_norm else layer(*args, **kwargs)

    clone = keras.models.clone_model(
        model, clone_function=copy, call_function=call
    )
    for layer in clone.layers:
        for old, new in zip(
            model.get_layer(layer.name).weights, layer.weights, strict=False
        ):
            new.assign(old)
    return clone


def check_counts(**counts: int) -> None:
    """Refuses what is no integer of 1 or more.

    Raises:
      UsageError: one is not, by name.
    """
    for what, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise errors.UsageError(
                f"{what} is {value!r}; give an integer of 1 or more"
            )


def _check_tasks(tasks: Mapping[str, int]) -> None:
    bad = [task for task in tasks if not str(task).isidentifier()]
    if bad or not tasks:
        raise errors.UsageError(
            f"tasks are {list(tasks)!r}; give one or more names of letters, "
            "digits and _"
        )
    check_counts(**{f"the channels of {t}": n for t, n in tasks.items()})
