"""Turns uint8 images into a model's input, for training and otherwise.

Invariant: every hyperparameter is a tensor and every shape is fixed, so one
trace serves all values; a crop followed by a bilinear resize is computed as
two matrix products per image and equals the two operations exactly. Section 3
of the method, "Preprocessing".
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_munet.core import fingerprint as fingerprint_lib
from keras_munet.data import cropping
from keras_munet.data import picture_decoder

_NUM_CHANNELS = 3
# Four for the crop, one for the flip, four for the colours, two for the shift,
# one for the zoom and one for mixup. More at the end change none of those
# before.
NUM_DRAWS = 13
# Pixels in [0, 255] divided by it, less 1, lie in [-1, 1].
_HALF_RANGE = 127.5


class ColorJitter(enum.Enum):
    """Names when a training image's saturation and hue are varied.

    `BEFORE_RESIZE` is published. `AFTER_RESIZE` varies as many pixels as the
    model reads; of an image stored at 160 pixels and read at 32, 1 of 25.
    """

    OFF = "off"
    BEFORE_RESIZE = "before_resize"
    AFTER_RESIZE = "after_resize"


# Whole training images are averaged beforehand to no less than so many times
# the side of the input.
_OVERSAMPLING_MIN = 1.25
_NUM_AT_A_TIME = 256


class AugmentHparams(NamedTuple):
    """The strengths of augmentation; Python values or scalar tensors.

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
      antialias: bool; whether pixels are averaged where an image shrinks.
      shift: s; moves by [-s, s) of the height and of the width; what comes
        in at a border is reflected.
      zoom: z; scales both sides of what is seen by [1 - z, 1 + z).
      mixup: m; a share from [0, m) of an image is that of another one; see
        `mixed`.
    """

    crop: bool | tf.Tensor
    area_range_min: float | tf.Tensor
    aspect_ratio_range_min: float | tf.Tensor
    flip_left_right: bool | tf.Tensor
    brightness_delta: float | tf.Tensor
    contrast_delta: float | tf.Tensor
    saturation_delta: float | tf.Tensor
    hue_delta: float | tf.Tensor
    antialias: bool | tf.Tensor = False
    shift: float | tf.Tensor = 0.0
    zoom: float | tf.Tensor = 0.0
    mixup: float | tf.Tensor = 0.0


def antialias(hparams: Mapping[str, Any]) -> bool:
    """Returns whether a path's images are averaged where they shrink.

    Paths of systems from before the setting have no such hyperparameter.
    """
    return bool(hparams.get("ds_antialias", False))


class ModelInput(NamedTuple):
    """Turns a picture of any size into the input of a path.

    Attributes:
      image_size: side of the input, pixels.
      antialias: see `evaluation_images`.
      stored: height and width that preparing gave the task's own pictures,
        which any picture gets first; None where they did not come from files.
    """

    image_size: int
    antialias: bool
    stored: tuple[int, int] | None = None

    def of(self, images: tf.Tensor) -> tf.Tensor:
        """Returns `[batch, image_size, image_size, 3] float32` in [-1, 1].

        Args:
          images: `[batch, height, width, 3] uint8`, as decoded.
        """
        if self.stored is not None:
            height, width = self.stored
            shape = tf.shape(images)[1:3]
            images = tf.cond(
                tf.reduce_all(shape == [height, width]),
                lambda: images,
                lambda: picture_decoder.resized(images, height, width),
            )
        return evaluation_images(images, self.image_size, self.antialias)


def task_input(
    hparams: Mapping[str, Any],
    fingerprint: fingerprint_lib.DataFingerprint | None,
) -> ModelInput:
    """Returns what a picture of any size becomes for a task.

    Args:
      hparams: of the task's published path.
      fingerprint: of the data that trained the path; None where the system
        did not record it.
    """
    stored = None
    if fingerprint is not None and all(
        split.files for split in fingerprint.splits.values()
    ):
        height, width, _ = fingerprint.image_shape
        stored = height, width
    return ModelInput(hparams["ds_image_size"], antialias(hparams), stored)


def augment_hparams(
    hparams: Mapping[str, Any], num_channels: int = _NUM_CHANNELS
) -> tuple[AugmentHparams, ColorJitter]:
    """Returns what `training_images` needs of a path's hyperparameters.

    Args:
      hparams: `ds_area_range_min`, `ds_aspect_ratio_range_min` and
        `ds_flip_left_right`; optionally `ds_crop` (True), `ds_antialias`
        (False), the deltas `ds_{brightness,contrast,saturation,hue}_delta`,
        `ds_shift`, `ds_zoom` and `ds_mixup` (0).
      num_channels: of the stored images; saturation and hue of grey ones
        cannot vary.

    Returns:
      The record, of Python values, and when saturation and hue vary.
    """
    deltas = {
        f"{color}_delta": float(hparams.get(f"ds_{color}_delta", 0.0))
        for color in ("brightness", "contrast", "saturation", "hue")
    }
    record = AugmentHparams(
        crop=bool(hparams.get("ds_crop", True)),
        area_range_min=float(hparams["ds_area_range_min"]),
        aspect_ratio_range_min=float(hparams["ds_aspect_ratio_range_min"]),
        flip_left_right=bool(hparams["ds_flip_left_right"]),
        antialias=antialias(hparams),
        shift=float(hparams.get("ds_shift", 0.0)),
        zoom=float(hparams.get("ds_zoom", 0.0)),
        mixup=float(hparams.get("ds_mixup", 0.0)),
        **deltas,
    )
    varies = record.saturation_delta > 0.0 or record.hue_delta > 0.0
    if not varies or num_channels != _NUM_CHANNELS:
        return record, ColorJitter.OFF
    if record.antialias:
        return record, ColorJitter.AFTER_RESIZE
    return record, ColorJitter.BEFORE_RESIZE


def averaging_factor(
    image_shape: Sequence[int], data_hparams: Mapping[str, Any]
) -> int:
    """Returns by what stored training images may shrink before a training.

    Training without crops reads whole images, so pixels that the model never
    resolves are averaged once and not in every step. The factor divides both
    sides and leaves 1.25 times the input's; what remains is averaged in the
    step. The mean of 4 x 4 pixels widens the filter of a reduction from 160
    to 32 pixels by 14% (its variance by 1.25 of 4.2 square pixels), about as
    much as a zoom of 0.1 does.

    Args:
      image_shape: height, width and channels of a stored image.
      data_hparams: the `ds_*` hyperparameters of a training.

    Returns:
      1 where images are cropped or not averaged at all.
    """
    if not antialias(data_hparams) or data_hparams.get("ds_crop", True):
        return 1
    height, width, _ = image_shape
    side_min = _OVERSAMPLING_MIN * data_hparams["ds_image_size"]
    largest = int(min(height, width) / side_min)
    return next(
        (f for f in range(largest, 1, -1) if height % f == width % f == 0), 1
    )


def averaged(images: np.ndarray, factor: int) -> np.ndarray:
    """Returns the means of `factor` x `factor` pixels, rounded.

    Args:
      images: `[n, height, width, channels] uint8`.
      factor: divides height and width.
    """
    num, height, width, channels = images.shape
    shape = num, height // factor, width // factor, channels
    result = np.empty(shape, np.uint8)
    for start in range(0, num, _NUM_AT_A_TIME):
        rows = slice(start, start + _NUM_AT_A_TIME)
        # Whole lines are added, six times as fast as sums over four axes.
        sums = images[rows, ::factor].astype(np.uint32)
        for i in range(1, factor):
            sums += images[rows, i::factor]
        means = sums[:, :, ::factor] + factor * factor // 2
        for i in range(1, factor):
            means += sums[:, :, i::factor]
        result[rows] = means // (factor * factor)
    return result


def evaluation_images(
    images: tf.Tensor, image_size: int, antialias: bool = False
) -> tf.Tensor:
    """Returns `[batch, image_size, image_size, 3] float32` in [-1, 1].

    Args:
      images: `[batch, height, width, 1 or 3] uint8`; any dimension may be
        unknown while tracing.
      image_size: side of the model's input, pixels.
      antialias: whether pixels are averaged where the image shrinks.
    """
    side = [image_size, image_size]
    # Before the channels are repeated: a grey image is resized once.
    if antialias and _shrinks(images, image_size):
        pixels = tf.image.resize(images, side, antialias=True)
        # Graphs multiply by the reciprocal anyway: the same bits eagerly.
        pixels = pixels * (1.0 / _HALF_RANGE) - 1.0
    else:
        pixels = tf.cast(images, tf.float32) / _HALF_RANGE - 1.0
        # TensorFlow resizes to the same size too, which runtimes of exported
        # files pay for.
        if images.shape[1:3] != side:
            pixels = tf.image.resize(pixels, side)
    return tf.clip_by_value(_with_channels(pixels), -1.0, 1.0)


def corner_images(
    images: tf.Tensor,
    image_size: int,
    antialias: tf.Tensor,
    sides: tf.Tensor,
) -> tf.Tensor:
    """Returns what `evaluation_images` does, for images in larger arrays.

    Args:
      images: `[batch, side, side, 3] uint8`, static.
      image_size: side of the model's input, pixels.
      antialias: scalar bool; see `evaluation_images`.
      sides: `[2] float32`, rows and columns of every image, which lies in the
        upper left corner.
    """
    zeros = tf.zeros([images.shape[0]])
    rows, columns = (
        cropping.resize_weights(
            zeros, zeros + length, size, image_size, antialias
        )
        for length, size in zip(
            tf.unstack(sides), images.shape[1:3], strict=True
        )
    )
    pixels = tf.cast(images, tf.float32) / _HALF_RANGE - 1.0
    pixels = cropping.resized(pixels, rows, columns)
    return tf.clip_by_value(pixels, -1.0, 1.0)


def _shrinks(images: tf.Tensor, image_size: int) -> bool:
    """Returns whether some image may be larger than the input.

    Averaging costs more than reading between pixels, at any size.
    """
    height, width = images.shape[1], images.shape[2]
    return (
        height is None
        or width is None
        or height > image_size
        or width > image_size
    )


def training_images(
    images: tf.Tensor,
    image_size: int,
    seed: tf.Tensor,
    hparams: AugmentHparams,
    jitter: ColorJitter = ColorJitter.OFF,
) -> tf.Tensor:
    """Returns randomly varied images, `[batch, size, size, 3] float32`.

    The order is scale to [-1, 1], crop, flip, brightness, contrast,
    saturation, hue, resize, clip; `ColorJitter.AFTER_RESIZE` resizes before
    saturation and hue. Each image has draws of its own.

    Args:
      images: `[batch, height, width, 1 or 3] uint8`, static but for batch.
      image_size: side of the model's input, pixels.
      seed: `[2] int32`; equal seeds give equal images on one kind of device.
        Under XLA the draws are others than without it.
      hparams: scalars or scalar tensors.
      jitter: whether saturation and hue are traced, and where; they cost
        more than the rest together.
    """
    num_images = images.shape[0] or tf.shape(images)[0]
    return varied_images(
        images,
        image_size,
        draws_of(seed, num_images),
        hparams,
        jitter,
    )


def draws_of(seed: tf.Tensor, num_images: int | tf.Tensor) -> tf.Tensor:
    """Returns the draws of a batch, `[13, batch] float32` in [0, 1)."""
    return tf.random.stateless_uniform([NUM_DRAWS, num_images], seed)


def varied_images(
    images: tf.Tensor,
    image_size: int,
    draws: tf.Tensor,
    hparams: AugmentHparams,
    jitter: ColorJitter = ColorJitter.OFF,
    sides: tf.Tensor | None = None,
) -> tf.Tensor:
    """Returns what `training_images` does, for draws that were made before.

    So each replica varies its share of a batch as one device would.

    Args:
      images: `[batch, height, width, 1 or 3] uint8`, static but for batch.
      image_size: side of the model's input, pixels.
      draws: `[13, batch] float32`, columns of `draws_of`.
      hparams: scalars or scalar tensors.
      jitter: whether saturation and hue are traced, and where.
      sides: `[2] float32`, rows and columns of images that lie in the upper
        left corner of larger arrays; None for the arrays' own.
    """
    height, width = images.shape[1], images.shape[2]
    tall, wide = (height, width) if sides is None else tf.unstack(sides)
    draws = tf.unstack(draws, num=NUM_DRAWS, axis=0)
    box = cropping.sample_boxes(
        tall,
        wide,
        hparams.crop,
        hparams.area_range_min,
        hparams.aspect_ratio_range_min,
        draws[:4],
    )
    flipped = tf.logical_and(draws[4] < 0.5, hparams.flip_left_right)

    brightness = _per_image(_symmetric(draws[5], hparams.brightness_delta))
    gain = _per_image(1.0 + _symmetric(draws[6], hparams.contrast_delta))
    shift, zoom = (
        tf.cast(v, tf.float32) for v in (hparams.shift, hparams.zoom)
    )
    is_moved = (shift > 0.0) | (zoom > 0.0)
    scaled = 1.0 + _symmetric(draws[11], zoom)
    rows, columns = (
        cropping.resize_weights(
            *(start, length, size, image_size, hparams.antialias),
            cropping.Move(is_moved, _symmetric(draw, shift), scaled),
        )
        for start, length, size, draw in (
            (box.y, box.height, height, draws[9]),
            (box.x, box.width, width, draws[10]),
        )
    )
    columns = tf.where(
        flipped[:, None, None], tf.reverse(columns, [1]), columns
    )
    # Scaling, brightness and contrast are one multiplication and one addition
    # per image and channel. The weights of a resize add up to 1, so these may
    # come after it, where there is less to do; hue and saturation may not.
    pixels = tf.cast(images, tf.float32)
    # Without contrast its factor, 1 - gain, is 0: the sums are spared.
    mean = tf.cond(
        tf.cast(hparams.contrast_delta, tf.float32) > 0.0,
        lambda: cropping.mean_inside(pixels, box) / _HALF_RANGE,
        lambda: tf.zeros([tf.shape(pixels)[0], 1, 1, pixels.shape[3]]),
    )
    turned_colors = functools.partial(
        _turned_colors,
        saturation_gain=1.0 + _symmetric(draws[7], hparams.saturation_delta),
        hue_shift=_symmetric(draws[8], hparams.hue_delta),
    )
    scale = gain / _HALF_RANGE
    offset = mean * (1.0 - gain) + brightness - 1.0
    if jitter is ColorJitter.BEFORE_RESIZE:
        pixels = _with_channels(pixels * scale + offset)
        pixels = turned_colors(pixels)
        pixels = cropping.resized(pixels, rows, columns)
    else:
        pixels = cropping.resized(pixels, rows, columns) * scale + offset
        pixels = _with_channels(pixels)
    if jitter is ColorJitter.AFTER_RESIZE:
        pixels = turned_colors(pixels)
    return tf.clip_by_value(pixels, -1.0, 1.0)


def mix_shares(draws: tf.Tensor, mixup: float | tf.Tensor) -> tf.Tensor:
    """Returns the share of each image that is another's, `[batch] float32`.

    Args:
      draws: as of `varied_images`.
      mixup: see `AugmentHparams`.
    """
    return draws[NUM_DRAWS - 1] * tf.cast(mixup, tf.float32)


def partners(values: tf.Tensor) -> tf.Tensor:
    """Returns the values of the image that each image is mixed with.

    Images are mixed in pairs, the first with the second and so on; the last
    one of an odd number is its own partner. Batches are shuffled, so partners
    are drawn.

    Args:
      values: `[batch, ...]`, static.
    """
    num_images = values.shape[0]
    order = [min(i ^ 1, num_images - 1) for i in range(num_images)]
    return tf.gather(values, order)


def mixed(images: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Returns images of which a share is the partner's (Zhang et al. 2018).

    Args:
      images: `[batch, height, width, channels] float32`.
      shares: from `mix_shares`.
    """
    shares = _per_image(shares)
    return (1.0 - shares) * images + shares * partners(images)


# Compiled, the colours take one pass over memory instead of twenty: a fifth of
# the time.
@functools.partial(tf.function, autograph=False, jit_compile=True)
def _turned_colors(
    pixels: tf.Tensor, saturation_gain: tf.Tensor, hue_shift: tf.Tensor
) -> tf.Tensor:
    """Returns images with other saturation and hue.

    The scale [-1, 1] is mapped to [0, 1], clipped there, changed as hue,
    saturation and value, and mapped back.

    Args:
      pixels: `[batch, height, width, 3] float32`.
      saturation_gain: `[batch] float32`.
      hue_shift: `[batch] float32`, in full circles.
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
