"""Draws what stands in a room, how it looks and where the camera is.

Invariant: objects stand on the floor inside the room, apart from each other
and from the camera, and every number comes from the generator that is given.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from keras_munet.overparam.experiments.datasets import room_geometry as geometry

CLASSES = (
    *("floor", "ceiling", "wall", "window", "picture"),
    *("cabinet", "table", "chair", "ball"),
)
# The classes of which each object is an instance of its own.
THINGS = ("cabinet", "table", "chair", "ball")
# Surfaces of the room itself, in the order of its faces (Hits.faces).
_ROOM_CLASSES = ("wall", "wall", "floor", "ceiling", "wall", "wall")
_NUM_FACES = 6
# Faces that the camera may see a window or a picture on: left, right, ahead.
_WALL_FACES = (0, 1, 5)
_NUM_OBJECTS_MIN = 2
_NUM_OBJECTS_MAX = 5
_NUM_PANELS_MAX = 3
_NUM_TRIES = 20


class Camera(NamedTuple):
    """The position and the direction of the camera.

    Attributes:
      place: `[3]` metres in the room's frame.
      turn: `[3, 3]`, takes the camera's frame to the room's.
      field: tangent of half the angle of the image's longer side.
    """

    position: np.ndarray
    turn: np.ndarray
    field: float


class Looks(NamedTuple):
    """Color and pattern of S surfaces.

    Attributes:
      first: `[S, 3]` in [0, 1], linear light.
      second: `[S, 3]`, what the pattern mixes in.
      waves: `[S, 2]` radians per metre, along the two axes of a face.
      phases: `[S, 2]` radians.
      kinds: `[S]`: 0 plain, 1 stripes, 2 checks, 3 smooth.
      shines: `[S] bool`, whether light does not matter to it.
    """

    first: np.ndarray
    second: np.ndarray
    waves: np.ndarray
    phases: np.ndarray
    kinds: np.ndarray
    shines: np.ndarray

    def colors(self, surfaces: np.ndarray, hits: geometry.Hits) -> np.ndarray:
        """Returns `[P, 3]` linear colors of the points hit."""
        axes = hits.faces // 2
        rows = np.arange(len(surfaces))
        # The two axes that lie in the face.
        u = hits.local[rows, (axes + 1) % 3]
        v = hits.local[rows, (axes + 2) % 3]
        waves, phases = self.waves[surfaces], self.phases[surfaces]
        a = np.sin(u * waves[:, 0] + phases[:, 0])
        b = np.sin(v * waves[:, 1] + phases[:, 1])
        mixed = np.stack(
            [np.zeros_like(a), a > 0, a * b > 0, 0.5 + 0.25 * (a + b)]
        )[self.kinds[surfaces], rows]
        first, second = self.first[surfaces], self.second[surfaces]
        return first + mixed[:, None] * (second - first)


class Room(NamedTuple):
    """One room, ready to be rendered.

    Surfaces are numbered: the 6 faces of the room, the panels on its walls,
    then one for each object.

    Attributes:
      solids: boxes and balls.
      owners: `[boxes + balls]` surface of each.
      panels: `[num_panels, 5]`: face, and the lower and upper end along the
        wall and in height, metres.
      classes: `[S]` places in `CLASSES`.
      instances: `[S]` 1, 2, ... for objects, 0 for others.
      looks: of the S surfaces.
      lamp: `[3]` metres.
      camera: where the camera is.
    """

    solids: geometry.Solids
    owners: np.ndarray
    panels: np.ndarray
    classes: np.ndarray
    instances: np.ndarray
    looks: Looks
    lamp: np.ndarray
    camera: Camera


def draw(generator: np.random.Generator) -> Room:
    """Draws a room."""
    uniform = generator.uniform
    size = np.array([uniform(3.2, 5), uniform(2.3, 2.9), uniform(3.8, 6.5)])
    camera = _camera(generator, size)
    placed = _places(generator, size, camera.position)
    boxes: list[tuple] = []
    balls: list[tuple] = []
    box_owners: list[int] = []
    ball_owners: list[int] = []
    panels = _panels(generator, size)
    names = [*_ROOM_CLASSES, *(name for name, _ in panels)]
    num_before = len(names)
    for position, reach in placed:
        name = THINGS[generator.integers(len(THINGS))]
        owner = len(names)
        names.append(name)
        if name == "ball":
            radius = min(reach, uniform(0.2, 0.5))
            balls.append((position[0], radius, position[1], radius))
            ball_owners.append(owner)
            continue
        parts = _PARTS[name](generator, reach)
        yaw = uniform(-math.pi, math.pi)
        for middle, halves in parts:
            moved = geometry.turned(np.array(middle), np.array(yaw))
            center = moved + np.array([position[0], 0, position[1]])
            boxes.append((*center, *halves, yaw))
            box_owners.append(owner)
    box_rows = np.array(boxes, float).reshape(-1, 7)
    ball_rows = np.array(balls, float).reshape(-1, 4)
    instances = np.zeros(len(names), int)
    instances[num_before:] = np.arange(1, len(names) - num_before + 1)
    return Room(
        geometry.Solids(
            size,
            box_rows[:, :3],
            box_rows[:, 3:6],
            box_rows[:, 6],
            ball_rows[:, :3],
            ball_rows[:, 3],
        ),
        np.array(box_owners + ball_owners, int),
        np.array([panel for _, panel in panels], float).reshape(-1, 5),
        np.array([CLASSES.index(name) for name in names]),
        instances,
        _looks(generator, names),
        size * [uniform(0.3, 0.7), 0.95, uniform(0.2, 0.6)],
        camera,
    )


def surfaces(room: Room, hits: geometry.Hits) -> np.ndarray:
    """Returns `[P] int64`, the surface of the room that each ray met."""
    met = hits.faces.copy()
    along = np.where(hits.faces // 2 == 0, hits.points[:, 2], hits.points[:, 0])
    height = hits.points[:, 1]
    for i, (face, left, right, low, high) in enumerate(room.panels):
        inside = (
            (hits.faces == face)
            & (along > left)
            & (along < right)
            & (height > low)
            & (height < high)
        )
        met[inside] = _NUM_FACES + i
    on_solid = hits.solids >= 0
    met[on_solid] = room.owners[hits.solids[on_solid]]
    return met


def _camera(generator: np.random.Generator, size: np.ndarray) -> Camera:
    uniform = generator.uniform
    position = np.array(
        [size[0] * uniform(0.25, 0.75), uniform(1.1, 1.9), uniform(0.2, 0.6)]
    )
    # It looks into the room, rather towards the middle than at a side wall.
    yaw = (0.5 - position[0] / size[0]) * 1.2 + uniform(-0.35, 0.35)
    pitch = uniform(0.0, 0.4)
    ahead = np.array(
        [
            math.sin(yaw) * math.cos(pitch),
            -math.sin(pitch),
            math.cos(yaw) * math.cos(pitch),
        ]
    )
    right = np.array([math.cos(yaw), 0.0, -math.sin(yaw)])
    # The camera's y points down in a room whose y points up.
    down = -np.cross(ahead, right)
    return Camera(
        position,
        np.stack([right, down, ahead], -1),
        math.tan(uniform(0.5, 0.65)),
    )


def _places(generator, size, camera_place):
    """Returns the middle (x, z) and free radius of each object."""
    num = generator.integers(_NUM_OBJECTS_MIN, _NUM_OBJECTS_MAX + 1)
    placed: list[tuple[np.ndarray, float]] = []
    camera_xz = camera_place[[0, 2]]
    for _ in range(_NUM_TRIES):
        reach = generator.uniform(0.45, 0.9)
        position = generator.uniform(reach, size[[0, 2]] - reach)
        apart = [np.hypot(*(position - p)) > reach + r for p, r in placed]
        # Nothing right in front of the lens.
        if np.hypot(*(position - camera_xz)) > reach + 0.8 and all(apart):
            placed.append((position, reach))
        if len(placed) == num:
            break
    return placed


def _cabinet(generator, reach):
    x, z = reach * generator.uniform(0.5, 0.7, 2)
    y = generator.uniform(0.35, 1.0)
    return [((0, y, 0), (x, y, z))]


def _table(generator, reach):
    x, z = reach * generator.uniform(0.55, 0.7, 2)
    height = generator.uniform(0.5, 0.85)
    top, leg = 0.04, 0.05
    legs = [
        ((side * (x - leg), height / 2, 0), (leg, height / 2, z * 0.9))
        for side in (-1, 1)
    ]
    return [((0, height, 0), (x, top, z)), *legs]


def _chair(generator, reach):
    x, z = reach * generator.uniform(0.45, 0.65, 2)
    seat = generator.uniform(0.2, 0.28)
    back = generator.uniform(0.4, 0.6)
    return [
        ((0, seat, 0), (x, seat, z)),
        ((0, back, -z + 0.08), (x, back, 0.08)),
    ]


_PARTS = {"cabinet": _cabinet, "table": _table, "chair": _chair}


def _panels(generator, size):
    """Returns the class and place of the windows and pictures."""
    uniform = generator.uniform
    panels = []
    num = generator.integers(0, _NUM_PANELS_MAX + 1)
    for face in generator.permutation(_WALL_FACES)[:num]:
        length = size[2] if face < 2 else size[0]
        name = ("window", "picture")[generator.integers(2)]
        half = uniform(0.35, 0.8) if name == "window" else uniform(0.25, 0.5)
        middle = uniform(half + 0.2, length - half - 0.2)
        rise = half * uniform(0.6, 1.0)
        level = min(uniform(1.3, 1.7), size[1] - rise - 0.1)
        panels.append(
            (
                name,
                (
                    face,
                    middle - half,
                    middle + half,
                    level - rise,
                    level + rise,
                ),
            )
        )
    return panels


def _looks(generator: np.random.Generator, names: list[str]) -> Looks:
    num = len(names)
    uniform = generator.uniform
    # Walls of one room are alike.
    wall = names.index("wall")
    first = uniform(0.08, 0.8, (num, 3))
    # Less gaudy than independent channels are.
    first = 0.6 * first.mean(-1, keepdims=True) + 0.4 * first
    second = np.clip(first + uniform(-0.35, 0.35, (num, 1)), 0.02, 0.95)
    waves = 2 * np.pi / uniform(0.15, 0.8, (num, 2))
    phases = uniform(0, 2 * np.pi, (num, 2))
    kinds = generator.integers(0, 4, num)
    for i, name in enumerate(names):
        if name == "wall":
            first[i], second[i] = first[wall], second[wall]
            waves[i], kinds[i] = waves[wall], kinds[wall]
        elif name == "ceiling":
            first[i] = second[i] = uniform(0.55, 0.9)
        elif name == "window":
            first[i] = second[i] = uniform(0.7, 1.0, 3)
    shines = np.array([name == "window" for name in names])
    return Looks(first, second, waves, phases, kinds, shines)
