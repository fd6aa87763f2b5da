"""Checks of what factorised layers are given; all errors are one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_munet import errors


def tasks(task_names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of tasks, different identifiers.

    Raises:
      UsageError: they are not.
    """
    names = (task_names,) if isinstance(task_names, str) else tuple(task_names)
    bad = [n for n in names if not isinstance(n, str) or not n.isidentifier()]
    if bad or len(set(names)) < len(names):
        raise errors.UsageError(
            f"tasks {list(names)!r} cannot name factors; give different names "
            "of letters, digits and _"
        )
    return names


def one_of(what: str, value: Any, allowed: tuple[str, ...]) -> Any:
    """Returns `value`, which is one of `allowed`.

    Raises:
      UsageError: it is not.
    """
    if value not in allowed:
        raise errors.UsageError(
            f"{what} is {value!r}; choose one of {', '.join(allowed)}"
        )
    return value


def positive(what: str, value: Any) -> int:
    """Returns `value`, an integer of 1 or more.

    Raises:
      UsageError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise errors.UsageError(
            f"{what} is {value!r}; give an integer of 1 or more"
        )
    return value


def pair(what: str, value: Any) -> tuple[int, int]:
    """Returns one or two integers of 1 or more as two.

    Raises:
      UsageError: it is not.
    """
    parts = (value, value) if isinstance(value, int) else tuple(value)
    if len(parts) != 2:
        raise errors.UsageError(
            f"{what} is {value!r}; give one or two integers"
        )
    return positive(what, parts[0]), positive(what, parts[1])
