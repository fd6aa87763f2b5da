"""Images with labels per task, and the batches that training sees.

Invariant: batch number `step` depends on the data, the seed and the number
alone, so that a resumed run sees what the whole run would have seen. An epoch
shows every image at most once; what does not fill a batch waits for another
order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from keras_munet import errors
from keras_munet.core import seeds
from keras_munet.overparam.experiments import detection
from keras_munet.overparam.experiments import tasks as tasks_lib

Batch = tuple[np.ndarray, dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Examples:
    """One split in memory.

    Attributes:
      images: `[num, height, width, 3] uint8`.
      labels: task name -> `[num, ...]`, as `metrics` takes them.
    """

    images: np.ndarray
    labels: Mapping[str, np.ndarray]

    def __post_init__(self):
        grid = self.images.shape[:3]
        for name, labels in self.labels.items():
            if labels.shape[0] != grid[0] or (
                labels.ndim > 2 and labels.shape[1:3] != grid[1:]
            ):
                raise errors.DataError(
                    f"{name!r} has labels of {labels.shape} for images of "
                    f"{self.images.shape}; give both one number, height and "
                    "width"
                )

    def __len__(self):
        return len(self.images)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.images.shape[1], self.images.shape[2]


@dataclasses.dataclass(frozen=True)
class DataSet:
    """The splits of a data set and what can be learned from it.

    Attributes:
      name: of the data set.
      tasks: with labels in every split.
      train: what networks are trained on.
      validation: what settings are chosen on.
      test: what is reported.
    """

    name: str
    tasks: tuple[tasks_lib.Task, ...]
    train: Examples
    validation: Examples
    test: Examples


def rows(examples: Examples, start: int, stop: int) -> Examples:
    """Returns the examples from `start` to before `stop`."""
    labels = {name: each[start:stop] for name, each in examples.labels.items()}
    return Examples(examples.images[start:stop], labels)


def batch_maker(
    examples: Examples,
    tasks: Sequence[tasks_lib.Task],
    *,
    batch_size: int,
    seed: int,
    flip: bool = True,
) -> Callable[[int], Batch]:
    """Returns what gives a training step its images and labels.

    Args:
      examples: to draw from.
      tasks: whose labels are given.
      batch_size: at most the number of examples.
      seed: of the orders and flips.
      flip: whether half the images are turned left to right.

    Raises:
      UsageError: there are fewer examples than a batch has.
    """
    num_batches = len(examples) // batch_size if batch_size > 0 else 0
    if not num_batches:
        raise errors.UsageError(
            f"batch_size is {batch_size} and there are {len(examples)} "
            "training images; choose a batch_size from 1 to that"
        )

    def batch_of(step: int) -> Batch:
        epoch, position = divmod(step, num_batches)
        generator = seeds.generator(seed, "epoch", epoch)
        order = generator.permutation(len(examples))
        rows = order[position * batch_size : (position + 1) * batch_size]
        flips = np.zeros(batch_size, bool)
        if flip:
            flips = generator.random(len(examples))[rows] < 0.5
        images = _turned(examples.images[rows], flips)
        labels = {
            task.name: _flipped(task, examples.labels[task.name][rows], flips)
            for task in tasks
        }
        return scaled(images), labels

    return batch_of


def in_order(examples: Examples, batch_size: int) -> Iterator[Batch]:
    """Yields every example once, in order; the last batch may be smaller."""
    for first in range(0, len(examples), batch_size):
        rows = slice(first, first + batch_size)
        yield (
            scaled(examples.images[rows]),
            {name: each[rows] for name, each in examples.labels.items()},
        )


def scaled(images: np.ndarray) -> np.ndarray:
    """Returns uint8 images as float32 in [-1, 1]."""
    return images.astype(np.float32) / 127.5 - 1.0


def _turned(images, flips):
    """Turns those images left to right that `flips` says."""
    turned = images.copy()
    turned[flips] = turned[flips][:, :, ::-1]
    return turned


def _flipped(task, labels, flips):
    """Turns those images' labels left to right, and makes what losses take."""
    if task.task_type in tasks_lib.OF_IMAGES:
        return labels
    turned = _turned(labels, flips)
    if task.task_type == tasks_lib.NORMALS:
        turned[flips, ..., 0] *= -1
    elif task.task_type == tasks_lib.DETECTION:
        return detection.targets(task, turned)
    return turned


def resized_images(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns uint8 images of another size, each pixel a mean over its area.

    Args:
      images: `[num, height, width, 3] uint8`.
      size: height and width, pixels.
    """
    from PIL import Image

    height, width = size
    if images.shape[1:3] == tuple(size):
        return images
    return np.stack(
        [
            np.asarray(
                Image.fromarray(image).resize(
                    (width, height), Image.Resampling.BOX
                )
            )
            for image in images
        ]
    )


def resized_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns labels of another size, each the one at its pixel's middle.

    Args:
      labels: `[num, height, width, ...]`.
      size: height and width, pixels.
    """
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(size, labels.shape[1:3], strict=True)
    )
    return labels[:, rows[:, None], columns]
