"""Tells the data of a task from other data of the same name.

Invariant: two fingerprints agree if classes, labels and images are equal in
every split. The size at which images are stored matters only where the
original files are unknown.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_munet import errors
from keras_munet.core import commands
from keras_munet.core import json_fields

SPLITS = ("train", "validation", "test")
# Distinct from the id of a component, which is hexadecimal digits alone.
_DIGEST_PREFIX = "sha256:"
_DIGEST = re.compile(rf"{_DIGEST_PREFIX}[0-9a-f]{{64}}")
# A fingerprint is part of a task's record, which must stay small.
_NUM_NOTICES_MAX = 50
_NUM_NOTICE_CHARS_MAX = 500


@dataclasses.dataclass(frozen=True)
class SplitFingerprint:
    """The content of one split.

    Attributes:
      num_examples: how many images it has.
      labels: SHA-256 of the labels in order.
      images: SHA-256 of the stored pixels in order.
      files: SHA-256 of the original files in order; empty where the images
        did not come from files.
    """

    num_examples: int
    labels: str
    images: str
    files: str = ""


@dataclasses.dataclass(frozen=True)
class DataFingerprint:
    """The content of a task's data.

    Attributes:
      image_shape: height, width, channels of each stored image.
      splits: by name.
      notices: what preparing said about the data; no part of the comparison.
    """

    image_shape: tuple[int, int, int]
    splits: Mapping[str, SplitFingerprint]
    notices: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_json` is the inverse."""
        return {
            "image_shape": list(self.image_shape),
            "splits": {
                name: dataclasses.asdict(split)
                for name, split in self.splits.items()
            },
            "notices": list(self.notices),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DataFingerprint:
        """Returns the fingerprint that `to_json` wrote.

        Raises:
          ValueError: it is not one.
        """
        try:
            fingerprint = cls(
                image_shape=tuple(value["image_shape"]),
                splits={
                    name: SplitFingerprint(**value["splits"][name])
                    for name in SPLITS
                },
                notices=tuple(value["notices"]),
            )
            same = fingerprint.to_json() == value and fingerprint._is_valid()
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"its data are no fingerprint ({type(error).__name__}: {error})"
            ) from error
        if not same:
            raise ValueError("its data are no fingerprint")
        return fingerprint

    def _is_valid(self) -> bool:
        sizes = (*self.image_shape, *(s.num_examples for s in _all(self)))
        return (
            len(self.image_shape) == len(("height", "width", "channels"))
            and all(json_fields.is_whole(size, least=1) for size in sizes)
            and all(
                _DIGEST.fullmatch(text)
                for split in _all(self)
                for text in (split.labels, split.images, split.files)
                if text or text is not split.files
            )
            and len(self.notices) <= _NUM_NOTICES_MAX
            and all(
                isinstance(notice, str) and len(notice) <= _NUM_NOTICE_CHARS_MAX
                for notice in self.notices
            )
        )


def digest_text(sha256: str) -> str:
    """Returns a SHA-256 in hexadecimal digits as a fingerprint holds it."""
    return _DIGEST_PREFIX + sha256


def bounded_notices(notices: Sequence[str]) -> tuple[str, ...]:
    """Returns notices that a fingerprint can hold."""
    lines = [
        text
        if len(text) <= _NUM_NOTICE_CHARS_MAX
        else text[: _NUM_NOTICE_CHARS_MAX - 3] + "..."
        for text in notices
    ]
    if len(lines) > _NUM_NOTICES_MAX:
        num_left = len(lines) - _NUM_NOTICES_MAX + 1
        lines = [*lines[: _NUM_NOTICES_MAX - 1], f"and {num_left} more notices"]
    return tuple(lines)


def class_difference(before: Sequence[str], now: Sequence[str]) -> str:
    """Returns in words how class names differ; empty where they are equal."""
    before, now = list(before), list(now)
    if before == now:
        return ""
    removed = [name for name in before if name not in set(now)]
    added = [name for name in now if name not in set(before)]
    if not removed and not added and len(before) == len(now):
        i = next(i for i, name in enumerate(before) if now[i] != name)
        return (
            f"its classes have another order (class {i} is {now[i]!a}, it was "
            f"{before[i]!a})"
        )
    parts = [f"{len(now)} classes instead of {len(before)}"]
    if len(before) == len(now):
        parts = []
    parts += [f"class {_some(added)} is new"] if added else []
    parts += [f"class {_some(removed)} is missing"] if removed else []
    return ", ".join(parts)


def data_difference(before: DataFingerprint, now: DataFingerprint) -> str:
    """Returns in words how data differ; empty where they are equal."""
    for name in SPLITS:
        old, new = before.splits[name], now.splits[name]
        if old.num_examples != new.num_examples:
            return (
                f"{name} has {new.num_examples:,} images, it had "
                f"{old.num_examples:,}"
            )
    for name in SPLITS:
        if before.splits[name].labels != now.splits[name].labels:
            return f"the labels of {name} differ"
    by_files = all(split.files for split in (*_all(before), *_all(now)))
    if not by_files and before.image_shape != now.image_shape:
        return (
            f"its images are stored as {_shape(now)}, they were stored as "
            f"{_shape(before)}"
        )
    for name in SPLITS:
        old, new = before.splits[name], now.splits[name]
        same = old.files == new.files if by_files else old.images == new.images
        if not same:
            return f"the images of {name} differ"
    return ""


def refuse_other_data(
    task: str,
    before: tuple[Sequence[str], DataFingerprint | None],
    now: tuple[Sequence[str], DataFingerprint],
) -> None:
    """Refuses data that are not those that a task was trained on.

    Args:
      task: its name.
      before: class names, none if they are unknown, and fingerprint of the
        data that it was trained on; None if that is unknown.
      now: class names and fingerprint of the data at hand.

    Raises:
      DataError: classes, labels or images differ.
    """
    problem = class_difference(before[0], now[0]) if before[0] else ""
    if not problem and before[1] is not None:
        problem = data_difference(before[1], now[1])
    if problem:
        raise errors.DataError(
            f"task {task!r} was trained on other data than those at hand: "
            f"{problem}; restore the earlier data, prepare the new data under "
            f"another name, or run {commands.command('system')} remove "
            f"--task={task} to learn the task anew"
        )


def _all(fingerprint: DataFingerprint) -> list[SplitFingerprint]:
    return [fingerprint.splits[name] for name in SPLITS]


def _shape(fingerprint: DataFingerprint) -> str:
    return " x ".join(map(str, fingerprint.image_shape))


def _some(names: Sequence[str], num: int = 3) -> str:
    listed = ", ".join(ascii(name)[:60] for name in names[:num])
    return listed + (
        f" and {len(names) - num} more" if len(names) > num else ""
    )
