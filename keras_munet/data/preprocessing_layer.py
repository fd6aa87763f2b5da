"""A Keras layer that prepares raw pictures as training and evaluation do."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_munet import errors
from keras_munet.data import preprocessing


@keras.saving.register_keras_serializable(package="keras_munet")
class PicturePreprocessing(keras.layers.Layer):
    """Turns `[batch, height, width, 3] uint8` pictures into a model's input.

    Args:
      image_size: side of the model's input, pixels.
      antialias: as of `preprocessing.ModelInput`.
      stored: as of `preprocessing.ModelInput`.
      **kwargs: of every Keras layer.
    """

    def __init__(
        self,
        image_size: int,
        antialias: bool = False,
        stored: Sequence[int] | None = None,
        **kwargs: Any,
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self._model_input = preprocessing.ModelInput(
            image_size, antialias, (stored[0], stored[1]) if stored else None
        )
        # XLA compiles for fixed sizes alone.
        self.supports_jit = False

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns `[batch, image_size, image_size, 3] float32` in [-1, 1]."""
        return self._model_input.of(tf.cast(images, tf.uint8))

    def compute_output_spec(
        self, images: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s result."""
        size = self._model_input.image_size
        return keras.KerasTensor((images.shape[0], size, size, 3), "float32")

    def get_config(self) -> dict[str, Any]:
        """Returns what makes an equal layer."""
        return {**super().get_config(), **self._model_input._asdict()}


def shared(
    inputs: Mapping[str, preprocessing.ModelInput],
) -> PicturePreprocessing:
    """Returns the layer of a model that several tasks share.

    Args:
      inputs: task name -> how the task prepares pictures.

    Raises:
      UsageError: the tasks prepare pictures in different ways.
    """
    ways = set(inputs.values())
    if len(ways) > 1:
        raise errors.UsageError(
            f"the tasks {', '.join(inputs)} prepare pictures in {len(ways)} "
            "ways and cannot share one input; ask for one task at a time, or "
            "export, which prepares pictures per task"
        )
    return PicturePreprocessing(**ways.pop()._asdict(), name="preprocessing")
