"""Sample pictures of the tasks that come with the install.

Invariant: a strip shows images as training sees them before they are varied,
the first of each class in the order of the outputs. No file of the system
holds them: the data of these tasks are a function of their name.
"""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import numpy as np

from keras_munet import errors
from keras_munet.data import tasks

# More classes of a task are not shown.
_NUM_TILES_MAX = 64
_NUM_COLUMNS_MAX = 17
_GAP_PIXELS = 1
_GREY = 128
# On the page, CSS pixels.
_SHOWN_TILE_PIXELS = 40


class Strip(NamedTuple):
    """A picture of a task's classes.

    Attributes:
      task: its name.
      class_names: of those in the picture, row by row.
      address: the PNG file itself, as a `data:` address.
      width: to show it with, CSS pixels.
      problem: why there is none; empty where there is one.
    """

    task: str
    class_names: tuple[str, ...] = ()
    address: str = ""
    width: int = 0
    problem: str = ""


def has(task: str) -> bool:
    """Returns whether a task comes with the install."""
    return task in tasks.embedded_names()


def strip(task: str) -> Strip:
    """Returns the picture of a task of which `has` is true.

    What its data need may not be installed here; the strip then says so.
    """
    try:
        from PIL import Image

        data = tasks.load(task)
    except (errors.DataError, ImportError) as e:
        return Strip(task, problem=str(e))
    labels, firsts = np.unique(data.train.labels, return_index=True)
    rows = firsts[:_NUM_TILES_MAX]
    pixels = _tiled(data.train.images[rows])
    file = io.BytesIO()
    # Pillow wants grey pixels without an axis of channels.
    grey = pixels.shape[-1] == 1
    picture = Image.fromarray(pixels[..., 0] if grey else pixels)
    picture.save(file, "PNG", optimize=True)
    encoded = base64.b64encode(file.getvalue()).decode()
    return Strip(
        task=task,
        class_names=tuple(data.class_names[i] for i in labels[: len(rows)]),
        address=f"data:image/png;base64,{encoded}",
        width=_SHOWN_TILE_PIXELS * min(len(rows), _NUM_COLUMNS_MAX),
    )


def _tiled(images: np.ndarray) -> np.ndarray:
    """Returns images side by side, with grey lines between them.

    Args:
      images: `[n, height, width, channels] uint8`.
    """
    num, height, width, num_channels = images.shape
    num_columns = min(num, _NUM_COLUMNS_MAX)
    num_rows = -(-num // num_columns)
    # Each tile with the lines on its left and above.
    step = np.array([height, width]) + _GAP_PIXELS
    size = step * [num_rows, num_columns] + _GAP_PIXELS
    page = np.full((*size, num_channels), _GREY, np.uint8)
    for i, image in enumerate(images):
        top, left = step * divmod(i, num_columns) + _GAP_PIXELS
        page[top : top + height, left : left + width] = image
    return page
