"""How large the stored images of a task may be.

Invariant: the side that images of many sizes are stored with depends on the
data set alone, never on the machine, so that a name means the same data
everywhere.
"""

from __future__ import annotations

import math

from keras_munet import errors

# Bound on a task's stored pixels, all splits together.
NUM_BYTES_MAX = 2 * 2**30
# Pixels; the largest that fits is taken.
SIDES = (160, 128, 112, 96, 80, 72, 64, 48, 32)


def fits(num_images: int, shape: tuple[int, int, int]) -> bool:
    """Whether memory may hold so many images, height, width, channels."""
    return num_images * math.prod(shape) <= NUM_BYTES_MAX


def side_that_fits(
    name: str, num_images: int, num_channels: int, side_max: int
) -> int:
    """Returns the largest of `SIDES` up to `side_max` that memory may hold.

    Images that are smaller than all of them take the smallest.

    Args:
      name: of the task, for messages.
      num_images: of the task, all splits together.
      num_channels: of the images.
      side_max: the source has no more pixels than that.

    Raises:
      DataError: none does.
    """
    candidates = [s for s in SIDES if s <= side_max] or [SIDES[-1]]
    for side in candidates:
        if fits(num_images, (side, side, num_channels)):
            return side
    side = candidates[-1]
    raise errors.DataError(
        f"task {name!r} has {num_images:,} images, which take "
        f"{num_images * side * side * num_channels / 2**30:.1f} GiB at "
        f"{side} x {side} pixels; at most {NUM_BYTES_MAX / 2**30:.1f} GiB "
        "are held in memory, choose a smaller data set or config"
    )
