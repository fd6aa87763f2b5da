"""JSON text of others, as plain values.

Invariant: what comes out is strict JSON whose nesting is bounded, so that no
text makes the program run out of stack, here or where its value is walked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

NUM_LEVELS_MAX = 100


def loads(
    data: bytes | str,
    *,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """Returns the value that a JSON text says.

    Args:
      data: the text, UTF-8 if bytes.
      object_pairs_hook: see `json.loads`.

    Raises:
      ValueError: it is no JSON, or nested too deeply; the message is part of
        a line.
    """
    text = data.decode("utf-8") if isinstance(data, bytes) else data
    try:
        value = json.loads(
            text,
            object_pairs_hook=object_pairs_hook,
            parse_constant=_no_constant,
        )
    except RecursionError:
        value = None
        num_levels = NUM_LEVELS_MAX + 1
    else:
        num_levels = nesting_depth(value)
    if num_levels > NUM_LEVELS_MAX:
        raise ValueError(f"it has more than {NUM_LEVELS_MAX} levels")
    return value


def nesting_depth(value: Any) -> int:
    """Returns how deeply lists and objects are nested."""
    num_levels = 0
    level = [value]
    while level:
        num_levels += 1
        level = [
            inner
            for part in level
            if isinstance(part, dict | list)
            for inner in (part.values() if isinstance(part, dict) else part)
        ]
    return num_levels


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number that JSON has")
