"""Tells what a value that was read as JSON is.

Invariant: True and False are no numbers here, though Python counts with them.
"""

from __future__ import annotations

import math
from typing import Any

# JSON has larger numbers, but floats and sums do not hold them all.
NUM_MAX = 2**63


def is_whole(value: Any, least: int | None = None) -> bool:
    """Returns whether a value is a whole number that sums can hold.

    Args:
      value: any.
      least: the smallest one allowed; None for any.

    Example:
      >>> is_whole(3), is_whole(3, least=4), is_whole(True), is_whole(3.0)
      (True, False, False, False)
    """
    if type(value) is not int or abs(value) >= NUM_MAX:
        return False
    return least is None or value >= least


def is_count(value: Any) -> bool:
    """Returns whether a value is a whole number from 0."""
    return is_whole(value, least=0)


def is_number(value: Any) -> bool:
    """Returns whether a value is a finite number, whole or not."""
    if type(value) is float:
        return math.isfinite(value)
    return is_whole(value)
