"""Position embeddings of another grid (section 2, cloning, step 3).

Invariant: the class token's embedding is kept to the bit, and the grid is
interpolated linearly along each side with its corners held in place, which is
what `scipy.ndimage.zoom(order=1)` computes.
"""

from __future__ import annotations

import math

import numpy as np

from keras_munet import errors
from keras_munet.core import specs

_WEIGHT = "pos_embedding"


def resample_component(
    component: specs.Component, spec: specs.ComponentSpec
) -> specs.Component:
    """Returns the position embedding `component` on the grid of `spec`.

    Momentum belongs to the old grid and is left out.

    Raises:
      UsageError: the two are not position embeddings of one width over
        square grids.
    """
    source, target = component.spec, spec
    kinds = {source.layer, target.layer}
    widths = {_shape(s)[-1] for s in (source, target) if _shape(s)}
    if kinds != {"PositionEmbedding"} or len(widths) != 1:
        raise errors.UsageError(
            f"cannot resample {source.layer} {dict(source.config)} to "
            f"{target.layer} {dict(target.config)}; only position embeddings "
            "of one width can be"
        )
    values = resample_positions(component.weights[_WEIGHT], _shape(spec)[1])
    return specs.Component(spec, {_WEIGHT: values})


def resample_positions(values: np.ndarray, num_tokens: int) -> np.ndarray:
    """Returns `values` over another number of tokens.

    Args:
      values: `[1, 1 + grid**2, width] float32`, the class token first.
      num_tokens: `1 + new_grid**2`.

    Returns:
      `[1, num_tokens, width] float32`.

    Raises:
      UsageError: either number of patches is no square.
    """
    old = _grid_size(values.shape[1])
    new = _grid_size(num_tokens)
    width = values.shape[-1]
    grid = values[0, 1:].reshape(old, old, width).astype(np.float64)
    rows = _interpolate(grid, new)
    both = _interpolate(rows.transpose(1, 0, 2), new).transpose(1, 0, 2)
    flat = both.reshape(1, new * new, width).astype(values.dtype)
    return np.concatenate([values[:, :1], flat], axis=1)


def _interpolate(grid: np.ndarray, size: int) -> np.ndarray:
    """Returns `[size, ...]`, `grid` sampled along its first axis.

    Sample i lies at i * (n - 1) / (size - 1), so that the first and the last
    stay where they were; a single sample is the first.
    """
    last = grid.shape[0] - 1
    step = last / (size - 1) if size > 1 else 0.0
    positions = np.minimum(np.arange(size) * step, last)
    lower = np.minimum(np.floor(positions).astype(int), max(last - 1, 0))
    upper = np.minimum(lower + 1, last)
    share = (positions - lower).reshape(-1, *[1] * (grid.ndim - 1))
    return grid[lower] * (1.0 - share) + grid[upper] * share


def _grid_size(num_tokens: int) -> int:
    size = math.isqrt(max(num_tokens - 1, 0))
    if size < 1 or size * size + 1 != num_tokens:
        raise errors.UsageError(
            f"{num_tokens} tokens are no class token and a square grid; use "
            "a square image"
        )
    return size


def _shape(spec: specs.ComponentSpec) -> tuple[int, ...]:
    return dict(spec.weights).get(_WEIGHT, ())
