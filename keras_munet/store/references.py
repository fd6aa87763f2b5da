"""Finds the objects that a JSON value names at any depth.

Invariant: every object that a value names is found without knowing how the
value is built, so that what is in use is never taken for rubbish.
"""

from __future__ import annotations

import re
from collections.abc import Container
from collections.abc import Iterator
from typing import Any

from keras_munet.core import specs

_OBJECT_ID = re.compile(r"[0-9a-f]{64}")
_QUOTED_ID = re.compile(rb'"([0-9a-f]{64})"')


def object_ids(value: Any) -> Iterator[str]:
    """Yields every text in `value`, keys too, that could be an object's id."""
    for part in _parts(value):
        if isinstance(part, str) and _OBJECT_ID.fullmatch(part):
            yield part


def may_name(data: bytes, ids: Container[str]) -> bool:
    """Returns whether the bytes of a record may name one of some objects."""
    matches = _QUOTED_ID.finditer(data)
    return any(match[1].decode() in ids for match in matches)


def component_refs(value: Any) -> Iterator[specs.ComponentRef]:
    """Yields every list in `value` that `ComponentRef.to_json` returned."""
    for part in _parts(value):
        if (
            isinstance(part, list)
            and len(part) == 4
            and all(isinstance(text, str) for text in part[:3])
            and _OBJECT_ID.fullmatch(part[1])
            and len(part[2]) == specs.SPEC_ID_CHARS
        ):
            try:
                ref = specs.ComponentRef.from_json(part)
            except ValueError:
                # It is nearly such a list, and something else.
                continue
            yield ref


def _parts(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, dict):
            waiting.extend(part.keys())
            waiting.extend(part.values())
        elif isinstance(part, list | tuple):
            waiting.extend(part)
