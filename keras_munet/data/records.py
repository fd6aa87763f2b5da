"""What a task's data are once loaded: three splits of images and labels.

Invariant: a `TaskData` that left `checked` holds uint8 images of one shape
and labels inside [0, num_classes), and no split is empty.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_munet import errors

SPLIT_NAMES = ("train", "validation", "test")
CHANNELS = (1, 3)


@dataclasses.dataclass(frozen=True)
class Split:
    """The examples of one split.

    Attributes:
      images: `[n, height, width, channels] uint8`; 1 or 3 channels.
      labels: `[n] int32`.
    """

    images: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class TaskData:
    """A task: named, labelled and split.

    Attributes:
      name: the bare task name.
      num_classes: labels lie in [0, num_classes).
      class_names: one for each class, in the order of the labels.
      train: what children learn from.
      validation: what children are chosen by.
      test: what a published path is reported on.
    """

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split


def checked(data: TaskData) -> TaskData:
    """Returns `data` itself.

    Raises:
      DataError: an array has the wrong type or shape, a label is out of
        range, a split is empty, or images differ in shape between splits.
    """
    if data.num_classes < 1 or len(data.class_names) != data.num_classes:
        raise errors.DataError(
            f"task {data.name!r} has {data.num_classes} classes and "
            f"{len(data.class_names)} class names; it needs one name for "
            "each of at least 1 class"
        )
    for split_name in SPLIT_NAMES:
        split = getattr(data, split_name)
        problem = _problem(split, data.num_classes)
        if problem:
            raise errors.DataError(
                f"{split_name} split of task {data.name!r}: {problem}"
            )
        shape, first = split.images.shape[1:], data.train.images.shape[1:]
        if shape != first:
            raise errors.DataError(
                f"{split_name} split of task {data.name!r} has images of "
                f"shape {shape} where train has {first}; all splits need one "
                "shape"
            )
    return data


def _problem(split: Split, num_classes: int) -> str:
    """Returns what is wrong with a split; empty where nothing is."""
    images, labels = split.images, split.labels
    if images.dtype != np.uint8 or labels.dtype != np.int32:
        return (
            f"images are {images.dtype} and labels {labels.dtype}; they must "
            "be uint8 and int32"
        )
    if images.ndim != 4 or images.shape[-1] not in CHANNELS:
        return (
            f"images have shape {images.shape}; it must be [n, height, "
            "width, 1 or 3]"
        )
    if labels.shape != images.shape[:1]:
        return (
            f"labels have shape {labels.shape} for {len(images)} images; "
            "there must be one label per image"
        )
    if not images.size:
        return "it has no pixels; give it at least one example"
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        return (
            f"labels lie in [{low}, {high}]; they must lie in "
            f"[0, {num_classes - 1}]"
        )
    return ""
