"""Task names: what may name a task, a file and a signature.

Invariant: a valid task name can never leave the folder it is stored in, nor
collide with another on a case-insensitive file system, nor name a device or
something of ours.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from keras_munet import errors
from keras_munet.core import specs

PRIVATE_PREFIX = "private:"
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
_TASK = re.compile(rf"{_PART}(/{_PART})*")
_NUM_CHARS_MAX = 120
# What some systems take for a device, with any extension, or cannot store: an
# archive may travel there.
_RESERVED = re.compile(
    r"(?:(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?|.*\.)", re.IGNORECASE
)


class TaskName(NamedTuple):
    """A task as an experiment names it.

    Attributes:
      name: the bare name.
      private: whether other tasks never start from its paths.
    """

    name: str
    private: bool


def split_private(task_name: str) -> TaskName:
    """Returns the parts of `[private:]NAME`.

    Raises:
      UsageError: the name has characters that cannot name a task, or is
        reserved.
    """
    private = task_name.startswith(PRIVATE_PREFIX)
    name = task_name[len(PRIVATE_PREFIX) :] if private else task_name
    if not _TASK.fullmatch(name) or len(name) > _NUM_CHARS_MAX:
        raise errors.UsageError(
            f"{task_name!r} cannot name a task: use letters, digits "
            "and . _ + - in parts joined by '/', at most "
            f"{_NUM_CHARS_MAX} characters, with 'private:' in front for a "
            "private task"
        )
    if name == specs.NOT_TRAINABLE or any(
        _RESERVED.fullmatch(part) for part in name.split("/")
    ):
        raise errors.UsageError(
            f"{task_name!r} cannot name a task: it is reserved, as are the "
            "names of devices (con, nul, com1, ...) and parts that end with "
            "a dot; use another name"
        )
    return TaskName(name, private)


def bare_name(task_name: str) -> str:
    """Returns NAME of `[private:]NAME`.

    Raises:
      UsageError: as of `split_private`.
    """
    return split_private(task_name).name


def is_task(name: str) -> bool:
    """Returns whether a name can be that of a task."""
    try:
        split_private(name)
    except errors.UsageError:
        return False
    return True


def file_name(task_name: str) -> str:
    """Returns the one file-name part that stands for `task_name`."""
    return bare_name(task_name).replace("/", "~")


def signature_name(task_name: str) -> str:
    """Returns the identifier of a task in SavedModel signatures.

    `cmaterdb/bangla` becomes `cmaterdb_bangla`.
    """
    return re.sub(r"[^A-Za-z0-9]+", "_", bare_name(task_name))
