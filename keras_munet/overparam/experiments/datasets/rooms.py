"""Furnished rooms, drawn from a seed and rendered with exact labels.

Invariant: an image and its labels depend on (seed, split, index, height,
width) alone; the label of a pixel is that of the surface which the ray through
the pixel's middle meets first.

The camera's frame, which normals are given in, has x to the right, y down and
z ahead. Depth is the z of the point, in metres.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_munet import errors
from keras_munet.core import seeds
from keras_munet.overparam.experiments.datasets import (
    room_furniture as furniture,
)
from keras_munet.overparam.experiments.datasets import room_geometry as geometry

CLASSES = furniture.CLASSES
THINGS = furniture.THINGS
SPLITS = ("train", "validation", "test")
# Off a surface, metres, so that it does not shadow itself.
_OFF = 1e-3
_GAMMA = 1 / 2.2
# Share of a surface's light that comes from everywhere.
_AMBIENT = 0.45
# Brightness in full light, before what distance takes away.
_DIFFUSE = 0.85
# Standard deviation of the camera's noise, of 255 levels.
_NOISE_LEVELS = 4.0
_NUM_PIXELS_MIN = 8
_NUM_PIXELS_MAX = 2048


class Views(NamedTuple):
    """Images and their labels.

    Attributes:
      image: `[num, height, width, 3] uint8`.
      segmentation: `[num, height, width] uint8`, places in `CLASSES`.
      depth: `[num, height, width] float32` metres.
      normals: `[num, height, width, 3] float32`, of unit length, towards the
        camera, in its frame.
      instances: `[num, height, width] uint8`, 0 where no object stands, else
        its number in this image.
    """

    image: np.ndarray
    segmentation: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    instances: np.ndarray


def views(
    seed: int,
    split: str,
    num: int,
    *,
    height: int = 64,
    width: int = 64,
    first: int = 0,
) -> Views:
    """Returns images `first` to `first + num` of a split.

    Args:
      seed: of all the rooms.
      split: one of `SPLITS`; no room is in two of them.
      num: how many, at least 1.
      height: pixels.
      width: pixels.
      first: which image to begin with.

    Raises:
      UsageError: the split is unknown or a number is out of range.
    """
    if split not in SPLITS:
        raise errors.UsageError(
            f"rooms have no split {split!r}; choose one of {', '.join(SPLITS)}"
        )
    if num < 1 or first < 0:
        raise errors.UsageError(
            f"{num} rooms from number {first} on are requested; request at "
            "least 1, from number 0 on"
        )
    sides = (height, width)
    if min(sides) < _NUM_PIXELS_MIN or max(sides) > _NUM_PIXELS_MAX:
        raise errors.UsageError(
            f"rooms of {height} x {width} pixels are requested; each side "
            f"has {_NUM_PIXELS_MIN} to {_NUM_PIXELS_MAX}"
        )
    every = [
        _view(seeds.generator(seed, "rooms", split, i), height, width)
        for i in range(first, first + num)
    ]
    return Views(*(np.stack(part) for part in zip(*every, strict=True)))


def _view(
    generator: np.random.Generator, height: int, width: int
) -> tuple[np.ndarray, ...]:
    """Returns one image and its labels, without the leading axis."""
    room = furniture.draw(generator)
    camera = room.camera
    rays = _rays(camera.field, height, width) @ camera.turn.T
    hits = geometry.first_hits(camera.position[None], rays, room.solids)
    surfaces = furniture.surfaces(room, hits)
    towards = np.where((hits.normals * rays).sum(-1) > 0, -1.0, 1.0)
    normals = hits.normals * towards[:, None]
    colors = room.looks.colors(surfaces, hits)
    light = _lighting(room, hits.points + _OFF * normals, normals)
    # A window shines by itself.
    light = np.where(room.looks.shines[surfaces], 1.0, light)
    levels = 255 * np.clip(colors * light[:, None], 0, 1) ** _GAMMA
    levels += _NOISE_LEVELS * generator.standard_normal(levels.shape)
    grid = (height, width)
    return (
        np.clip(np.rint(levels), 0, 255).astype(np.uint8).reshape(*grid, 3),
        room.classes[surfaces].astype(np.uint8).reshape(grid),
        hits.distances.astype(np.float32).reshape(grid),
        (normals @ camera.turn).astype(np.float32).reshape(*grid, 3),
        room.instances[surfaces].astype(np.uint8).reshape(grid),
    )


def _rays(field: float, height: int, width: int) -> np.ndarray:
    """Returns `[height * width, 3]` directions in the camera's frame.

    Their z is 1, so that a ray's distance is the point's depth.

    Args:
      field: tangent of half the angle that the longer side sees.
      height: pixels.
      width: pixels.
    """
    step = 2 * field / max(height, width)
    down, right = np.mgrid[:height, :width] + 0.5
    x = (right - width / 2) * step
    y = (down - height / 2) * step
    return np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)


def _lighting(room, points, normals):
    """Returns `[P]`: how bright each point is, by one lamp and all around."""
    to_light = room.lamp - points
    distances = np.linalg.norm(to_light, axis=-1)
    cosines = np.maximum((to_light * normals).sum(-1) / distances, 0)
    shadowed = geometry.are_shadowed(points, room.lamp, room.solids)
    direct = _DIFFUSE * cosines / (1 + 0.08 * distances**2)
    return _AMBIENT + np.where(shadowed, 0, direct)
