"""A root: random weights, but the patch embedding sees cosine waves."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_munet import plugins
from keras_munet import roots


def build(settings: plugins.RootSettings, **shared: Any) -> roots.Root:
    """Returns the root.

    Args:
      settings: the group `root` of the experiment.
      **shared: `num_layers`, `num_layers_max`, `image_size` (pixels) and
        `num_classes`, as every source takes them.
    """
    plain = roots.random(settings.variant, seed=settings.seed, **shared)
    embedding, *others = plain.components
    weights = {
        **embedding.weights,
        "kernel": _waves(embedding.weights["kernel"].shape),
    }
    first = plugins.Component(embedding.spec, weights)
    return dataclasses.replace(
        plain, components=(first, *others), source="cosine waves"
    )


def _waves(shape: tuple[int, ...]) -> np.ndarray:
    """Returns `[side, side, channels, width] float32` two-dimensional waves."""
    side, _, channels, width = shape
    turns = np.pi * (np.arange(side) + 0.5) / side
    waves = np.cos(turns[:, None] * np.arange(side))
    rows, columns = np.divmod(np.arange(width) % side**2, side)
    kernel = waves[:, None, rows] * waves[None, :, columns]
    kernel = np.repeat(kernel[:, :, None], channels, axis=2)
    return (kernel / np.sqrt(kernel[..., :1].size)).astype(np.float32)
