"""Random crops and their resize, as two matrix products per image.

Invariant: a crop followed by a bilinear resize equals the product of row
weights, image and column weights, to the precision of the device's matrix
products. All shapes are fixed, for any boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

# Keeps a whole number, reached by float division, from being rounded up.
_ROUNDING = 1e-4


class Boxes(NamedTuple):
    """Pixel boxes, one for each image; whole numbers held as floats.

    Attributes:
      y: `[batch] float32`, the top row.
      x: `[batch] float32`, the left column.
      height: `[batch] float32`, rows.
      width: `[batch] float32`, columns.
    """

    y: tf.Tensor
    x: tf.Tensor
    height: tf.Tensor
    width: tf.Tensor


class Move(NamedTuple):
    """Holds the shift and zoom of each image along one axis.

    Attributes:
      is_on: scalar bool; without it places keep their very bits.
      shift: `[batch] float32`, as a share of the crop's length.
      zoom: `[batch] float32`, pixels of the crop per pixel without zoom.
    """

    is_on: tf.Tensor
    shift: tf.Tensor
    zoom: tf.Tensor


def sample_boxes(
    height: int | tf.Tensor,
    width: int | tf.Tensor,
    crop: bool | tf.Tensor,
    area_range_min: float | tf.Tensor,
    aspect_ratio_range_min: float | tf.Tensor,
    draws: Sequence[tf.Tensor],
) -> Boxes:
    """Returns random boxes that lie inside a `height` x `width` image.

    The distribution is that of a distorted bounding box (Szegedy et al. 2015,
    as in `tf.image.sample_distorted_bounding_box`): a uniform aspect ratio,
    then a uniform whole height among those that keep to the area range. Where
    that operation draws again until a ratio admits a box, this one draws from
    the ratios that do: H and W being the image's sides and A the least share,
    these are [A W / H, W / (A H)]. Without any, the box is the whole image.

    Args:
      height: rows of the image; a float32 scalar where it is a tensor.
      width: columns of the image; likewise.
      crop: scalar bool; False gives the whole image.
      area_range_min: scalar; the least share of the image's area.
      aspect_ratio_range_min: scalar; the least width / height.
      draws: four of `[batch] float32`, uniform in [0, 1): they pick the
        aspect ratio, the height, the top row and the left column.
    """
    aspect_draw, height_draw, y_draw, x_draw = draws
    rows, columns = (
        side if tf.is_tensor(side) else float(side) for side in (height, width)
    )
    share = tf.cast(area_range_min, tf.float32)
    narrow = tf.cast(aspect_ratio_range_min, tf.float32)
    low = tf.maximum(narrow, share * columns / rows)
    high = tf.minimum(1.0 / narrow, columns / (rows * share))
    aspect = low + aspect_draw * tf.maximum(high - low, 0.0)

    area = share * rows * columns
    least = tf.round(tf.sqrt(area / aspect))
    most = tf.minimum(rows, tf.floor((columns + 0.5 - _ROUNDING) / aspect))
    most = tf.maximum(most, 1.0)
    least = tf.clip_by_value(least, 1.0, most)
    tall = least + tf.floor(height_draw * (most - least + 1.0))
    tall = tf.minimum(tall, most)
    # Rounding may fall short of the least area: widen, then heighten.
    wide = tf.maximum(
        tf.round(tall * aspect), tf.math.ceil(area / tall - _ROUNDING)
    )
    wide = tf.clip_by_value(wide, 1.0, columns)
    tall = tf.maximum(tall, tf.math.ceil(area / wide - _ROUNDING))
    tall = tf.minimum(tall, rows)

    whole = tf.logical_or(tf.logical_not(crop), low > high)
    tall = tf.where(whole, rows, tall)
    wide = tf.where(whole, columns, wide)
    return Boxes(
        _start(y_draw, rows - tall), _start(x_draw, columns - wide), tall, wide
    )


def _start(draw: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """Returns uniform whole numbers in [0, last]."""
    return tf.minimum(tf.floor(draw * (last + 1.0)), last)


def resize_weights(
    start: tf.Tensor,
    length: tf.Tensor,
    size: int,
    out_size: int,
    antialias: bool | tf.Tensor = False,
    move: Move | None = None,
) -> tf.Tensor:
    """Returns `[batch, out_size, size] float32`, rows adding up to 1.

    Row o weighs the pixels around (o + 1/2) length / out_size - 1/2, the
    place of output o on the grid of pixel centres: `tf.image.resize` on the
    crop, with the same `antialias`, does the same.

    Args:
      start: `[batch] float32`, the first pixel of each crop.
      length: `[batch] float32`, pixels of each crop.
      size: pixels of the image.
      out_size: pixels of the result.
      antialias: scalar; whether an output is the weighted mean of all pixels
        that it covers. Otherwise it is between the nearest two, as published,
        and pixels are passed over where the image shrinks by more than 2.
      move: shifts and zooms the crop; None for neither.
    """
    step = (length / float(out_size))[:, None]
    centre = (tf.range(out_size, dtype=tf.float32) + 0.5)[None] * step - 0.5
    if move is not None:
        moved = _moved(centre, length[:, None], move)
        centre = tf.where(move.is_on, moved, centre)
        step = tf.where(move.is_on, step * move.zoom[:, None], step)
    pixel = tf.range(size, dtype=tf.float32)[None, None]
    first = start[:, None]

    def between_two() -> tf.Tensor:
        # Clamped to the crop's own pixels.
        nearest = tf.minimum(tf.maximum(centre, 0.0), (length - 1.0)[:, None])
        distance = tf.abs((first + nearest)[:, :, None] - pixel)
        return tf.maximum(1.0 - distance, 0.0)

    def mean_of_covered() -> tf.Tensor:
        reach = tf.maximum(step, 1.0)[:, :, None]
        distance = tf.abs((first + centre)[:, :, None] - pixel)
        weights = tf.maximum(1.0 - distance / reach, 0.0)
        weights *= _inside(start, length, size)[:, None]
        return weights / tf.reduce_sum(weights, 2, keepdims=True)

    # One of the two is computed: both cost as much as the resize itself.
    return tf.cond(tf.cast(antialias, tf.bool), mean_of_covered, between_two)


def _moved(centre: tf.Tensor, length: tf.Tensor, move: Move) -> tf.Tensor:
    """Returns places that were shifted and zoomed, reflected at the borders."""
    # From -1/2 to length - 1/2, about the middle.
    middle = 0.5 * (length - 1.0)
    position = middle + (centre - middle) * move.zoom[:, None]
    position = position + move.shift[:, None] * length + 0.5
    folded = tf.math.floormod(position, 2.0 * length)
    return length - tf.abs(folded - length) - 0.5


def resized(
    pixels: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor
) -> tf.Tensor:
    """Returns `[batch, out, out, channels]`; the weights do the rest."""
    height, width, channels = pixels.shape[1:]
    out_size = rows.shape[1]
    flat = tf.reshape(pixels, [-1, height, width * channels])
    halved = tf.matmul(rows, flat)
    if channels == 1:
        halved = tf.reshape(halved, [-1, out_size, width])
        return tf.matmul(halved, columns, transpose_b=True)[..., None]
    halved = tf.reshape(halved, [-1, out_size, width, channels])
    return tf.einsum("bow,bywc->byoc", columns, halved)


def mean_inside(pixels: tf.Tensor, box: Boxes) -> tf.Tensor:
    """Returns each channel's mean in the box, `[batch, 1, 1, channels]`."""
    rows = _inside(box.y, box.height, pixels.shape[1]) / box.height[:, None]
    columns = _inside(box.x, box.width, pixels.shape[2]) / box.width[:, None]
    height, width, channels = pixels.shape[1:]
    flat = tf.reshape(pixels, [-1, height, width * channels])
    of_rows = tf.matmul(rows[:, None], flat)
    of_rows = tf.reshape(of_rows, [-1, width, channels])
    return tf.matmul(columns[:, None], of_rows)[:, None]


def _inside(start: tf.Tensor, length: tf.Tensor, size: int) -> tf.Tensor:
    """Returns `[batch, size] float32`: 1 inside [start, start + length)."""
    pixel = tf.range(size, dtype=tf.float32)[None]
    low, high = start[:, None], (start + length)[:, None]
    return tf.cast(tf.logical_and(pixel >= low, pixel < high), tf.float32)
