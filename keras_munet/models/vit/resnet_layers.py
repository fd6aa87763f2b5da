"""The ResNet below a hybrid ViT as Keras layers, a component per unit.

Invariant: feature maps are `[batch, rows, columns, features]`; every kernel is
standardised and every norm's statistics are taken in float32, for any
dtype of the activations.

The ResNet is BiT's (Kolesnikov et al. 2019, arXiv 1912.11370) as the published
hybrids of ResNet and ViT have it: weight standardisation (Qiao et al. 2019,
arXiv 1903.10520) and group norm (Wu and He 2018, arXiv 1803.08494) in
bottleneck units that end, not begin, with their activation.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from keras_munet.core import registry
from keras_munet.models.vit import base
from keras_munet.models.vit import shapes

_KERNEL_EPSILON = 1e-5
_VARIANCE_MIN = 1e-30
_NORM_EPSILON = 1e-6
_ROOT_STRIDES = 2
_POOL_SIDE = 3
_POOL_STRIDES = 2
# Of each convolution a training step keeps its output, normalised, scaled and
# rectified.
_NUM_KEPT_PER_OUTPUT = 4

_serializable = keras.saving.register_keras_serializable(package="keras_munet")


def standard_convolution(
    x: tf.Tensor, kernel: tf.Tensor, strides: int = 1
) -> tf.Tensor:
    """Returns `x` convolved with a standardised kernel, without a bias.

    Args:
      x: `[batch, rows, columns, inputs]`.
      kernel: `[side, side, inputs, outputs] float32`; each output's has its
        mean taken off and is divided by its standard deviation and 1e-5.
      strides: of both sides; the border is zeros.
    """
    centred = kernel - tf.reduce_mean(kernel, [0, 1, 2])
    variance = tf.reduce_mean(tf.square(centred), [0, 1, 2])
    # At zero the gradient of a root is infinite; far below the epsilon it is
    # cut off.
    deviation = tf.sqrt(tf.maximum(variance, _VARIANCE_MIN))
    kernel = tf.cast(centred / (deviation + _KERNEL_EPSILON), x.dtype)
    return tf.nn.conv2d(x, kernel, strides, "SAME")


def group_norm(x: tf.Tensor, scale: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Returns `x` normalised over all positions and the features of a group.

    Args:
      x: `[batch, rows, columns, features]`.
      scale: `[features] float32`.
      bias: `[features] float32`.
    """
    features = scale.shape[0]
    # Numbers where they are known, as compilers for TPUs want them.
    sides = [
        x.shape[i] if x.shape[i] is not None else tf.shape(x)[i] for i in (1, 2)
    ]
    groups = [shapes.NUM_GROUPS, features // shapes.NUM_GROUPS]
    parts = tf.reshape(tf.cast(x, tf.float32), [-1, *sides, *groups])
    mean, variance = tf.nn.moments(parts, [1, 2, 4], keepdims=True)
    normal = (parts - mean) * tf.math.rsqrt(variance + _NORM_EPSILON)
    y = tf.reshape(normal, [-1, *sides, features]) * scale + bias
    return tf.cast(y, x.dtype)


def resnet_root_math(
    images: tf.Tensor, kernel: tf.Tensor, scale: tf.Tensor, bias: tf.Tensor
) -> tf.Tensor:
    """Returns `[batch, side / 4, side / 4, width]` of square images."""
    x = standard_convolution(images, kernel, _ROOT_STRIDES)
    x = tf.nn.relu(group_norm(x, scale, bias))
    return tf.nn.max_pool2d(x, _POOL_SIDE, _POOL_STRIDES, "SAME")


def resnet_unit_math(
    x: tf.Tensor, *weights: tf.Tensor, strides: int
) -> tf.Tensor:
    """Returns one bottleneck unit's output.

    Args:
      x: `[batch, rows, columns, input_width]`.
      *weights: in the order of `shapes.weights("ResNetUnit", ...)`.
      strides: of the middle convolution and of the projection.

    Returns:
      `[batch, rows / strides, columns / strides, 4 * features]`.
    """
    kernel_1, *norm_1 = weights[:3]
    kernel_2, *norm_2 = weights[3:6]
    kernel_3, *norm_3 = weights[6:9]
    y = tf.nn.relu(group_norm(standard_convolution(x, kernel_1), *norm_1))
    y = standard_convolution(y, kernel_2, strides)
    y = tf.nn.relu(group_norm(y, *norm_2))
    y = group_norm(standard_convolution(y, kernel_3), *norm_3)
    if weights[9:]:
        projection, *norm = weights[9:]
        x = group_norm(standard_convolution(x, projection, strides), *norm)
    return tf.nn.relu(x + y)


def _reduced(sides: Any, strides: int) -> tuple[int | None, ...]:
    """Returns how many positions sides have after a strided convolution."""
    return tuple(None if s is None else -(-s // strides) for s in sides)


def _num_positions(sides: Any) -> int:
    return math.prod(side or 1 for side in sides)


@_serializable
@registry.LAYERS.register("ResNetRoot")
class ResNetRoot(base.VitLayer):
    """A 7 x 7 convolution, a norm and a pooling; each side is quartered."""

    size_names = ("width",)
    function = tf.function(resnet_root_math, autograph=False)

    def __init__(self, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = width

    @property
    def input_width(self) -> int:
        """The channels of an image."""
        return shapes.NUM_CHANNELS

    def compute_output_shape(self, input_shape: base.Shape) -> base.Shape:
        """Returns `(batch, rows / 4, columns / 4, width)`."""
        batch, *sides, _ = input_shape
        reduced = _reduced(_reduced(sides, _ROOT_STRIDES), _POOL_STRIDES)
        return (batch, *reduced, self.width)

    def num_kept(self, input_shape: base.Shape, **options: bool) -> int:
        """Returns how many numbers a training step keeps for each example."""
        _, *sides, _ = input_shape
        positions = _num_positions(_reduced(sides, _ROOT_STRIDES))
        return _NUM_KEPT_PER_OUTPUT * positions * self.width


@_serializable
@registry.LAYERS.register("ResNetUnit")
class ResNetUnit(base.VitLayer):
    """Three convolutions, each behind a norm, added to the unit's input."""

    size_names = ("input_width", "features", "strides")
    function = tf.function(resnet_unit_math, autograph=False)

    def __init__(
        self, input_width: int, features: int, strides: int, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self._input_width = input_width
        self.features = features
        self.strides = strides

    @property
    def sizes(self) -> dict[str, int]:
        """The arguments that say the shapes of the weights."""
        return {
            "input_width": self._input_width,
            "features": self.features,
            "strides": self.strides,
        }

    @property
    def options(self) -> dict[str, bool | float]:
        """Returns the function's arguments besides the weights."""
        return {"strides": self.strides}

    @property
    def input_width(self) -> int:
        """The last axis of the input."""
        return self._input_width

    def compute_output_shape(self, input_shape: base.Shape) -> base.Shape:
        """Returns `(batch, rows, columns, 4 * features)`, rows by strides."""
        batch, *sides, _ = input_shape
        reduced = _reduced(sides, self.strides)
        return (batch, *reduced, shapes.EXPANSION * self.features)

    def num_kept(self, input_shape: base.Shape, **options: bool) -> int:
        """Returns how many numbers a training step keeps for each example."""
        _, *sides, _ = input_shape
        num_outputs = self.features * _num_positions(sides)
        above = self.features * _num_positions(_reduced(sides, self.strides))
        for name, _ in self.spec_weights[3:]:
            if name.endswith("kernel"):
                num_outputs += above * (
                    1 if name.startswith("conv2") else shapes.EXPANSION
                )
        return _NUM_KEPT_PER_OUTPUT * num_outputs
