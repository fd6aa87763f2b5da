"""Defines a loaded task: three splits of images and labels.

Invariant: a `TaskData` that left `checked` holds uint8 images of one shape
and labels inside [0, num_classes), or of 0 and 1 for each class in every
split, and no split is empty. No pixel of a split
that is not resident is read but by `Split.batch`.
"""

from __future__ import annotations

import collections
import dataclasses
import mmap
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_munet import errors
from keras_munet.core import printable
from keras_munet.core import target_types

SPLIT_NAMES = ("train", "validation", "test")
CHANNELS = (1, 3)


@dataclasses.dataclass(frozen=True)
class Split:
    """The examples of one split.

    Attributes:
      images: `[n, height, width, channels] uint8`; 1 or 3 channels.
      labels: `[n] int32`, or `[n, classes] int32` of 0 and 1 where an image
        may have any number of labels; always in memory.
      resident: whether the images lie in memory, and a device may hold them
        all. Otherwise `images` is the view of a file that may be larger than
        any memory: read it by `batch` alone, and never copy it whole.
      images_digest: identifies the images, if a file records it; see
        `core.fingerprint`.
      files_digest: identifies the original files, if a file records it.

    Example:
      >>> images = np.zeros([3, 8, 8, 1], np.uint8)
      >>> split = Split(images, np.array([0, 1, 1], np.int32))
      >>> len(split), split.batch(np.array([2, 2]))[1].tolist()
      (3, [1, 1])
    """

    images: np.ndarray
    labels: np.ndarray
    resident: bool = True
    images_digest: str = ""
    files_digest: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_bytes(self) -> int:
        """The bytes of all images, in memory or not."""
        return self.images.nbytes

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns copies of some examples, in the order of `indices`.

        Args:
          indices: `[batch]` whole numbers in [0, n); one may come twice.

        Returns:
          `[batch, height, width, channels] uint8` and `[batch] int32`, or
          `[batch, classes] int32`.

        Raises:
          IndexError: an index lies outside of the split.
        """
        # `take` gives plain arrays, of views of files as well.
        images = np.take(np.asarray(self.images), indices, axis=0)
        mapped = getattr(self.images, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            # Else all that was ever read counts as memory of this process.
            mapped.madvise(mmap.MADV_DONTNEED)
        return images, np.take(self.labels, indices, axis=0)


@dataclasses.dataclass(frozen=True)
class TaskData:
    """A task: named, labelled and split.

    Attributes:
      name: the bare task name.
      num_classes: labels lie in [0, num_classes), or have as many columns.
      class_names: one for each class, in the order of the labels.
      train: what children learn from.
      validation: what children are chosen by.
      test: what a published path is reported on.
      notices: what preparing said about the data, one sentence each.

    Example:
      >>> split = Split(np.zeros([2, 8, 8, 1], np.uint8), np.arange(2))
      >>> data = TaskData("letters", 2, ("a", "b"), split, split, split)
      >>> data.class_names[data.test.labels[1]]
      'b'
    """

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    notices: tuple[str, ...] = ()

    @property
    def target(self) -> target_types.TargetType:
        """The type of the labels."""
        return target_types.of_labels(self.train.labels)

    @property
    def class_counts(self) -> np.ndarray:
        """The training images of each class, `[classes] int64`."""
        labels = self.train.labels
        if self.target is target_types.MULTI_LABEL:
            return labels.sum(axis=0, dtype=np.int64)
        return np.bincount(labels, minlength=self.num_classes)


def checked(data: TaskData) -> TaskData:
    """Returns `data`, whose class names can be printed.

    Raises:
      DataError: an array has the wrong type or shape, a class has no name of
        its own, a label is out of range, a split is empty, or images differ
        in shape between splits.
    """
    if data.num_classes < 1 or len(data.class_names) != data.num_classes:
        raise errors.DataError(
            f"task {data.name!r} has {data.num_classes} classes and "
            f"{len(data.class_names)} class names; it needs one name for "
            "each of at least 1 class"
        )
    check_class_names(data.name, data.class_names)
    if data.target is target_types.MULTI_LABEL:
        refuse_separator(data.name, data.class_names)
    for split_name in SPLIT_NAMES:
        split = getattr(data, split_name)
        problem = _problem(split, data.num_classes, data.target)
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
    printable_names = tuple(map(printable.printable, data.class_names))
    if printable_names != data.class_names:
        data = dataclasses.replace(data, class_names=printable_names)
    return data


def check_class_names(task: str, class_names: Sequence[Any]) -> None:
    """Refuses what cannot name the classes of a task.

    Raises:
      DataError: one is no text or empty, or two are equal.
    """
    for name in class_names:
        if not isinstance(name, str) or not name.strip():
            raise errors.DataError(
                f"task {task!r} has the class name {name!a:.60}; every class "
                "needs a text"
            )
    composed = [unicodedata.normalize("NFC", n).strip() for n in class_names]
    if len(set(composed)) < len(composed):
        counts = collections.Counter(composed)
        name, num = counts.most_common(1)[0]
        raise errors.DataError(
            f"task {task!r} has {num} classes named {name!a:.60}; give each "
            "class a name of its own"
        )


def refuse_separator(task: str, class_names: Sequence[str]) -> None:
    """Refuses class names that a list of labels could not be told from.

    Raises:
      DataError: there is one.
    """
    for name in class_names:
        if target_types.SEPARATOR in name:
            raise errors.DataError(
                f"task {task!r} has any number of labels an image and the "
                f"class name {name!a:.60}; {target_types.SEPARATOR!r} stands "
                "between labels: give the class another name"
            )


def _problem(
    split: Split, num_classes: int, target: target_types.TargetType
) -> str:
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
    if target_types.of_labels(labels) is not target:
        return (
            f"labels have shape {labels.shape}, those of train another number "
            "of axes; all splits need labels of one type"
        )
    if target is target_types.MULTI_LABEL:
        return _multi_label_problem(split, num_classes)
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


def _multi_label_problem(split: Split, num_classes: int) -> str:
    """Returns what is wrong with labels of 0 and 1 for each class."""
    images, labels = split.images, split.labels
    if labels.shape != (len(images), num_classes):
        return (
            f"labels have shape {labels.shape} for {len(images)} images and "
            f"{num_classes} classes; it must be [n, classes]"
        )
    if not images.size:
        return "it has no pixels; give it at least one example"
    if not np.isin(labels, (0, 1)).all():
        low, high = int(labels.min()), int(labels.max())
        return (
            f"labels lie in [{low}, {high}]; of each class they must be 0 or 1"
        )
    return ""
