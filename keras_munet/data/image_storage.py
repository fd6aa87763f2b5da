"""Chooses the stored size of a task's images, in memory or in a file.

Invariant: the shape that images are stored with depends on the data set and on
the largest input requested alone, never on the machine, so that an
experiment's data are the same everywhere.
"""

from __future__ import annotations

import math
from typing import NamedTuple

# Bound on a task's pixels in memory, all splits together.
NUM_BYTES_MAX = 2 * 2**30
# Pixels; the largest that fits in memory is taken.
SIDES = (160, 128, 112, 96, 80, 72, 64, 48, 32)
# Of a picture that is decoded; at 4 bytes a pixel that is 0.27 GB.
NUM_PIXELS_MAX = 2**26
# The largest values of 16-bit files that use 8, 12 or all of their bits.
WIDE_WHITES = (255, 4_095, 65_535)
# Pixels; of a data set that does not say how large its images are.
SIDE_MAX = 4096
# Pixels; of the smallest published experiments.
IMAGE_SIZE = 32


class Stored(NamedTuple):
    """The form in which a task's images are stored.

    Attributes:
      shape: height, width, channels of each.
      resized: whether they are resized to it.
      resident: whether they are held in memory; otherwise in files.
    """

    shape: tuple[int, int, int]
    resized: bool
    resident: bool


def fits(num_images: int, shape: tuple[int, int, int]) -> bool:
    """Returns whether memory may hold images, height, width, channels."""
    return num_images * math.prod(shape) <= NUM_BYTES_MAX


def stored(
    num_images: int,
    shape: tuple[int, int, int],
    *,
    side_max: int,
    image_size: int,
) -> Stored:
    """Returns how a task's images are kept.

    Images of one shape that fit in memory keep it. Others become squares of
    the largest of `SIDES` that fits, the smallest if they are smaller still.
    If that is less than `image_size` and the source has more pixels, they
    become squares of `image_size`, or as large as the source's: in memory if
    they fit, in files if not. What would be as large as images of one shape
    keeps that shape.

    Args:
      num_images: of the task, all splits together.
      shape: height, width, channels; 0 where images differ.
      side_max: the source has no more pixels than that.
      image_size: the largest side of a model's input, pixels.
    """
    height, width, num_channels = shape
    one_shape = bool(height and width)
    if one_shape:
        if fits(num_images, shape):
            return Stored(shape, resized=False, resident=True)
        side_max = min(side_max, height, width)
    else:
        side_max = max(side_max, SIDES[-1])
    target_side = min(image_size, side_max)
    for side in SIDES:
        square = (side, side, num_channels)
        if target_side <= side <= side_max and fits(num_images, square):
            return Stored(square, resized=True, resident=True)
    square = (target_side, target_side, num_channels)
    if fits(num_images, square):
        return Stored(square, resized=True, resident=True)
    if one_shape and target_side == min(height, width):
        return Stored(shape, resized=False, resident=False)
    return Stored(square, resized=True, resident=False)
