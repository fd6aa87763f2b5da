"""A root from a model of `keras.applications`, by its name.

Invariant: a pixel reaches the model as its own `preprocess_input` gives it:
what is no range of pixel values becomes a convolution of one pixel in front.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import numpy as np

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.roots import keras_source
from keras_munet.roots import root as root_lib
from keras_munet.roots import source as source_lib

_IMAGENET = "imagenet"
_RANDOM = "random"
_LARGEST = 255.0
_HEADLESS: dict[str, Any] = {"include_top": False, "pooling": "avg"}


def from_name(
    name: str,
    *,
    blocks: str | None = None,
    features: str | None = None,
    image_size: int | None = None,
    **options: Any,
) -> root_lib.Root:
    """Returns the root that a model of `keras.applications` makes.

    Args:
      name: of the model, e.g. `MobileNetV3Small`, whose ImageNet weights
        Keras fetches once; `NAME@FILE` for a file of weights of the model
        without its top, `NAME@random` for random values.
      blocks: see `keras_source.from_keras`.
      features: see `keras_source.from_keras`.
      image_size: side of the square input, pixels.
      **options: as of `keras_source.from_keras`.

    Raises:
      UsageError: there is no such model, or it does not take the size.
      CheckpointError: the weights cannot be had or do not fit.

    Example:
      >>> root = from_name("MobileNetV3Small@random", image_size=32)
      >>> root.source
      'keras_applications MobileNetV3Small@random'
    """
    bare, _, weights = name.partition("@")
    make = _model(bare)
    side = image_size or 224
    weights = os.path.expanduser(weights) or _IMAGENET
    if weights not in (_IMAGENET, _RANDOM) and not os.path.isfile(weights):
        raise errors.CheckpointError(
            f"{weights} is no file; give a file of weights of {bare} without "
            f"its top, as {bare}@FILE.weights.h5"
        )
    try:
        model = make(weights=None, input_shape=(side, side, 3), **_HEADLESS)
    except ValueError as error:
        raise errors.UsageError(
            f"{bare} takes no images of {side} px ({_first_line(error)}); "
            "choose another root.image_size"
        ) from error
    if weights != _RANDOM:
        # What a download or a file can raise depends on both.
        try:
            if weights == _IMAGENET:
                pretrained = make(weights=_IMAGENET, **_HEADLESS)
                model.set_weights(pretrained.get_weights())
            else:
                with warnings.catch_warnings():
                    # Keras warns of layers that a file does not fill.
                    warnings.simplefilter("error", UserWarning)
                    model.load_weights(weights)
        except Exception as error:
            raise errors.CheckpointError(
                f"weights {weights!r} of {bare} cannot be had "
                f"({_first_line(error)}); check the network or give a file as "
                f"{bare}@FILE.weights.h5"
            ) from error
    kernel, bias = _preprocessing(make)
    scale = kernel[0, 0]
    if np.allclose(kernel, scale * np.eye(3)) and np.allclose(bias, bias[0]):
        low, high = float(bias[0]), float(bias[0] + _LARGEST * scale)
    else:
        low, high = 0.0, _LARGEST
        model = _preceded(make, model, kernel, bias)
    root = keras_source.from_keras(
        model,
        blocks=blocks,
        features=features,
        pixel_range=(round(low, 6), round(high, 6)),
        image_size=image_size,
        **options,
    )
    return root_lib.Root(
        root.family,
        root.components,
        root.hparams,
        f"keras_applications {name}",
    )


def _model(name: str) -> Any:
    """Returns the function that makes a model of a name.

    Raises:
      UsageError: there is none.
    """
    import keras

    names = sorted(
        key
        for key, value in vars(keras.applications).items()
        if callable(value) and key[0].isupper()
    )
    if name not in names:
        raise errors.UsageError(
            f"keras.applications has no model {name!r}; it has: "
            f"{', '.join(names)}"
        )
    return getattr(keras.applications, name)


def _preprocessing(make: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns kernel `[3, 3]` and bias `[3]` of what is done to a pixel.

    Every `preprocess_input` is affine, so four pixels tell it.
    """
    preprocess = sys.modules[make.__module__].preprocess_input
    pixels = np.zeros([1, 4, 1, 3], np.float32)
    pixels[0, 1:, 0] = _LARGEST * np.eye(3)
    values = np.asarray(preprocess(pixels.copy()), np.float64)[0, :, 0]
    return (values[1:] - values[0]) / _LARGEST, values[0]


def _preceded(
    make: Any, model: Any, kernel: np.ndarray, bias: np.ndarray
) -> Any:
    """Returns a model behind a convolution that prepares its pixels."""
    import keras

    first = keras.layers.Conv2D(3, 1, name="preprocess_input")
    images = keras.Input(model.inputs[0].shape[1:])
    prepared = first(images)
    behind = make(weights=None, input_tensor=prepared, **_HEADLESS)
    behind.set_weights(
        [kernel[np.newaxis, np.newaxis], bias, *model.get_weights()]
    )
    return behind


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:160]


def _build(settings: settings_lib.RootSettings, **sizes: Any) -> root_lib.Root:
    return from_name(
        settings.path,
        blocks=settings.blocks or None,
        features=settings.features or None,
        **sizes,
    )


SOURCE = source_lib.RootSource(
    build=_build,
    path_help="the name of a model of keras.applications, e.g. "
    "MobileNetV3Small",
    licence="licence of Keras's weights, Apache-2.0 where Keras trained them; "
    "ImageNet-1k",
)
