"""Says what is odd in a user's own images.

Invariant: a notice is one sentence that can be printed in one line; it
changes nothing in the data.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from keras_munet.core import printable
from keras_munet.core import target_types
from keras_munet.data import types

_NUM_NAMES_MAX = 30
_NUM_GROUPS_MAX = 10
_NUM_PLACES_MAX = 3
# Of 0 to 255; an image that uses fewer values looks empty.
_NUM_VALUES_MIN = 16
# How a class is missed that a split does not have.
_WITHOUT = {
    "train": "so no path can learn them",
    "validation": "so the search does not measure them",
    "test": "so the reported accuracy does not measure them",
}


def reading_notice(
    layout: str, num_classes: int, reasons: Sequence[str]
) -> str:
    """Returns how a source is read, and why parts of it are left out.

    Args:
      layout: as of `layout.Layout`, or of a table.
      num_classes: that it has.
      reasons: of what is left out.
    """
    counts = collections.Counter(reasons).most_common(_NUM_GROUPS_MAX)
    left_out = ", ".join(f"{num:,} {reason}" for reason, num in counts)
    more = ", ..." if len(set(reasons)) > _NUM_GROUPS_MAX else ""
    return f"the source is read as {layout}: {num_classes:,} classes" + (
        f"; {len(reasons):,} left out ({left_out}{more})" if reasons else ""
    )


def class_notices(
    class_names: Sequence[str], labels: Mapping[str, np.ndarray]
) -> list[str]:
    """Returns what is odd about classes.

    Args:
      class_names: in the order of the labels.
      labels: of each split, as of `types.Split`.
    """
    notices = []
    is_multi = (
        target_types.of_labels(labels["train"]) is target_types.MULTI_LABEL
    )
    if is_multi:
        notices += _label_notices(class_names, labels)
    elif len(class_names) == 1:
        notices.append(
            f"the task has a single class, {_names(class_names)}, so every "
            "accuracy is 1"
        )
    for split in types.SPLIT_NAMES:
        present = set(_present(labels[split]).tolist())
        empty_classes = [
            n for i, n in enumerate(class_names) if i not in present
        ]
        if empty_classes:
            notices.append(
                f"{split} has no image of {len(empty_classes):,} of "
                f"{len(class_names):,} classes, {_WITHOUT[split]}: "
                f"{_names(empty_classes)}"
            )
    for what, key in (("capitals", str.casefold), ("zeros", _number)):
        equal = collections.defaultdict(list)
        for name in class_names:
            equal[key(name)].append(name)
        notices += [
            f"the classes {_names(group)} differ in {what} only"
            for group in equal.values()
            if len(group) > 1
        ]
    return notices


def equal_image_notices(
    places: Sequence[str],
    labels: np.ndarray,
    class_names: Sequence[str],
    rows: Mapping[str, np.ndarray],
    digests: Sequence[bytes],
) -> list[str]:
    """Returns what is odd about images that are equal.

    Args:
      places: of the images, for the messages.
      labels: as of `types.Split`.
      class_names: in the order of the labels.
      rows: of each split.
      digests: equal where images are.
    """
    split_of = np.empty(len(places), object)
    for split, members in rows.items():
        split_of[members] = split
    groups = collections.defaultdict(list)
    for i, digest in enumerate(digests):
        groups[digest].append(i)
    in_splits = collections.defaultdict(list)
    in_classes = collections.defaultdict(list)
    num_repeated, repeated = 0, []
    for group in groups.values():
        if len(group) == 1:
            continue
        splits = [s for s in types.SPLIT_NAMES if s in split_of[group]]
        classes = tuple(sorted({_label_key(labels[i]) for i in group}))
        if len(splits) > 1:
            in_splits[tuple(splits)].append(group)
        if len(classes) > 1:
            in_classes[classes].append(group)
        if len(splits) == len(classes) == 1:
            num_repeated += len(group) - 1
            repeated.append(group)
    notices = [
        f"{len(equal_rows):,} {_images(equal_rows)} in {_and(splits)}: "
        f"{_places(places, equal_rows)}"
        for splits, equal_rows in sorted(in_splits.items())
    ]
    for classes, equal_rows in sorted(in_classes.items())[:_NUM_GROUPS_MAX]:
        named = [_label_text(key, class_names) for key in classes]
        notices.append(
            f"{len(equal_rows):,} {_images(equal_rows)} in the classes "
            f"{_names(named)}: {_places(places, equal_rows)}"
        )
    if len(in_classes) > _NUM_GROUPS_MAX:
        notices.append(
            f"equal images are in {len(in_classes) - _NUM_GROUPS_MAX:,} more "
            "groups of classes"
        )
    if num_repeated:
        notices.append(
            f"{num_repeated:,} images repeat another of their class and "
            f"split: {_places(places, repeated)}"
        )
    return notices


def range_notices(
    low: np.ndarray, high: np.ndarray, places: Sequence[str] = ()
) -> list[str]:
    """Returns what is odd about the values of pixels.

    Args:
      low: `[n]`, the least value of each image.
      high: `[n]`, the largest one.
      places: of the images, for the messages; none if they have none.
    """
    if not len(low):
        return []
    least, most = int(low.min()), int(high.max())
    if most - least < _NUM_VALUES_MIN:
        return [
            f"all pixels lie in {least} to {most} of 0 to 255, so the images "
            "look empty"
        ]
    empty = np.flatnonzero(low == high).tolist()
    if not empty:
        return []
    listed = f": {_places(places, [[i] for i in empty])}" if places else ""
    return [f"{len(empty):,} images have a single value in every pixel{listed}"]


def file_notices(
    unserved: Sequence[str], wide_bits: Sequence[int]
) -> list[str]:
    """Returns what is odd about the files of images.

    Args:
      unserved: of each image its format, where an export refuses the file.
      wide_bits: of each the bits that a 16-bit file uses; 0 of others.
    """
    notices = []
    formats = collections.Counter(form for form in unserved if form)
    if formats:
        listed = ", ".join(
            f"{n:,} {form}" for form, n in sorted(formats.items())
        )
        notices.append(
            f"an export refuses files of these kinds: {listed}; it reads JPEG, "
            "PNG, GIF and BMP, and WebP with --webp"
        )
    bits = collections.Counter(used for used in wide_bits if used)
    if bits:
        listed = ", ".join(
            f"{n:,} use {used} bits" for used, n in sorted(bits.items())
        )
        more = (
            "" if len(bits) == 1 else ", so equal values differ in brightness"
        )
        notices.append(f"of the 16-bit files {listed}{more}")
    return notices


def _label_notices(
    class_names: Sequence[str], labels: Mapping[str, np.ndarray]
) -> list[str]:
    """Returns what is odd about labels of which an image has any number."""
    every = np.concatenate([labels[split] for split in types.SPLIT_NAMES])
    num_without = int((~every.any(axis=1)).sum())
    notices = []
    if num_without:
        notices.append(
            f"{num_without:,} of {len(every):,} images have no label; they "
            "count as images of no class"
        )
    common = np.flatnonzero(labels["train"].all(axis=0)).tolist()
    if common:
        notices.append(
            "every training image has the label "
            f"{_names([class_names[i] for i in common])}, so no path can "
            "learn where it is missing"
        )
    return notices


def _present(labels: np.ndarray) -> np.ndarray:
    """Returns the classes that some images have."""
    if target_types.of_labels(labels) is target_types.MULTI_LABEL:
        return np.flatnonzero(labels.any(axis=0))
    return np.unique(labels)


def _label_key(label: np.ndarray) -> int | tuple[int, ...]:
    """Returns a label, or the numbers of several."""
    if label.ndim:
        return tuple(np.flatnonzero(label).tolist())
    return int(label)


def _label_text(key: int | tuple[int, ...], class_names: Sequence[str]) -> str:
    if isinstance(key, int):
        return class_names[key]
    return target_types.SEPARATOR.join([class_names[i] for i in key])


def _number(name: str) -> str:
    match = re.fullmatch(r"([+-]?)0*(\d+?)(?:\.0*)?", name)
    return f"{match[1].replace('+', '')}{match[2]}" if match else name


def _images(rows: Sequence) -> str:
    return "image is" if len(rows) == 1 else "images are"


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]])


def _names(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _NUM_NAMES_MAX else ""
    printable_names = (
        repr(printable.printable(name)) for name in names[:_NUM_NAMES_MAX]
    )
    return ", ".join(printable_names) + more


def _places(places: Sequence[str], groups: Sequence[Sequence[int]]) -> str:
    more = ", ..." if len(groups) > _NUM_PLACES_MAX else ""
    listed = [
        " = ".join(places[i] for i in group[:_NUM_PLACES_MAX])
        for group in groups[:_NUM_PLACES_MAX]
    ]
    return ", ".join(listed) + more
