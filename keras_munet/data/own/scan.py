"""Looks at every image of a user's own folder or table.

Invariant: each is decoded, and used or named in the list of skipped; how the
others are kept depends on those of use alone.
"""

from __future__ import annotations

import decimal
import hashlib
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from keras_munet import errors
from keras_munet.core import target_types
from keras_munet.data import image_storage
from keras_munet.data.own import images
from keras_munet.data.own import notices as notices_lib
from keras_munet.data.own import requests
from keras_munet.data.own import sources

_NUM_CHANNELS = 3

# An example, and the height and width that its file states.
_Sized = tuple[sources.Example, tuple[int, int]]


class Examined(NamedTuple):
    """A folder or table whose every image was decoded once.

    Attributes:
      examples: those of use.
      labels: `[n] int32` of these, or `[n, classes] int32` of 0 and 1.
      class_names: in the order of the labels.
      stored: how their images are kept.
      pixels: `[n, height, width, 3] uint8`; None if they are not to be held
        in memory.
      skipped: what is of no use, with the reasons.
      layout: how the source is read, in one line.
      notices: sentences about what is odd in the source.
      request: the request, with every file.
      file_digests: SHA-256 of the file of each example.
      pixel_digests: equal where images are, as they are stored in memory.
      ranges: `[n, 2] uint8`, the least and the largest pixel of each.
      unserved: of each its format, where an export refuses the file.
      wide_bits: of each the bits that a 16-bit file uses; 0 of others.
    """

    examples: list[sources.Example]
    labels: np.ndarray
    class_names: list[str]
    stored: image_storage.Stored
    pixels: np.ndarray | None
    skipped: list[sources.Skipped]
    layout: str
    notices: list[str]
    request: requests.Request
    file_digests: list[str]
    pixel_digests: list[bytes]
    ranges: np.ndarray
    unserved: list[str]
    wide_bits: list[int]

    @property
    def given_splits(self) -> list[str]:
        """Returns each example's split as the source gives it."""
        return [e.split for e in self.examples]

    def all_notices(self, rows: Mapping[str, np.ndarray]) -> tuple[str, ...]:
        """Returns how the source is read, and what is odd about its images.

        Args:
          rows: of each split, as of `tasks.split_rows`.
        """
        places = [example.where for example in self.examples]
        labels = {
            split: self.labels[members] for split, members in rows.items()
        }
        return (
            notices_lib.reading_notice(
                self.layout,
                len(self.class_names),
                [skipped.reason for skipped in self.skipped],
            ),
            *self.notices,
            *notices_lib.class_notices(self.class_names, labels),
            *notices_lib.equal_image_notices(
                places, self.labels, self.class_names, rows, self.pixel_digests
            ),
            *notices_lib.range_notices(
                self.ranges[:, 0], self.ranges[:, 1], places
            ),
            *notices_lib.file_notices(self.unserved, self.wide_bits),
        )

    def files_digest(self, rows: np.ndarray) -> str:
        """Returns the SHA-256 of the files of some examples, in order."""
        text = "\n".join(self.file_digests[i] for i in rows)
        return hashlib.sha256(text.encode()).hexdigest()


class _Decoded(NamedTuple):
    """Decoded images: the first two as of `Examined`."""

    images: list[_Sized]
    pixels: np.ndarray | None
    skipped: list[sources.Skipped]
    digests: list[bytes]
    ranges: np.ndarray
    unserved: list[str]
    wide_bits: list[int]


def examine(
    source: str,
    *,
    side: int = 0,
    image_size: int = image_storage.IMAGE_SIZE,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> Examined:
    """Decodes every image of a folder or table once.

    `image_storage.stored` says how they are stored; no image counts as one of
    more pixels than the shorter side of the median one. What training and
    evaluation resize to is a square of the whole image, too.

    Args:
      source: `folder:PATH` or `table:PATH`.
      side: squares of so many pixels are kept; 0 chooses.
      image_size: the largest side of a model's input, pixels.
      progress: wraps the list of images, e.g. `tqdm.tqdm`.

    Raises:
      UsageError: there is no such source.
      DataError: it has no usable example.
    """
    listing = sources.listing(source)
    request = requests.request_of(
        listing, source, side=side, image_size=image_size
    )
    sha256 = {
        id(example): file.sha256
        for example, file in zip(listing.examples, request.files, strict=True)
    }
    sized, skipped = _sizes(listing.examples)
    skipped = [*listing.skipped, *skipped]
    kept_as = stored(sized, side, image_size)
    decoded = _decoded(sized, kept_as, progress)
    usable, pixels, unusable = decoded[:3]
    skipped += unusable
    if unusable:
        # The heads of damaged files must not say how the others are stored.
        exactly = stored(usable, side, image_size)
        if exactly != kept_as:
            kept_as = exactly
            decoded = _decoded(usable, kept_as, progress)
            usable, pixels = decoded[:2]
    if not usable:
        raise errors.DataError(_nothing_left(source, skipped))
    examples = [example for example, _ in usable]
    label_names = [listing.label_names(e) for e in examples]
    class_names = _class_order({n for names in label_names for n in names})
    all_names = {n for e in listing.examples for n in listing.label_names(e)}
    lost_classes = all_names - set(class_names)
    skipped += [
        sources.Skipped(f"class {c!r}", "has no usable image")
        for c in sorted(lost_classes)
    ]
    if listing.target is target_types.MULTI_LABEL:
        _refuse_one_label(source, label_names)
    labels = _labels(label_names, class_names, listing.target)
    return Examined(
        examples,
        labels,
        class_names,
        kept_as,
        pixels,
        skipped,
        listing.layout,
        listing.notices,
        request,
        [sha256[id(example)] for example in examples],
        *decoded[3:],
    )


def stored(
    sizes: Sequence[tuple[Any, tuple[int, int]]], side: int, image_size: int
) -> image_storage.Stored:
    """Returns how images are kept of which the sizes are known.

    Args:
      sizes: (anything, (height, width)) of each.
      side: as of `examine`.
      image_size: as of `examine`.
    """
    if side:
        square = (side, side, _NUM_CHANNELS)
        fits = image_storage.fits(len(sizes), square)
        return image_storage.Stored(square, resized=True, resident=fits)
    shapes = {size for _, size in sizes}
    height, width = shapes.pop() if len(shapes) == 1 else (0, 0)
    # More pixels than the largest input can use would cost time in each step.
    if min(height, width) > max(image_storage.SIDES[0], image_size):
        height = width = 0
    shorter = [min(size) for _, size in sizes]
    return image_storage.stored(
        len(sizes),
        (height, width, _NUM_CHANNELS),
        side_max=int(np.median(shorter)) if shorter else 1,
        image_size=image_size,
    )


def too_large(stored_form: image_storage.Stored, num_images: int) -> str:
    """Returns in words why images that are kept so are not in memory."""
    height, width, num_channels = stored_form.shape
    num_bytes = num_images * height * width * num_channels
    return (
        f"{num_images:,} images take {num_bytes / 2**30:.1f} GiB at {height} x "
        f"{width} pixels, more than memory may hold"
    )


def _sizes(
    examples: Sequence[sources.Example],
) -> tuple[list[_Sized], list[sources.Skipped]]:
    """Returns (example, (height, width)) of each image, and the skipped."""
    sizes, skipped = [], []
    for example in examples:
        try:
            sizes.append((example, images.size_of(example.read())))
        except images.UnusableImageError as e:
            skipped.append(sources.Skipped(example.where, str(e)))
        except OSError as e:
            reason = f"cannot be read: {e.strerror or e}"
            skipped.append(sources.Skipped(example.where, reason))
    return sizes, skipped


def _decoded(
    sized: Sequence[_Sized],
    kept_as: image_storage.Stored,
    progress: Callable[[Sequence[Any]], Iterable[Any]],
) -> _Decoded:
    """Decodes images, and leaves out those that cannot be."""
    pixels = None
    if kept_as.resident:
        pixels = np.empty((len(sized), *kept_as.shape), np.uint8)
    usable: list[_Sized] = []
    skipped, digests, ranges = [], [], []
    unserved, wide_bits = [], []
    for example, head in progress(sized):
        try:
            picture = images.picture(example.read())
        except (images.UnusableImageError, OSError) as e:
            skipped.append(sources.Skipped(example.where, str(e)))
            continue
        image = picture.pixels
        if pixels is not None:
            image = images.resized(image, *kept_as.shape[:2])
            pixels[len(usable)] = image
        usable.append((example, head))
        digests.append(_digest(image))
        ranges.append((image.min(), image.max()))
        unserved.append(picture.unserved)
        wide_bits.append(picture.wide_bits)
    return _Decoded(
        usable,
        None if pixels is None else pixels[: len(usable)],
        skipped,
        digests,
        np.array(ranges, np.uint8).reshape(-1, 2),
        unserved,
        wide_bits,
    )


def _digest(image: np.ndarray) -> bytes:
    """Returns what is equal where images are, grey or with equal channels."""
    if image.shape[-1] > 1 and (image == image[..., :1]).all():
        image = image[..., :1]
    total = hashlib.sha256(repr(image.shape).encode())
    total.update(np.ascontiguousarray(image).data)
    return total.digest()


def _nothing_left(source: str, skipped) -> str:
    first = "; ".join(f"{s.where}: {s.reason}" for s in skipped[:3])
    return (
        f"{source!r} has no usable image among {len(skipped)} ({first}); give "
        "PNG or JPEG files"
    )


def _refuse_one_label(
    source: str, label_names: Sequence[Sequence[str]]
) -> None:
    """Refuses a list of labels where no image, or each one, has one label.

    Raises:
      DataError: it is so.
    """
    if not any(label_names):
        raise errors.DataError(
            f"{source!r} has no usable image with a label; give at least one "
            "image that can be read a label"
        )
    if all(len(names) == 1 for names in label_names):
        raise errors.DataError(
            f"{source!r} has a column of any number of labels an image, and "
            "every usable image has exactly one; name the column 'label'"
        )


def _labels(
    label_names: Sequence[Sequence[str]],
    class_names: Sequence[str],
    target: target_types.TargetType,
) -> np.ndarray:
    """Returns labels as of `Examined`, from the names of each example's."""
    index = {c: i for i, c in enumerate(class_names)}
    if target is target_types.SINGLE_LABEL:
        return np.array([index[name] for (name,) in label_names], np.int32)
    labels = np.zeros((len(label_names), len(class_names)), np.int32)
    for row, names in zip(labels, label_names, strict=True):
        row[[index[name] for name in names]] = 1
    return labels


def _class_order(class_names: set[str]) -> list[str]:
    """Returns class names sorted, as numbers where all are."""
    if all(re.fullmatch(r"[+-]?\d+(\.\d*)?", c) for c in class_names):
        return sorted(class_names, key=lambda c: (decimal.Decimal(c), c))
    return sorted(class_names)
