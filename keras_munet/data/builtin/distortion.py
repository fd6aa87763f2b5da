"""Draws print as if by hand: many warped copies of a few clean templates.

Invariant: a copy depends on its template and on the generator alone. All
copies of a call are made at once, with NumPy and no loop over images.
"""

from __future__ import annotations

import numpy as np

# Ranges of the affine part; coordinates run over [-1, 1] in both directions.
ROTATION_RADIANS = 0.20
SHEAR = 0.30
SCALE_MIN, SCALE_MAX = 0.80, 1.15
ASPECT_LOG = 0.16
SHIFT = 0.09
# Standard deviation of the warp's control points, and their grid.
WARP = 0.055
_WARP_GRID = 5
# The ink level at which the stroke's edge lies: high levels draw it thin.
EDGE_MIN, EDGE_MAX = 0.20, 0.45
_EDGE_SOFTNESS = 0.09
INK_MIN, INK_MAX = 0.55, 1.0
PAPER_MAX = 0.08
NOISE = 0.03


def blur(images: np.ndarray, sigma: float) -> np.ndarray:
    """Returns `[n, side, side] float32` images blurred by a Gaussian.

    Args:
      images: `[n, side, side] float32`.
      sigma: standard deviation, pixels.
    """
    position = np.arange(images.shape[-1])
    distance = position[:, None] - position[None, :]
    kernel = np.exp(-0.5 * (distance / sigma) ** 2).astype(np.float32)
    kernel /= kernel.sum(axis=1, keepdims=True)
    return kernel @ images @ kernel.T


def draw(
    templates: np.ndarray,
    picked: np.ndarray,
    size: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Returns `[n, size, size] uint8` grey images, ink bright on dark.

    Args:
      templates: `[templates, side, side] float32`, blurred ink in [0, 1].
      picked: `[n]` whole numbers, the template of each image.
      size: side of the images, pixels.
      rng: what it is drawn from.
    """
    num_images = len(picked)
    points = _affine(num_images, size, rng) + _warp(num_images, size, rng)
    ink = _sample(templates, picked, points)

    def uniform(low, high):
        return rng.uniform(low, high, (num_images, 1, 1)).astype(np.float32)

    edge = uniform(EDGE_MIN, EDGE_MAX)
    # A logistic step: the pen has ink on one side of the edge only.
    ink = 1.0 / (1.0 + np.exp((edge - ink) / _EDGE_SOFTNESS))
    paper, strength = uniform(0.0, PAPER_MAX), uniform(INK_MIN, INK_MAX)
    grey = paper + ink * (strength - paper)
    grey += NOISE * rng.standard_normal(grey.shape, dtype=np.float32)
    return np.rint(255.0 * np.clip(grey, 0.0, 1.0)).astype(np.uint8)


def _affine(num_images: int, size: int, rng) -> np.ndarray:
    """Returns `[n, size, size, 2] float32` points (y, x) in a template."""
    angle = rng.uniform(-ROTATION_RADIANS, ROTATION_RADIANS, num_images)
    shear = rng.uniform(-SHEAR, SHEAR, num_images)
    scale = rng.uniform(SCALE_MIN, SCALE_MAX, num_images)
    stretch = np.exp(rng.uniform(-ASPECT_LOG, ASPECT_LOG, num_images))
    shift = rng.uniform(-SHIFT, SHIFT, (num_images, 1, 1, 2))
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.stack([cos, sin, -sin, cos], 1).reshape(-1, 2, 2)
    one, zero = np.ones(num_images), np.zeros(num_images)
    # Slanted as writing is: x moves with y.
    slanted = np.stack([one, zero, shear, one], 1).reshape(-1, 2, 2)
    sizes = np.stack([scale * stretch, scale / stretch], 1)[:, None, :]
    # Columns map output (y, x) to the template, so sizes divide.
    matrix = (turned @ slanted) / sizes
    axis = (np.arange(size) + 0.5) * (2.0 / size) - 1.0
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    moved = grid.reshape(1, -1, 2) @ np.swapaxes(matrix, 1, 2)
    points = moved.reshape(num_images, size, size, 2) + shift
    return points.astype(np.float32)


def _warp(num_images: int, size: int, rng) -> np.ndarray:
    """Returns smooth displacements, `[n, size, size, 2] float32`."""
    shape = (num_images, _WARP_GRID, _WARP_GRID, 2)
    control = WARP * rng.standard_normal(shape, dtype=np.float32)
    position = np.linspace(0.0, _WARP_GRID - 1.0, size)
    distance = position[:, None] - np.arange(_WARP_GRID)[None, :]
    # Gaussian bumps one grid step wide add up to a smooth field.
    bumps = np.exp(-(distance**2)).astype(np.float32)
    return np.einsum("ya,xb,nabi->nyxi", bumps, bumps, control, optimize=True)


def _sample(
    templates: np.ndarray, picked: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """Returns the templates' bilinear values at points in [-1, 1]."""
    side = templates.shape[-1]
    position = (points + 1.0) * (0.5 * side) - 0.5
    # The border of a template is blank: points outside read it.
    position = np.clip(position, 0.0, side - 1.001)
    low = position.astype(np.int32)
    part = position - low
    y, x = low[..., 0], low[..., 1]
    flat = templates.reshape(-1)
    corner = (picked[:, None, None] * side + y) * side + x
    top = flat[corner] * (1 - part[..., 1]) + flat[corner + 1] * part[..., 1]
    corner = corner + side
    bottom = flat[corner] * (1 - part[..., 1]) + flat[corner + 1] * part[..., 1]
    return top * (1 - part[..., 0]) + bottom * part[..., 0]
