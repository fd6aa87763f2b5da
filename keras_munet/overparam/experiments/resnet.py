"""Dense prediction on the features of a ResNet, or of any other backbone.

Invariant: the decoder adds, from the coarsest features to the finest, what
each stage says about a place (as feature pyramids do, Lin et al. 2017); all
of it is shared by the tasks but the heads.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from keras_munet import errors
from keras_munet.overparam.experiments import networks

_STEM_STRIDE = 4


def resnet(
    tasks: Mapping[str, int],
    image_size: tuple[int, int],
    *,
    width: int = 16,
    blocks_per_stage: Sequence[int] = (2, 2, 2, 2),
    decoder_width: int | None = None,
    name: str = "resnet",
) -> keras.Model:
    """Returns a ResNet of basic blocks with a decoder for several tasks.

    With a width of 64 the encoder is that of ResNet-18 (He et al. 2016).

    Args:
      tasks: task -> channels of its output.
      image_size: height and width, pixels; multiples of the coarsest stride,
        32 with four stages.
      width: channels of the first stage; each further one has twice as many.
      blocks_per_stage: residual blocks.
      decoder_width: channels of the decoder; None for those of the second
        stage.
      name: of the model.

    Raises:
      UsageError: a size cannot be.
    """
    networks.check_counts(
        width=width, **{f"stage {i}": n for i, n in enumerate(blocks_per_stage)}
    )
    num_stages = len(blocks_per_stage)
    networks.check_counts(num_stages=num_stages)
    image = networks.image_input(
        image_size, _STEM_STRIDE * 2 ** (num_stages - 1)
    )
    x = networks.conv(image, width, "stem", kernel_size=7, strides=2)
    x = keras.layers.BatchNormalization(name="stem_norm")(x)
    x = keras.layers.ReLU(name="stem_relu")(x)
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    stages = []
    for i, num_blocks in enumerate(blocks_per_stage):
        for j in range(num_blocks):
            strides = 2 if i and not j else 1
            x = _basic_block(x, width * 2**i, f"stage{i}_block{j}", strides)
        stages.append(x)
    backbone = keras.Model(image, stages, name=f"{name}_backbone")
    return dense_decoder(
        backbone,
        [f"stage{i}_block{n - 1}_out" for i, n in enumerate(blocks_per_stage)],
        tasks,
        width=decoder_width or 2 * width,
        name=name,
    )


def dense_decoder(
    backbone: keras.Model,
    features: Sequence[str],
    tasks: Mapping[str, int],
    *,
    width: int,
    name: str = "dense",
) -> keras.Model:
    """Returns a network for several tasks on a backbone's features.

    Args:
      backbone: functional, of one image input of static size; its layers and
        weights become the network's own.
      features: layers of the backbone from fine to coarse, each half as large
        as the one before, e.g. `conv2_block3_out` to `conv5_block3_out` of
        `keras.applications.ResNet50`.
      tasks: task -> channels of its output.
      width: channels of the decoder.
      name: of the model.

    Raises:
      UsageError: a layer is unknown, or the sizes do not halve.
    """
    networks.check_counts(width=width)
    image = backbone.inputs[0]
    stages = [_feature(backbone, layer) for layer in features]
    sides = [(tuple(image.shape[1:3]), image.name)]
    sides += [
        (tuple(stage.shape[1:3]), name)
        for stage, name in zip(stages, features, strict=True)
    ]
    _check_sides(sides)
    x: Any = None
    for i in reversed(range(len(stages))):
        own = networks.conv(stages[i], width, f"decoder{i}_side", 1)
        own = keras.layers.BatchNormalization(name=f"decoder{i}_side_norm")(own)
        if x is not None:
            larger = keras.layers.UpSampling2D(2, name=f"decoder{i}_enlarged")
            own = keras.layers.Add(name=f"decoder{i}_sum")([own, larger(x)])
        x = networks.conv_block(own, width, f"decoder{i}_conv")
    scale = image.shape[1] // x.shape[1]
    return networks.with_heads(image, x, tasks, width, name, scale)


def _basic_block(x: Any, filters: int, name: str, strides: int) -> Any:
    """Returns a residual block of two 3 x 3 convolutions."""
    y = networks.conv_block(x, filters, f"{name}_conv0", strides)
    y = networks.conv(y, filters, f"{name}_conv1")
    y = keras.layers.BatchNormalization(name=f"{name}_conv1_norm")(y)
    if strides > 1 or x.shape[-1] != filters:
        x = networks.conv(x, filters, f"{name}_side", 1, strides)
        x = keras.layers.BatchNormalization(name=f"{name}_side_norm")(x)
    y = keras.layers.Add(name=f"{name}_sum")([y, x])
    return keras.layers.ReLU(name=f"{name}_out")(y)


def _feature(backbone: keras.Model, layer: str) -> Any:
    names = [own.name for own in backbone.layers]
    if layer not in names:
        raise errors.UsageError(
            f"the backbone has no layer {layer!r}; its last ones are "
            f"{', '.join(names[-5:])}"
        )
    return backbone.get_layer(layer).output


def _check_sides(sides: Sequence[tuple[tuple[int, ...], str]]) -> None:
    if len(sides) < 2:
        raise errors.UsageError("the decoder has no features; name a layer")
    (image, _), (first, first_name) = sides[:2]
    if None in image or any(a % b for a, b in zip(image, first, strict=True)):
        raise errors.UsageError(
            f"layer {first_name!r} has {list(first)} places for an image of "
            f"{list(image)}; give a backbone of a size that divides"
        )
    for (finer, _), (coarser, name) in itertools.pairwise(sides[1:]):
        if any(a != 2 * b for a, b in zip(finer, coarser, strict=True)):
            raise errors.UsageError(
                f"layer {name!r} has {list(coarser)} places after {list(finer)}"
                "; give features from fine to coarse of half the size each"
            )
