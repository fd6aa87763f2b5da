"""Two small pictures over each other: two tasks of one image.

Invariant: a pair depends on the seed, the split and its number alone. Each
picture is moved by chance within the image, so that neither always covers the
other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_munet import errors
from keras_munet.core import seeds
from keras_munet.data import tasks as data_tasks
from keras_munet.overparam.experiments import tasks as tasks_lib
from keras_munet.overparam.experiments.datasets import dense_data

NAMES = ("first", "second")
# Of the image's side, that a picture takes.
_SHARE = 0.75


def load_overlaid(
    task_names: Sequence[str],
    image_size: tuple[int, int],
    *,
    data_dir: str = "",
    seed: int = 0,
) -> dense_data.DataSet:
    """Returns pairs of pictures, with the class of each as a task.

    A split has as many pairs as the smaller of the two has pictures.

    Args:
      task_names: two tasks of `keras_munet.data.tasks`.
      image_size: height and width, pixels.
      data_dir: prepared data, for tasks that need some.
      seed: of pairs and places.

    Raises:
      UsageError: there are not two tasks, or one is unknown.
      DataError: their data are missing.
    """
    if len(task_names) != 2:
        raise errors.UsageError(
            f"config key overlaid names {len(task_names)} tasks; name two"
        )
    sources = [data_tasks.load(n, data_dir=data_dir) for n in task_names]
    splits = {
        split: _overlay(
            [getattr(source, split) for source in sources],
            image_size,
            seeds.generator(seed, "overlaid", split),
        )
        for split in ("train", "validation", "test")
    }
    tasks = tuple(
        tasks_lib.Task(name, tasks_lib.CLASSIFICATION, source.num_classes)
        for name, source in zip(NAMES, sources, strict=True)
    )
    return dense_data.DataSet("overlaid", tasks, **splits)


def _overlay(
    splits: Sequence[data_tasks.Split],
    image_size: tuple[int, int],
    rng: np.random.Generator,
) -> dense_data.Examples:
    num = min(len(split.labels) for split in splits)
    height, width = (max(1, round(_SHARE * n)) for n in image_size)
    side = height, width
    images = np.zeros([num, *image_size, 3], np.uint8)
    labels = {}
    for name, split in zip(NAMES, splits, strict=True):
        rows = rng.permutation(len(split.labels))[:num]
        pictures = np.broadcast_to(
            split.images[rows], (num, *split.images.shape[1:3], 3)
        )
        pictures = dense_data.resized_images(
            np.ascontiguousarray(pictures), side
        )
        corners = [
            rng.integers(0, whole - part + 1, num)
            for whole, part in zip(image_size, side, strict=True)
        ]
        for i, (row, column) in enumerate(zip(*corners, strict=True)):
            area = images[i, row : row + side[0], column : column + side[1]]
            np.maximum(area, pictures[i], out=area)
        labels[name] = split.labels[rows].astype(np.int32)
    return dense_data.Examples(images, labels)
