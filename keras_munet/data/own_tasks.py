"""A user's own images as a task: read, checked and split.

Invariant: what cannot be used is named in the list of skipped, class names
are kept, and the split is a function of the task's name and the order of its
examples alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from keras_munet import errors
from keras_munet.core import names
from keras_munet.data import own_images
from keras_munet.data import own_sources
from keras_munet.data import own_store
from keras_munet.data import records
from keras_munet.data import splitting
from keras_munet.data import storage

VALIDATION_FRACTION = 0.1
TEST_FRACTION = 0.1
_NUM_CHANNELS = 3

# An example, and the height and width that its file states.
_Sized = tuple[own_sources.Example, tuple[int, int]]


class Built(NamedTuple):
    """A task and what was left out of it."""

    data: records.TaskData
    skipped: list[own_sources.Skipped]


def name_of(source: str) -> str:
    """Returns the task name of `folder:PATH` or `table:PATH`.

    It is `own/` and the last part of the path, without its ending.
    """
    last = re.split(r"[/\\:]", source.rstrip("/\\"))[-1]
    stem = last.rpartition(".")[0] or last if _is_table(source) else last
    plain = re.sub(r"[^A-Za-z0-9_.+-]+", "_", stem).lstrip(".+-")
    return f"{own_store.FAMILY}/{plain or 'task'}"


def build(
    source: str,
    *,
    name: str = "",
    side: int = 0,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> Built:
    """Returns the task that a folder or table makes.

    Images of one shape are kept as they are. Images of many sizes become
    squares of one side: `side`, or else the largest of `storage.SIDES` up to
    the shorter side of the median image that memory may hold. What training
    and evaluation resize to is a square of the whole image, too.

    Args:
      source: `folder:PATH` or `table:PATH`.
      name: of the task; empty for `name_of(source)`.
      side: of the stored squares, pixels; 0 chooses.
      progress: wraps the list of images, e.g. `tqdm.tqdm`.

    Raises:
      UsageError: there is no such source, or the name cannot be a task's.
      DataError: it has no usable examples for three splits.
    """
    name = name or name_of(source)
    names.split_private(name)
    found = own_sources.listing(source)
    sized, skipped = _sizes(found.examples)
    skipped = [*found.skipped, *skipped]
    stored_size = _stored_size(name, sized, side)
    kept, pixels, unusable = _decoded(sized, stored_size, progress)
    skipped += unusable
    if unusable:
        # The heads of damaged files must not say how the others are stored.
        exact_size = _stored_size(name, kept, side)
        if exact_size != stored_size:
            kept, pixels, _ = _decoded(kept, exact_size, progress)
    if not kept:
        raise errors.DataError(_nothing_left(source, skipped))
    examples = [example for example, _ in kept]
    class_names = _class_order({e.class_name for e in examples})
    lost = {e.class_name for e in found.examples} - set(class_names)
    skipped += [
        own_sources.Skipped(f"class {c!r}", "has no usable image")
        for c in sorted(lost)
    ]
    index = {c: i for i, c in enumerate(class_names)}
    labels = np.array([index[e.class_name] for e in examples], np.int32)
    data = from_arrays(
        name,
        pixels[: len(kept)],
        labels,
        class_names=class_names,
        given_splits=[e.split for e in examples],
    )
    return Built(data, skipped)


def from_arrays(
    name: str,
    images: Any,
    labels: Any,
    *,
    class_names: Sequence[str] = (),
    given_splits: Sequence[str] = (),
) -> records.TaskData:
    """Returns a task of images in memory, split by class.

    Args:
      name: of the task, e.g. `own/cats`.
      images: `[n, height, width]` or `[n, height, width, 1 or 3]`, uint8.
      labels: `[n]`, whole numbers from 0.
      class_names: in the order of the labels; empty for the numbers.
      given_splits: of each example, `train`, `validation`, `test` or empty
        for `train`. A split that no example names is drawn from train, a
        tenth of each class; with no splits at all both are.

    Raises:
      UsageError: the name cannot be a task's, or the arrays are of another
        kind.
      DataError: a split has no example.
    """
    names.split_private(name)
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or labels.dtype.kind not in "iu":
        raise errors.UsageError(
            f"task {name!r} is given {images.dtype} images and "
            f"{labels.dtype} labels; images must be uint8 in 0 to 255 and "
            "labels whole numbers"
        )
    if images.ndim != 4 or labels.shape != images.shape[:1]:
        raise errors.UsageError(
            f"task {name!r} is given images of shape {images.shape} and "
            f"labels of shape {labels.shape}; there must be [n, height, "
            "width, 1 or 3] and [n]"
        )
    if images.shape[-1] == _NUM_CHANNELS and _is_grey(images):
        images = images[..., :1]
    labels = labels.astype(np.int32)
    if not class_names:
        class_names = [str(i) for i in range(int(labels.max(initial=0)) + 1)]
    rows = _rows(name, labels, given_splits)
    for split, members in rows.items():
        if not len(members):
            raise errors.DataError(
                f"task {name!r} has {len(labels)} examples in "
                f"{len(class_names)} classes, which leave none for "
                f"{split}; give at least 3 of some class"
            )
    return records.checked(
        records.TaskData(
            name=name,
            num_classes=len(class_names),
            class_names=tuple(class_names),
            **{
                split: records.Split(
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
) -> records.TaskData:
    """Returns a task of (image, label) pairs, e.g. of a `tf.data.Dataset`.

    Args:
      name: of the task, e.g. `own/cats`.
      pairs: images `[height, width, 1 or 3] uint8` of any sizes, and whole
        numbers from 0. A batched data set must be unbatched.
      class_names: in the order of the labels; empty for the numbers.
      side: as of `build`.

    Raises:
      UsageError: the pairs are of another kind.
      DataError: a split has no example.
    """
    images: list[np.ndarray] = []
    labels: list[int] = []
    for image, label in pairs:
        image = np.asarray(image)
        if (
            image.dtype != np.uint8
            or image.ndim != 3
            or image.shape[-1] not in records.CHANNELS
        ):
            raise errors.UsageError(
                f"image {len(images)} of task {name!r} is {image.dtype} of "
                f"shape {image.shape}; it must be uint8 [height, width, 1 or "
                "3]"
            )
        images.append(image)
        labels.append(int(np.asarray(label)))
    sizes = [(image, image.shape[:2]) for image in images]
    height, width = _stored_size(name, sizes, side)
    most = max((image.shape[-1] for image in images), default=1)
    stored = np.empty((len(images), height, width, most), np.uint8)
    for i, image in enumerate(images):
        stored[i] = own_images.resized(image, height, width)
    return from_arrays(
        name, stored, np.array(labels, np.int32), class_names=class_names
    )


def _is_table(source: str) -> bool:
    return source.startswith(own_sources.TABLE + ":")


def _sizes(
    examples: Sequence[own_sources.Example],
) -> tuple[list[_Sized], list[own_sources.Skipped]]:
    """Returns (example, (height, width)) of each image, and the skipped."""
    sizes, skipped = [], []
    for example in examples:
        try:
            sizes.append((example, own_images.size_of(example.read())))
        except own_images.UnusableImageError as e:
            skipped.append(own_sources.Skipped(example.where, str(e)))
        except OSError as e:
            reason = f"cannot be read: {e.strerror or e}"
            skipped.append(own_sources.Skipped(example.where, reason))
    return sizes, skipped


def _decoded(
    sized: Sequence[_Sized],
    size: tuple[int, int],
    progress: Callable[[Sequence[Any]], Iterable[Any]],
) -> tuple[list[_Sized], np.ndarray, list[own_sources.Skipped]]:
    """Returns the usable examples, their pixels in that size, and the rest."""
    pixels = np.empty((len(sized), *size, _NUM_CHANNELS), np.uint8)
    kept: list[_Sized] = []
    skipped = []
    for example, head in progress(sized):
        try:
            image = own_images.decoded(example.read())
        except (own_images.UnusableImageError, OSError) as e:
            skipped.append(own_sources.Skipped(example.where, str(e)))
            continue
        pixels[len(kept)] = own_images.resized(image, *size)
        kept.append((example, head))
    return kept, pixels, skipped


def _stored_size(name: str, sizes, side: int) -> tuple[int, int]:
    if not sizes:
        return (1, 1)
    if side:
        if not storage.fits(len(sizes), (side, side, _NUM_CHANNELS)):
            raise errors.UsageError(
                f"task {name!r} has {len(sizes):,} images, which do not fit "
                f"in memory at {side} x {side} pixels; give a smaller side"
            )
        return side, side
    shapes = {size for _, size in sizes}
    if len(shapes) == 1:
        height, width = shapes.pop()
        if storage.fits(len(sizes), (height, width, _NUM_CHANNELS)):
            return height, width
    shorter = int(np.median([min(size) for _, size in sizes]))
    side = storage.side_that_fits(name, len(sizes), _NUM_CHANNELS, shorter)
    return side, side


def _nothing_left(source: str, skipped) -> str:
    first = "; ".join(f"{s.where}: {s.reason}" for s in skipped[:3])
    return (
        f"{source!r} has no usable image among {len(skipped)} ({first}); give "
        "PNG or JPEG files"
    )


def _class_order(found: set[str]) -> list[str]:
    """Returns class names sorted, as numbers where all are."""
    if all(re.fullmatch(r"[+-]?\d+", c) for c in found):
        return sorted(found, key=lambda c: (int(c), c))
    return sorted(found)


def _rows(
    name: str, labels: np.ndarray, given_splits: Sequence[str]
) -> dict[str, np.ndarray]:
    """Returns the rows of each split."""
    given = np.array(given_splits or ["train"] * len(labels), dtype=object)
    # In a source with splits, what names none is there to learn from.
    given[given == ""] = "train"
    rows = {s: np.flatnonzero(given == s) for s in records.SPLIT_NAMES}
    train = rows["train"]
    drawn = splitting.stratified(
        labels[train],
        name,
        validation_fraction=0.0
        if len(rows["validation"])
        else VALIDATION_FRACTION,
        test_fraction=0.0 if len(rows["test"]) else TEST_FRACTION,
    )
    held = {
        split: rows[split] if len(rows[split]) else train[drawn[split]]
        for split in ("validation", "test")
    }
    return {"train": train[drawn["train"]], **held}


def _is_grey(images: np.ndarray) -> bool:
    """Whether the three channels of every pixel are equal."""
    return all((i == i[..., :1]).all() for i in np.array_split(images, 64))
