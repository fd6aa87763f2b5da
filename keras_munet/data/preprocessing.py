"""What turns uint8 images into a model's input, for training and otherwise.

Invariant: every hyperparameter is a tensor and every shape is fixed, so one
trace serves all values; a crop followed by a bilinear resize is computed as
two matrix products per image and equals the two operations exactly. Section 3
of the method, "Preprocessing".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import tensorflow as tf

from keras_munet.data import cropping

_NUM_CHANNELS = 3
# Four for the crop, one for the flip, four for the colours.
NUM_DRAWS = 9
# Pixels in [0, 255] divided by it, less 1, lie in [-1, 1].
_HALF_RANGE = 127.5


class AugmentHparams(NamedTuple):
    """How training images are varied; Python values or scalar tensors.

    Attributes:
      crop: bool; False keeps the whole image.
      area_range_min: least share of the image's area in a crop, (0, 1].
      aspect_ratio_range_min: least width / height of a crop, (0, 1]; the
        greatest is its inverse.
      flip_left_right: bool; half of the images are mirrored.
      brightness_delta: d; adds a value from [-d, d) on the scale [-1, 1].
      contrast_delta: d; scales by [1 - d, 1 + d) about the crop's mean.
      saturation_delta: d; scales saturation by [1 - d, 1 + d).
      hue_delta: d; turns the hue by [-d, d) of a full circle.
    """

    crop: bool | tf.Tensor
    area_range_min: float | tf.Tensor
    aspect_ratio_range_min: float | tf.Tensor
    flip_left_right: bool | tf.Tensor
    brightness_delta: float | tf.Tensor
    contrast_delta: float | tf.Tensor
    saturation_delta: float | tf.Tensor
    hue_delta: float | tf.Tensor


def augment_hparams(hparams: Mapping[str, Any]) -> tuple[AugmentHparams, bool]:
    """Returns what `training_images` needs of a path's hyperparameters.

    Args:
      hparams: `ds_area_range_min`, `ds_aspect_ratio_range_min` and
        `ds_flip_left_right`; optionally `ds_crop` (True) and the deltas
        `ds_{brightness,contrast,saturation,hue}_delta` (0).

    Returns:
      The record, of Python values, and whether saturation or hue vary.
    """
    deltas = {
        f"{kind}_delta": float(hparams.get(f"ds_{kind}_delta", 0.0))
        for kind in ("brightness", "contrast", "saturation", "hue")
    }
    record = AugmentHparams(
        crop=bool(hparams.get("ds_crop", True)),
        area_range_min=float(hparams["ds_area_range_min"]),
        aspect_ratio_range_min=float(hparams["ds_aspect_ratio_range_min"]),
        flip_left_right=bool(hparams["ds_flip_left_right"]),
        **deltas,
    )
    return record, record.saturation_delta > 0.0 or record.hue_delta > 0.0


def evaluation_images(images: tf.Tensor, image_size: int) -> tf.Tensor:
    """Returns `[batch, image_size, image_size, 3] float32` in [-1, 1].

    Args:
      images: `[batch, height, width, 1 or 3] uint8`; any dimension may be
        unknown while tracing.
      image_size: side of the model's input, pixels.
    """
    pixels = tf.cast(images, tf.float32) / _HALF_RANGE - 1.0
    # Before the channels are repeated: a grey image is resized once.
    pixels = tf.image.resize(pixels, [image_size, image_size])
    return tf.clip_by_value(_with_channels(pixels), -1.0, 1.0)


def training_images(
    images: tf.Tensor,
    image_size: int,
    seed: tf.Tensor,
    hparams: AugmentHparams,
    use_color_jitter: bool = False,
) -> tf.Tensor:
    """Returns randomly varied images, `[batch, size, size, 3] float32`.

    The order is scale to [-1, 1], crop, flip, brightness, contrast,
    saturation, hue, resize, clip. Each image has draws of its own.

    Args:
      images: `[batch, height, width, 1 or 3] uint8`, static but for batch.
      image_size: side of the model's input, pixels.
      seed: `[2] int32`; equal seeds give equal images on one kind of device.
        Under XLA the draws are others than without it.
      hparams: scalars or scalar tensors.
      use_color_jitter: whether saturation and hue are traced at all; they
        cost more than the rest together.
    """
    num_images = images.shape[0] or tf.shape(images)[0]
    return varied_images(
        images,
        image_size,
        draws_of(seed, num_images),
        hparams,
        use_color_jitter,
    )


def draws_of(seed: tf.Tensor, num_images: int | tf.Tensor) -> tf.Tensor:
    """Returns the draws of a batch, `[9, batch] float32` in [0, 1)."""
    return tf.random.stateless_uniform([NUM_DRAWS, num_images], seed)


def varied_images(
    images: tf.Tensor,
    image_size: int,
    draws: tf.Tensor,
    hparams: AugmentHparams,
    use_color_jitter: bool = False,
) -> tf.Tensor:
    """Returns what `training_images` does, for draws that were made before.

    So each replica varies its share of a batch as one device would.

    Args:
      images: `[batch, height, width, 1 or 3] uint8`, static but for batch.
      image_size: side of the model's input, pixels.
      draws: `[9, batch] float32`, columns of `draws_of`.
      hparams: scalars or scalar tensors.
      use_color_jitter: whether saturation and hue are traced at all.
    """
    height, width = images.shape[1], images.shape[2]
    draws = tf.unstack(draws, num=NUM_DRAWS, axis=0)
    box = cropping.sample_boxes(
        height,
        width,
        hparams.crop,
        hparams.area_range_min,
        hparams.aspect_ratio_range_min,
        draws[:4],
    )
    flipped = tf.logical_and(draws[4] < 0.5, hparams.flip_left_right)

    shift = _per_image(_symmetric(draws[5], hparams.brightness_delta))
    gain = _per_image(1.0 + _symmetric(draws[6], hparams.contrast_delta))
    rows = cropping.resize_weights(box.y, box.height, height, image_size)
    columns = cropping.resize_weights(box.x, box.width, width, image_size)
    columns = tf.where(
        flipped[:, None, None], tf.reverse(columns, [1]), columns
    )
    # Scaling, brightness and contrast are one multiplication and one addition
    # per image and channel. The weights of a resize add up to 1, so these may
    # come after it, where there is less to do; hue and saturation may not.
    pixels = tf.cast(images, tf.float32)
    mean = cropping.mean_inside(pixels, box) / _HALF_RANGE
    scale = gain / _HALF_RANGE
    offset = mean * (1.0 - gain) + shift - 1.0
    if use_color_jitter:
        pixels = _turned_colors(
            _with_channels(pixels * scale + offset),
            1.0 + _symmetric(draws[7], hparams.saturation_delta),
            _symmetric(draws[8], hparams.hue_delta),
        )
        pixels = cropping.resized(pixels, rows, columns)
    else:
        pixels = cropping.resized(pixels, rows, columns) * scale + offset
    return tf.clip_by_value(_with_channels(pixels), -1.0, 1.0)


def _turned_colors(
    pixels: tf.Tensor, saturation_gain: tf.Tensor, hue_shift: tf.Tensor
) -> tf.Tensor:
    """Returns `[batch, height, width, 3]` with other saturation and hue.

    The scale [-1, 1] is mapped to [0, 1], clipped there, changed as hue,
    saturation and value, and mapped back.
    """
    colors = tf.clip_by_value(0.5 * pixels + 0.5, 0.0, 1.0)
    hue, saturation, value = tf.unstack(tf.image.rgb_to_hsv(colors), axis=-1)
    hue = tf.math.floormod(hue + hue_shift[:, None, None], 1.0)
    saturation = tf.clip_by_value(
        saturation * saturation_gain[:, None, None], 0.0, 1.0
    )
    colors = tf.image.hsv_to_rgb(tf.stack([hue, saturation, value], -1))
    return 2.0 * colors - 1.0


def _with_channels(pixels: tf.Tensor) -> tf.Tensor:
    """Returns pixels with 3 channels; a single one is repeated."""
    if pixels.shape[-1] == _NUM_CHANNELS:
        return pixels
    shape = tf.concat([tf.shape(pixels)[:-1], [_NUM_CHANNELS]], 0)
    repeated = tf.broadcast_to(pixels, shape)
    return tf.ensure_shape(repeated, [*pixels.shape[:-1], _NUM_CHANNELS])


def _symmetric(draw: tf.Tensor, delta: float | tf.Tensor) -> tf.Tensor:
    """Returns values uniform in [-delta, delta) from draws in [0, 1)."""
    return (2.0 * draw - 1.0) * tf.cast(delta, tf.float32)


def _per_image(values: tf.Tensor) -> tf.Tensor:
    return values[:, None, None, None]
