"""Unpooling that remembers where the greatest values stood (SegNet's).

Invariant: shapes are static and nothing is scattered, so that it runs on any
device; of equal values the first is taken to be the greatest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_munet import errors

_SIDE = 2


@keras.saving.register_keras_serializable(package="keras_munet")
class MaxUnpooling2D(keras.layers.Layer):
    """Puts pooled values back where 2 x 2 max pooling found its own.

    Called with (values, before): `[batch, h, w, c]`, and `[batch, 2h, 2w, c]`
    that the pooling had for input; returns the shape of `before`, zero but at
    the place of each window's greatest value (Badrinarayanan et al. 2017).
    """

    def build(self, input_shape: Sequence[Sequence[int | None]]) -> None:
        """Checks the shapes; there are no weights.

        Raises:
          UsageError: they do not belong together.
        """
        values, before = (tuple(shape) for shape in input_shape)
        height, width, num_channels = (side or 0 for side in values[1:])
        expected = (height * _SIDE, width * _SIDE, num_channels)
        if before[1:] != expected:
            raise errors.UsageError(
                f"layer {self.name!r} got values of shape {list(values)} and "
                f"{list(before)} for what was pooled; the latter must be "
                f"{[before[0], *expected]}"
            )

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the unpooled values."""
        values, before = inputs
        _, height, width, num_channels = values.shape
        shape = (-1, height, width, _SIDE * _SIDE, num_channels)
        windows = tf.reshape(tf.nn.space_to_depth(before, _SIDE), shape)
        places = tf.one_hot(
            tf.argmax(windows, axis=3, output_type=tf.int32),
            _SIDE * _SIDE,
            axis=3,
            dtype=values.dtype,
        )
        spread = tf.expand_dims(values, 3) * places
        flat = (-1, height, width, _SIDE * _SIDE * num_channels)
        return tf.nn.depth_to_space(tf.reshape(spread, flat), _SIDE)

    def compute_output_shape(
        self, input_shape: Sequence[Sequence[int | None]]
    ) -> tuple[int | None, ...]:
        """Returns the shape of what was pooled."""
        return tuple(input_shape[1])

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Returns shape and dtype without tracing anything."""
        return keras.KerasTensor(inputs[1].shape, dtype=self.compute_dtype)
