"""An adapter's layer: what TensorFlow computes for its record."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_munet import plugins


def _math(x: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Returns `x * scale + shift`, `[batch, tokens, width]`."""
    return x * tf.cast(scale, x.dtype) + tf.cast(shift, x.dtype)


@keras.saving.register_keras_serializable(package="munet_example")
class ScaleShift(plugins.VitLayer):
    """Scales and shifts each feature; a fresh one changes nothing."""

    size_names = ("width",)
    function = tf.function(_math, autograph=False)

    def __init__(self, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = width

    @property
    def spec_weights(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """(weight name, shape) in the order of the record."""
        return (("scale", (self.width,)), ("shift", (self.width,)))

    def first_value(
        self, name: str, shape: tuple[int, ...], rng: np.random.Generator
    ) -> np.ndarray:
        """Returns what a layer that nobody gives values starts from."""
        del rng
        return np.full(shape, name == "scale", np.float32)
