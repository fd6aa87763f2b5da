"""Nested plain values, as configs hold them, taken over into dataclasses.

Invariant: what comes out has known keys alone, each of the very type that its
field says; a refusal names the dotted key, what was seen and what it takes.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_munet import errors

_TEXTS = "tuple[str, ...]"
_OPTIONAL_FLOAT = "float | None"
_PLAIN_TYPES = ("bool", "float", "int", "str", _TEXTS, _OPTIONAL_FLOAT)


def mapping(key: str, seen: Any) -> Mapping[str, Any]:
    """Returns `seen`, the value of `key`, if it is a mapping.

    Raises:
      UsageError: it is not.
    """
    if not isinstance(seen, Mapping):
        raise errors.UsageError(
            f"config key {key} is {seen!r}; it takes settings by name"
            if key
            else f"a config is {seen!r}; it takes settings by name"
        )
    return seen


def normalize(record: Any, prefix: str) -> None:
    """Gives the plain fields of a frozen dataclass their very types.

    Args:
      record: is changed; call it in `__post_init__`.
      prefix: of the dotted keys in messages.

    Raises:
      UsageError: a value is of the wrong kind.
    """
    for field in dataclasses.fields(record):
        if str(field.type) in _PLAIN_TYPES:
            value = converted(
                str(field.type),
                getattr(record, field.name),
                prefix + field.name,
            )
            object.__setattr__(record, field.name, value)


def record(kind: type, value: Mapping[str, Any], prefix: str) -> Any:
    """Returns a dataclass made of plain values.

    Args:
      kind: the dataclass.
      value: field -> its value; fields that are left out keep their default.
      prefix: of the dotted keys in messages.

    Raises:
      UsageError: a key is unknown or a value of the wrong kind.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
    refuse_unknown(prefix, value, fields)
    given = {}
    for key, seen in value.items():
        annotation = str(fields[key].type)
        if annotation in _PLAIN_TYPES:
            seen = converted(annotation, seen, prefix + key)
        # Others are the dataclass's own to check.
        given[key] = seen
    return kind(**given)


def refuse_unknown(
    prefix: str, seen: Iterable[Any], allowed: Collection[str]
) -> None:
    """Does nothing if every key of `seen` is allowed.

    Raises:
      UsageError: one is not; the nearest allowed one is named.
    """
    for key in seen:
        if key not in allowed:
            if not isinstance(key, str) or not key.isprintable():
                raise errors.UsageError(
                    f"unknown config key {prefix}{key!a}; see keras_munet/"
                    "config.py"
                )
            close = difflib.get_close_matches(key, list(allowed), n=1)
            hint = f"; did you mean {prefix}{close[0]}?" if close else ""
            raise errors.UsageError(
                f"unknown config key {prefix}{key}{hint or '; there are: '}"
                + ("" if hint else ", ".join(prefix + k for k in allowed))
            )


def converted(annotation: str, seen: Any, key: str) -> Any:
    """Returns a value as its field's type.

    Args:
      annotation: the type as the dataclass writes it.
      seen: the value.
      key: its dotted key, for messages.

    Raises:
      UsageError: it is of another type; nothing is guessed.
    """
    if annotation == _TEXTS:
        if not isinstance(seen, list | tuple) or not all(
            isinstance(s, str) for s in seen
        ):
            raise errors.UsageError(
                f"config key {key} is {seen!r}; it takes a list of strings"
            )
        return tuple(seen)
    if annotation == _OPTIONAL_FLOAT:
        if seen is None:
            return None
        annotation = "float"
    if isinstance(seen, np.generic):
        seen = seen.item()
    # Beyond that, there is no such float.
    if annotation == "float" and type(seen) is int and abs(seen) < 2**1023:
        seen = float(seen)
    # By exact type: True is an int to isinstance.
    if type(seen).__name__ != annotation:
        raise errors.UsageError(
            f"config key {key} is {seen!r}; it takes a value of type "
            f"{annotation}"
        )
    return seen
