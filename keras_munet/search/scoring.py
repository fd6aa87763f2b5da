"""What a child is worth: quality times a size penalty (section 2, "Score")."""

from __future__ import annotations


def size_factor(
    accounted_params: float, num_root_params: int, base: float
) -> float:
    """Returns base ** (accounted_params / num_root_params).

    A base of 1.0 makes the score plain quality.
    """
    return base ** (accounted_params / num_root_params)
