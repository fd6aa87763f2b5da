"""A user's own images as a task: read, checked and split.

Invariant: what cannot be used is named in the list of skipped, class names
are kept, and the split is a function of the task's name and the order of its
examples alone.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from collections.abc import Set
from typing import Any
from typing import NamedTuple

import numpy as np

from keras_munet import errors
from keras_munet.core import commands
from keras_munet.core import names
from keras_munet.core import target_types
from keras_munet.data import image_storage
from keras_munet.data import splitting
from keras_munet.data import types
from keras_munet.data.own import images as images_lib
from keras_munet.data.own import notices
from keras_munet.data.own import pairs as pairs_lib
from keras_munet.data.own import scan
from keras_munet.data.own import sources
from keras_munet.data.own import store

VALIDATION_FRACTION = 0.1
TEST_FRACTION = 0.1
_NUM_CHANNELS = 3


class Built(NamedTuple):
    """A task and what was left out of it."""

    data: types.TaskData
    skipped: list[sources.Skipped]


def name_of(source: str) -> str:
    """Returns the task name of `folder:PATH` or `table:PATH`.

    It is `own/` and the last part of the path, without its ending.
    """
    last = re.split(r"[/\\:]", source.rstrip("/\\"))[-1]
    stem = last.rpartition(".")[0] or last if _is_table(source) else last
    plain = re.sub(r"[^A-Za-z0-9_.+-]+", "_", stem).lstrip(".+-")
    return f"{store.FAMILY}/{plain or 'task'}"


def build_data(
    source: str,
    *,
    name: str = "",
    side: int = 0,
    image_size: int = image_storage.IMAGE_SIZE,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> Built:
    """Returns the task that a folder or table makes, in memory.

    Args:
      source: `folder:PATH` or `table:PATH`.
      name: of the task; empty for `name_of(source)`.
      side: as of `scan.examine`.
      image_size: as of `scan.examine`.
      progress: as of `scan.examine`.

    Raises:
      UsageError: there is no such source, the name cannot be a task's, or
        the images are more than memory may hold.
      DataError: it has no usable examples for three splits.
    """
    name = name or name_of(source)
    names.bare_name(name)
    examined = scan.examine(
        source, side=side, image_size=image_size, progress=progress
    )
    if examined.pixels is None:
        why = scan.too_large(examined.stored, len(examined.labels))
        raise errors.UsageError(
            f"{source!r}: {why}; run {commands.command('tasks')} prepare "
            f"{source} --data_dir=FOLDER, which keeps them in files"
        )
    return Built(data_of(name, examined), examined.skipped)


def data_of(name: str, examined: scan.Examined) -> types.TaskData:
    """Returns the task of images that are in memory.

    Raises:
      DataError: there are no usable examples for three splits.
    """
    data = from_arrays(
        name,
        examined.pixels,
        examined.labels,
        class_names=examined.class_names,
        given_splits=examined.given_splits,
    )
    rows = split_rows(name, examined.labels, examined.given_splits)
    return dataclasses.replace(
        data,
        notices=examined.all_notices(rows),
        **{
            split: dataclasses.replace(
                getattr(data, split),
                files_digest=examined.files_digest(members),
            )
            for split, members in rows.items()
        },
    )


def from_arrays(
    name: str,
    images: Any,
    labels: Any,
    *,
    class_names: Sequence[str] = (),
    given_splits: Sequence[str] = (),
) -> types.TaskData:
    """Returns a task of images in memory, split by class.

    Args:
      name: of the task, e.g. `own/cats`.
      images: `[n, height, width]` or `[n, height, width, 1 or 3]`, uint8.
      labels: `[n]`, whole numbers from 0; or `[n, classes]` of 0 and 1 (or
        False and True), where an image has any number of labels or none.
      class_names: in the order of the labels; empty for the numbers.
      given_splits: of each example, `train`, `validation`, `test` or empty
        for `train`. A split that no example names is drawn from train, a
        tenth of each class; with no splits at all both are.

    Raises:
      UsageError: the name cannot be a task's, or the arrays are of another
        kind.
      DataError: a split has no example.
    """
    names.bare_name(name)
    _refuse_masked(name, images, labels)
    _refuse_unordered(name, class_names)
    try:
        images, labels = np.asarray(images), np.asarray(labels)
    except (ValueError, TypeError) as e:
        raise errors.UsageError(
            f"task {name!r} is given what is no array: {e}; give images of "
            "one shape, or pairs to from_pairs"
        ) from e
    if images.ndim == 3:
        images = images[..., None]
    if labels.ndim > 1 and labels.dtype == np.bool_:
        labels = labels.astype(np.int32)
    if images.dtype != np.uint8 or labels.dtype.kind not in "iu":
        raise errors.UsageError(
            f"task {name!r} is given {images.dtype} images and "
            f"{labels.dtype} labels; images must be uint8 in 0 to 255 and "
            "labels whole numbers"
        )
    is_empty = bool(labels.size) and not images.size
    if (
        images.ndim != 4
        or labels.ndim not in (1, 2)
        or labels.shape[:1] != images.shape[:1]
        or is_empty
    ):
        raise errors.UsageError(
            f"task {name!r} is given images of shape {images.shape} and "
            f"labels of shape {labels.shape}; there must be [n, height, "
            "width, 1 or 3] and [n], or [n, classes] of 0 and 1"
        )
    if not len(images):
        raise errors.DataError(f"task {name!r} is given no image")
    if images.shape[-1] == _NUM_CHANNELS and _is_grey(images):
        images = images[..., :1]
    if target_types.of_labels(labels) is target_types.MULTI_LABEL:
        class_names = _column_names(name, labels, class_names)
    else:
        class_names = _class_names(name, labels, class_names)
    labels = labels.astype(np.int32)
    rows = split_rows(name, labels, given_splits)
    pixels = images.reshape(len(images), -1)
    return types.checked(
        types.TaskData(
            name=name,
            num_classes=len(class_names),
            class_names=tuple(class_names),
            notices=(
                *notices.class_notices(
                    class_names, {s: labels[r] for s, r in rows.items()}
                ),
                *notices.range_notices(pixels.min(1), pixels.max(1)),
            ),
            **{
                split: types.Split(
                    np.ascontiguousarray(images[members]), labels[members]
                )
                for split, members in rows.items()
            },
        )
    )


def from_pairs(
    name: str,
    pairs: Iterable[tuple[Any, Any]],
    *,
    class_names: Sequence[str] = (),
    side: int = 0,
) -> types.TaskData:
    """Returns a task of (image, label) pairs, e.g. of a `tf.data.Dataset`.

    Args:
      name: of the task, e.g. `own/cats`.
      pairs: images `[height, width, 1 or 3] uint8` of any sizes, and whole
        numbers from 0, or `[classes]` of 0 and 1. A batched data set must be
        unbatched, a repeated one must end.
      class_names: in the order of the labels; empty for the numbers.
      side: as of `build_data`.

    Raises:
      UsageError: the pairs are of another kind.
      DataError: a split has no example.
    """
    _refuse_unordered(name, class_names)
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    guard = pairs_lib.Guard(name, pairs)
    for pair in pairs:
        image, label = pairs_lib.checked(name, len(images), pair, *labels[:1])
        guard.add(image)
        images.append(image)
        labels.append(label)
    sizes = [(image, image.shape[:2]) for image in images]
    stored_form = scan.stored(sizes, side, image_storage.IMAGE_SIZE)
    if not stored_form.resident:
        raise errors.UsageError(
            f"task {name!r}: {scan.too_large(stored_form, len(images))}; "
            "give a smaller side"
        )
    height, width, _ = stored_form.shape
    most = max((image.shape[-1] for image in images), default=1)
    stored = np.empty((len(images), height, width, most), np.uint8)
    for i, image in enumerate(images):
        stored[i] = images_lib.resized(image, height, width)
    return from_arrays(
        name,
        stored,
        np.stack(labels) if labels else np.zeros(0, np.int64),
        class_names=class_names,
    )


def _column_names(
    name: str, labels: np.ndarray, class_names: Sequence[str]
) -> list[str]:
    """Returns one name for each column of labels of 0 and 1.

    Raises:
      UsageError: labels or class names are of another kind, no image has a
        label, or every image has one, as one-hot labels have.
      DataError: two classes have one name.
    """
    num_images, num_classes = labels.shape
    if num_images and not np.isin(labels, (0, 1)).all():
        raise errors.UsageError(
            f"task {name!r} is given labels of shape {labels.shape} from "
            f"{labels.min()} to {labels.max()}; labels with a column for each "
            "class must be 0 or 1"
        )
    if num_classes < 2 and len(class_names) != 1:
        raise errors.UsageError(
            f"task {name!r} is given labels of shape {labels.shape}; give "
            "labels[:, 0], one whole number an image, a column for each of "
            "several classes, or the name of the only class"
        )
    if num_images and not labels.any():
        raise errors.UsageError(
            f"task {name!r} is given labels of shape {labels.shape} that are "
            "all 0; give at least one image a label"
        )
    if num_images and (labels.sum(axis=1) == 1).all():
        raise errors.UsageError(
            f"task {name!r} is given labels of shape {labels.shape} of which "
            "every image has exactly one; give labels.argmax(1), one whole "
            "number an image"
        )
    if isinstance(class_names, str) or len(class_names) not in (0, num_classes):
        raise errors.UsageError(
            f"task {name!r} is given labels of {num_classes} columns and the "
            f"class names {class_names!a:.60}; give a list of {num_classes} "
            "texts, or none"
        )
    names = list(class_names) or [str(i) for i in range(num_classes)]
    types.check_class_names(name, names)
    return names


def _refuse_masked(name: str, *arrays: Any) -> None:
    """Refuses masked values, which an array would show as if they were real.

    Raises:
      UsageError: there are some.
    """
    if any(np.ma.is_masked(array) for array in arrays):
        raise errors.UsageError(
            f"task {name!r} is given masked values; leave these images out"
        )


def _refuse_unordered(name: str, class_names: Any) -> None:
    """Refuses names whose order is no order of labels.

    Raises:
      UsageError: they are a set or a mapping.
    """
    if isinstance(class_names, Set | Mapping):
        raise errors.UsageError(
            f"task {name!r} is given class_names as "
            f"{type(class_names).__name__}; give a list, the name of label 0 "
            "first"
        )


def _class_names(
    name: str, labels: np.ndarray, class_names: Sequence[str]
) -> list[str]:
    """Returns one name for each label, before labels are narrowed.

    Raises:
      UsageError: class names are no texts, one is given twice, or labels
        without names leave numbers out.
      DataError: a label has no name.
    """
    if isinstance(class_names, str):
        raise errors.UsageError(
            f"task {name!r} is given the class names {class_names!a}; give a "
            "list of texts"
        )
    label_values = np.unique(labels)
    if not len(class_names):
        expected = np.arange(len(label_values))
        if not np.array_equal(label_values, expected):
            listed = ", ".join(map(str, label_values[:5].tolist()))
            more = ", ..." if len(label_values) > len(expected[:5]) else ""
            raise errors.UsageError(
                f"task {name!r} is given the labels {listed}{more}; they must "
                "be the whole numbers from 0 without a gap: give class_names, "
                "or np.unique(labels, return_inverse=True)[1] as labels"
            )
        return [str(i) for i in expected]
    types.check_class_names(name, class_names)
    low, high = (
        (int(label_values[0]), int(label_values[-1]))
        if len(label_values)
        else (0, 0)
    )
    if low < 0 or high >= len(class_names):
        raise errors.DataError(
            f"task {name!r}: labels lie in [{low}, {high}]; they must lie in "
            f"[0, {len(class_names) - 1}], as there are {len(class_names)} "
            "class names"
        )
    return list(class_names)


def split_rows(
    name: str, labels: np.ndarray, given_splits: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Returns the rows of each split, `[m] int64`.

    Args:
      name: of the task, which the draw depends on.
      labels: `[n] int32`, or `[n, classes] int32` of 0 and 1.
      given_splits: as of `from_arrays`.

    Raises:
      UsageError: a given split has another name, or some are missing.
      DataError: a split has no example.
    """
    split_of_row = np.array(
        list(given_splits) or ["train"] * len(labels), dtype=object
    )
    unknown = set(split_of_row.tolist()) - {"", *types.SPLIT_NAMES}
    if unknown or len(split_of_row) != len(labels):
        problem = (
            f"{min(unknown, key=str)!a}"
            if unknown
            else f"{len(split_of_row)} names"
        )
        raise errors.UsageError(
            f"task {name!r} is given the splits {problem} for {len(labels)} "
            f"images; give each image one of {', '.join(types.SPLIT_NAMES)} "
            "or an empty text"
        )
    # In a source with splits, what names none is there to learn from.
    split_of_row[split_of_row == ""] = "train"
    rows = {s: np.flatnonzero(split_of_row == s) for s in types.SPLIT_NAMES}
    train = rows["train"]
    drawn_rows = splitting.stratified(
        labels[train],
        name,
        validation_fraction=0.0
        if len(rows["validation"])
        else VALIDATION_FRACTION,
        test_fraction=0.0 if len(rows["test"]) else TEST_FRACTION,
    )
    held_out = {
        split: rows[split] if len(rows[split]) else train[drawn_rows[split]]
        for split in ("validation", "test")
    }
    result = {"train": train[drawn_rows["train"]], **held_out}
    for split, members in result.items():
        if not len(members):
            num_classes = len(np.unique(splitting.strata(labels)))
            raise errors.DataError(
                f"task {name!r} has {len(labels)} examples in {num_classes} "
                f"classes, which leave none for {split}; give at least 3 of "
                "some class"
            )
    return result


def _is_table(source: str) -> bool:
    return source.startswith(sources.TABLE + ":")


def _is_grey(images: np.ndarray) -> bool:
    """Returns whether the three channels of every pixel are equal."""
    return all((i == i[..., :1]).all() for i in np.array_split(images, 64))
