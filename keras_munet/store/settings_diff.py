"""Lists the differences of two settings, key by key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from keras_munet.core import canonical_json
from keras_munet.store import os_errors

_ABSENT = "nothing"
_NUM_VALUE_CHARS_MAX = 60


def differences(old: Any, new: Any) -> list[str]:
    """Returns one text per dotted key whose values differ, sorted by key.

    Args:
      old: plain JSON values that are there.
      new: plain JSON values of the request; tuples count as lists.

    Raises:
      TypeError, ValueError: `new` is not plain JSON.
    """
    new = json.loads(canonical_json.dumps(new))
    return list(_differences(old, new, ""))


def _differences(old: Any, new: Any, key: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            text = os_errors.show(name)
            dotted = f"{key}.{text}" if key else text
            if name not in old:
                yield f"{dotted} is {_ABSENT}, not {_value_text(new[name])}"
            elif name not in new:
                yield f"{dotted} is {_value_text(old[name])}, not {_ABSENT}"
            else:
                yield from _differences(old[name], new[name], dotted)
    elif not _equal(old, new):
        yield f"{key} is {_value_text(old)}, not {_value_text(new)}"


def _equal(old: Any, new: Any) -> bool:
    # 1 and 1.0 are one setting; 1 and true are not.
    numbers = (int, float)
    if type(old) in numbers and type(new) in numbers:
        return old == new
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_equal, old, new))
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(
            _equal(value, new[key]) for key, value in old.items()
        )
    return canonical_json.dumps(old) == canonical_json.dumps(new)


def _value_text(value: Any) -> str:
    text = canonical_json.dumps(value)
    if len(text) > _NUM_VALUE_CHARS_MAX:
        return f"{text[: _NUM_VALUE_CHARS_MAX - 3]}..."
    return text
