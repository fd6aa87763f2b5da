"""How two settings differ, said so that a person can mend it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from keras_munet.core import canonical_json
from keras_munet.store import os_errors

_ABSENT = "nothing"
_NUM_VALUE_CHARS_MAX = 60


def differences(seen: Any, asked: Any) -> list[str]:
    """Returns one text per dotted key whose values differ, sorted by key.

    Args:
      seen: plain JSON values that are there.
      asked: plain JSON values that were asked for; tuples count as lists.

    Raises:
      TypeError, ValueError: `asked` is not plain JSON.
    """
    asked = json.loads(canonical_json.dumps(asked))
    return list(_differences(seen, asked, ""))


def _differences(seen: Any, asked: Any, key: str) -> Iterator[str]:
    if isinstance(seen, dict) and isinstance(asked, dict):
        for name in sorted(seen.keys() | asked.keys()):
            shown = os_errors.shown(name)
            dotted = f"{key}.{shown}" if key else shown
            if name not in seen:
                yield f"{dotted} is {_ABSENT}, not {_shown(asked[name])}"
            elif name not in asked:
                yield f"{dotted} is {_shown(seen[name])}, not {_ABSENT}"
            else:
                yield from _differences(seen[name], asked[name], dotted)
    elif not _equal(seen, asked):
        yield f"{key} is {_shown(seen)}, not {_shown(asked)}"


def _equal(seen: Any, asked: Any) -> bool:
    # 1 and 1.0 are one setting; 1 and true are not.
    numbers = (int, float)
    if type(seen) in numbers and type(asked) in numbers:
        return seen == asked
    if isinstance(seen, list) and isinstance(asked, list):
        return len(seen) == len(asked) and all(map(_equal, seen, asked))
    if isinstance(seen, dict) and isinstance(asked, dict):
        return seen.keys() == asked.keys() and all(
            _equal(value, asked[key]) for key, value in seen.items()
        )
    return canonical_json.dumps(seen) == canonical_json.dumps(asked)


def _shown(value: Any) -> str:
    text = canonical_json.dumps(value)
    if len(text) > _NUM_VALUE_CHARS_MAX:
        return f"{text[: _NUM_VALUE_CHARS_MAX - 3]}..."
    return text
