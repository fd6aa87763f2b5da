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


def checked_mapping(key: str, value: Any) -> Mapping[str, Any]:
    """Returns `value`, the value of `key`, if it is a mapping.

    Raises:
      UsageError: it is not.
    """
    if not isinstance(value, Mapping):
        raise errors.UsageError(
            f"config key {key} is {value!r}; it takes settings by name"
            if key
            else f"a config is {value!r}; it takes settings by name"
        )
    return value


def normalize_fields(record: Any, prefix: str) -> None:
    """Gives the plain fields of a frozen dataclass their very types.

    Args:
      record: is changed; call it in `__post_init__`.
      prefix: of the dotted keys in messages.

    Raises:
      UsageError: a value is of the wrong kind.
    """
    for field in dataclasses.fields(record):
        if str(field.type) in _PLAIN_TYPES:
            value = convert_value(
                str(field.type),
                getattr(record, field.name),
                prefix + field.name,
            )
            object.__setattr__(record, field.name, value)


def parse_record(
    record_type: type, value: Mapping[str, Any], prefix: str
) -> Any:
    """Returns a dataclass made of plain values.

    Args:
      record_type: the dataclass.
      value: field -> its value; fields that are left out keep their default.
      prefix: of the dotted keys in messages.

    Raises:
      UsageError: a key is unknown or a value of the wrong kind.
    """
    fields = {f.name: f for f in dataclasses.fields(record_type)}
    refuse_unknown(prefix, value, fields)
    field_values = {}
    for key, field_value in value.items():
        annotation = str(fields[key].type)
        if annotation in _PLAIN_TYPES:
            field_value = convert_value(annotation, field_value, prefix + key)
        # Others are the dataclass's own to check.
        field_values[key] = field_value
    return record_type(**field_values)


def refuse_unknown(
    prefix: str, keys: Iterable[Any], allowed: Collection[str]
) -> None:
    """Does nothing if every key of `keys` is allowed.

    Raises:
      UsageError: one is not; the nearest allowed one is named.
    """
    for key in keys:
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


def convert_value(annotation: str, value: Any, key: str) -> Any:
    """Returns a value as its field's type.

    Args:
      annotation: the type as the dataclass writes it.
      value: the value.
      key: its dotted key, for messages.

    Raises:
      UsageError: it is of another type; nothing is guessed.
    """
    if annotation == _TEXTS:
        if not isinstance(value, list | tuple) or not all(
            isinstance(s, str) for s in value
        ):
            raise errors.UsageError(
                f"config key {key} is {value!r}; it takes a list of strings"
            )
        return tuple(value)
    if annotation == _OPTIONAL_FLOAT:
        if value is None:
            return None
        annotation = "float"
    if isinstance(value, np.generic):
        value = value.item()
    # Beyond that, there is no such float.
    if annotation == "float" and type(value) is int and abs(value) < 2**1023:
        value = float(value)
    # By exact type: True is an int to isinstance.
    if type(value).__name__ != annotation:
        raise errors.UsageError(
            f"config key {key} is {value!r}; it takes a value of type "
            f"{annotation}"
        )
    return value
