"""Kernels as 8-bit whole numbers with a float32 scale per output channel.

Invariant: what a kernel is read back as differs from it by at most half a
step, in every format.
"""

from __future__ import annotations

import numpy as np

# The largest magnitude of a kernel's 8-bit value.
_INT8_MAX = 127


def is_kernel(weight_name: str) -> bool:
    """Returns whether a component's weight is one that 8 bits are kept of."""
    return weight_name.endswith("kernel")


def quantize_kernel(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (8-bit kernel, float32 scale of each output channel).

    Args:
      value: `[..., channels] float32`.

    Returns:
      Arrays `kernel` of the same shape and `scale` `[channels]`, such that
      `kernel * scale` differs from `value` by at most half a scale.
    """
    flat = value.reshape(-1, value.shape[-1])
    scale = np.abs(flat).max(0, initial=0.0) / _INT8_MAX
    scale = np.where(scale > 0.0, scale, 1.0).astype(np.float32)
    return np.rint(value / scale).astype(np.int8), scale
