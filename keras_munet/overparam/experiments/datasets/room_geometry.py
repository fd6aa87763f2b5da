"""Casts rays at a room of boxes and balls: distances, surfaces, normals.

Invariant: every distance is the first intersection in closed form, so that
depth and normals are exact for the ray through a pixel's middle.

The room's frame has x to the right, y up and z ahead, in metres; its floor is
y = 0. Rays need no unit directions: a hit is at `origin + t * direction`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Metres; what lies nearer than this to its own origin is not hit.
_NEAREST = 1e-3
# Keeps slopes finite for rays that run along a face.
_PARALLEL = 1e-9


class Solids(NamedTuple):
    """The solids that stand in a room.

    Attributes:
      room: `[3]` metres, the room reaches from 0 to these.
      centers: `[num_boxes, 3]` metres, of the boxes.
      halves: `[num_boxes, 3]` metres, half their sides.
      yaws: `[num_boxes]` radians, each box's turn about the y axis.
      balls: `[num_balls, 3]` metres, their centers.
      radii: `[num_balls]` metres.
    """

    room: np.ndarray
    centers: np.ndarray
    halves: np.ndarray
    yaws: np.ndarray
    balls: np.ndarray
    radii: np.ndarray


class Hits(NamedTuple):
    """The first surface on each of P rays.

    Attributes:
      distances: `[P] float64`, t of the hit in lengths of the direction.
      solids: `[P] int64`: -1 the room, then the boxes, then the balls.
      faces: `[P] int64`: axis * 2, + 1 at the side of larger coordinates, of
        the room or the box's own frame; 0 on balls.
      points: `[P, 3] float64` metres, where.
      local: `[P, 3] float64` metres, the same from the box's or ball's center
        in the box's own frame; the room's as `points`.
      normals: `[P, 3] float64`, of unit length, to the side of the ray.
    """

    distances: np.ndarray
    solids: np.ndarray
    faces: np.ndarray
    points: np.ndarray
    local: np.ndarray
    normals: np.ndarray


def turned(vectors: np.ndarray, yaws: np.ndarray) -> np.ndarray:
    """Turns vectors about the y axis.

    Args:
      vectors: `[..., 3]`.
      yaws: `[...]` radians, from z towards x.

    Returns:
      `[..., 3]`.
    """
    x, y, z = (vectors[..., i] for i in range(3))
    cos, sin = np.cos(yaws), np.sin(yaws)
    return np.stack([cos * x + sin * z, y + 0 * cos, cos * z - sin * x], -1)


def first_hits(
    origins: np.ndarray, directions: np.ndarray, solids: Solids
) -> Hits:
    """Returns what each ray meets first; all begin inside the room.

    Args:
      origins: `[P, 3]` or `[1, 3]` metres.
      directions: `[P, 3]`, of any length but 0.
      solids: the room and what stands in it.
    """
    num = len(directions)
    room_t, room_faces = _room_exits(origins, directions, solids.room)
    box_t, box_faces = _box_entries(origins, directions, solids)
    ball_t = _ball_entries(origins, directions, solids)
    every = np.concatenate([room_t[None], box_t, ball_t])
    nearest = np.argmin(every, axis=0)
    distances = every[nearest, np.arange(num)]
    which = nearest - 1
    points = origins + distances[:, None] * directions
    num_boxes = len(solids.centers)
    faces = np.zeros(num, np.int64)
    on_room = which < 0
    on_box = (which >= 0) & (which < num_boxes)
    on_ball = which >= num_boxes
    faces[on_room] = room_faces[on_room]
    rows = which[on_box]
    faces[on_box] = box_faces[rows, np.flatnonzero(on_box)]
    local = points.copy()
    local[on_box] = turned(
        points[on_box] - solids.centers[rows], -solids.yaws[rows]
    )
    balls = which[on_ball] - num_boxes
    local[on_ball] = points[on_ball] - solids.balls[balls]
    normals = _face_normals(faces)
    normals[on_box] = turned(normals[on_box], solids.yaws[rows])
    normals[on_room] *= -1
    normals[on_ball] = local[on_ball] / solids.radii[balls][:, None]
    return Hits(distances, which, faces, points, local, normals)


def are_shadowed(
    points: np.ndarray, light: np.ndarray, solids: Solids
) -> np.ndarray:
    """Returns `[P] bool`: whether a box or ball hides the light from a point.

    Args:
      points: `[P, 3]` metres, a little off their own surfaces.
      light: `[3]` metres.
      solids: what may hide it.
    """
    directions = light - points
    box_t, _ = _box_entries(points, directions, solids)
    ball_t = _ball_entries(points, directions, solids)
    every = np.concatenate([box_t, ball_t])
    if not len(every):
        return np.zeros(len(points), bool)
    return every.min(axis=0) < 1.0


def _room_exits(origins, directions, room):
    """Returns `[P]` distances to the walls and the faces met."""
    slopes = 1.0 / np.where(directions == 0, _PARALLEL, directions)
    far = np.maximum(-origins * slopes, (room - origins) * slopes)
    axes = np.argmin(far, axis=1)
    rows = np.arange(len(directions))
    return far[rows, axes], axes * 2 + (directions[rows, axes] > 0)


def _box_entries(origins, directions, solids):
    """Returns `[boxes, P]` distances, infinite where missed, and faces."""
    # One axis at a time: arrays of [boxes, P] stay in the cache.
    cos, sin = np.cos(solids.yaws)[:, None], np.sin(solids.yaws)[:, None]
    x, y, z = (
        origins[None, :, i] - solids.centers[:, i, None] for i in range(3)
    )
    ahead_x, ahead_y, ahead_z = directions.T
    starts = (cos * x - sin * z, y, cos * z + sin * x)
    along = (
        cos * ahead_x - sin * ahead_z,
        np.broadcast_to(ahead_y, (len(cos), len(ahead_y))),
        cos * ahead_z + sin * ahead_x,
    )
    near = np.full(along[0].shape, -np.inf)
    far = np.full(along[0].shape, np.inf)
    faces = np.zeros(along[0].shape, np.int64)
    for axis in range(3):
        slopes = 1.0 / np.where(along[axis] == 0, _PARALLEL, along[axis])
        middle = starts[axis] * slopes
        reach = solids.halves[:, axis, None] * np.abs(slopes)
        nearer = -middle - reach
        later = nearer > near
        np.copyto(near, nearer, where=later)
        # What comes from larger coordinates meets the face there.
        np.copyto(faces, axis * 2 + (slopes < 0), where=later)
        np.minimum(far, reach - middle, out=far)
    met = (near < far) & (near > _NEAREST)
    return np.where(met, near, np.inf), faces


def _ball_entries(origins, directions, solids):
    """Returns `[balls, P]` distances, infinite where missed."""
    apart = origins[None] - solids.balls[:, None]
    square = (directions**2).sum(-1)[None]
    half = (apart * directions[None]).sum(-1)
    rest = (apart**2).sum(-1) - solids.radii[:, None] ** 2
    inside = half**2 - square * rest
    near = (-half - np.sqrt(np.maximum(inside, 0))) / square
    return np.where((inside > 0) & (near > _NEAREST), near, np.inf)


def _face_normals(faces):
    """Returns `[P, 3]` outward unit normals of a box's faces."""
    normals = np.zeros((len(faces), 3))
    normals[np.arange(len(faces)), faces // 2] = np.where(faces % 2, 1, -1)
    return normals
