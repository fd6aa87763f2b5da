"""A family of tasks: `shapes/N` has N kinds of drawn shapes, 2 to 4."""

from __future__ import annotations

import numpy as np

from keras_munet import errors
from keras_munet import plugins

_NAMES = ("disc", "square", "cross", "ring")
_SIDE = 16
_NUM_EXAMPLES = {"train": 512, "validation": 128, "test": 128}


def load(task_name: str) -> plugins.TaskData:
    """Returns the data of a task, the same on every machine.

    Raises:
      UsageError: there are not so many kinds of shapes.
    """
    number = task_name.partition("/")[2] or str(len(_NAMES))
    if number not in ("2", "3", "4"):
        raise errors.UsageError(
            f"there is no task {task_name!r}; choose shapes/2, shapes/3 or "
            "shapes/4"
        )
    rng = np.random.default_rng(int(number))
    names = _NAMES[: int(number)]
    splits = {
        split: _drawn(count, len(names), rng)
        for split, count in _NUM_EXAMPLES.items()
    }
    return plugins.TaskData(task_name, len(names), names, **splits)


def _drawn(
    count: int, num_classes: int, rng: np.random.Generator
) -> plugins.Split:
    """Returns shapes of any place and size, light on noise."""
    labels = rng.integers(num_classes, size=count).astype(np.int32)
    row, column = rng.uniform(5, 11, size=(2, count, 1, 1))
    radius = rng.uniform(3, 5, size=(count, 1, 1))
    y = np.abs(np.arange(_SIDE)[:, None] - row)
    x = np.abs(np.arange(_SIDE)[None, :] - column)
    distance = np.hypot(x, y)
    kinds = np.stack(
        [
            distance < radius,
            np.maximum(x, y) < radius,
            (np.minimum(x, y) < 1) & (np.maximum(x, y) < radius),
            np.abs(distance - radius) < 1,
        ]
    )
    shapes = kinds[labels, np.arange(count)]
    images = 160 * shapes + rng.integers(0, 90, size=shapes.shape)
    return plugins.Split(images[..., None].astype(np.uint8), labels)
