"""One byte string per value: the JSON that records are hashed and stored as.

Invariant: equal values give equal bytes on every machine and version, so
that a digest names a value.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any


def dumps(value: Any) -> str:
    """Returns `value` as JSON with sorted keys and no white space.

    Raises:
      ValueError: a float is NaN or infinite, which JSON cannot hold.
      TypeError: a value is not a plain JSON type.
    """
    return json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
        ensure_ascii=True,
    )


def json_digest(value: Any, num_chars: int = 64) -> str:
    """Returns the first `num_chars` hex characters of `value`'s SHA-256."""
    return hashlib.sha256(dumps(value).encode()).hexdigest()[:num_chars]
