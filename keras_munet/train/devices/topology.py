"""Describes the cores of a machine or a TPU slice as plain records.

Invariant: every core has coordinates of its own, and the cores of a host are
the ones that its program feeds. A core is what runs one replica: a TPU core,
or a chip whose cores act as one, or a GPU, or a logical CPU.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

from keras_munet import errors

Coordinates = tuple[int, int, int, int]
_Box = tuple[int, int, int]

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class _Generation:
    """The properties of one TPU generation.

    Attributes:
      cores_per_chip: replicas of a chip.
      counted_per_chip: how many of a type's number a chip makes, e.g. v3-8.
      num_bytes: memory of a replica.
      host: chips that one host feeds.
      meshes: chips -> how they lie.
    """

    cores_per_chip: int
    counted_per_chip: int
    num_bytes: int
    host: _Box
    meshes: dict[int, _Box]


def _flat(*sides: tuple[int, int]) -> dict[int, _Box]:
    return {x * y: (x, y, 1) for x, y in sides}


def _cubes(*sides: _Box) -> dict[int, _Box]:
    return {math.prod(box): box for box in sides}


_V4_MESHES = _cubes(
    *((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4), (4, 4, 4)),
    *((4, 4, 8), (4, 8, 8), (8, 8, 8), (8, 8, 16), (8, 16, 16)),
)
_V5E_MESHES = _flat(
    *((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
)
_V3_MESHES = _flat(
    *((2, 2), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16), (16, 32), (32, 32))
)
# Shapes: cloud.google.com/tpu/docs, one page per generation. Memories: what
# the compiler, libtpu 0.0.30, leaves to a program: docs/measured/scaling.md.
# The two cores of a v4 or v5p chip run as one replica with the chip's memory.
_GENERATIONS = {
    "v2": _Generation(2, 2, int(7.48 * GIB), (2, 2, 1), _V3_MESHES),
    "v3": _Generation(2, 2, int(15.48 * GIB), (2, 2, 1), _V3_MESHES),
    "v4": _Generation(1, 2, int(30.75 * GIB), (2, 2, 1), _V4_MESHES),
    "v5e": _Generation(1, 1, int(15.75 * GIB), (2, 2, 1), _V5E_MESHES),
    "v5p": _Generation(1, 2, int(95.74 * GIB), (2, 2, 1), _V4_MESHES),
    "v6e": _Generation(1, 1, int(31.25 * GIB), (2, 2, 1), _V5E_MESHES),
}
# One machine has all eight chips of these.
_NUM_CHIPS_ONE_HOST = 8


@dataclasses.dataclass(frozen=True)
class Topology:
    """The positions of a system's cores.

    Attributes:
      name: e.g. `v3-32`.
      hosts: for each host, the coordinates (x, y, z, core) of the cores that
        it feeds, in the order in which it numbers them.
      num_bytes_per_core: memory of a core; None where it is not known.
    """

    name: str
    hosts: tuple[tuple[Coordinates, ...], ...]
    num_bytes_per_core: int | None = None

    def __post_init__(self):
        if not self.hosts or len({len(host) for host in self.hosts}) != 1:
            raise errors.UsageError(
                f"the hosts of {self.name} feed "
                f"{[len(host) for host in self.hosts]} cores; there must be "
                "hosts, and each must feed as many as the others"
            )
        used_cores = set()
        for core in self.cores:
            if core in used_cores:
                raise errors.UsageError(
                    f"two cores of {self.name} lie at {core}; each needs "
                    "coordinates of its own"
                )
            used_cores.add(core)

    @property
    def cores(self) -> tuple[Coordinates, ...]:
        """Every core, host by host."""
        return tuple(core for host in self.hosts for core in host)

    @property
    def mesh(self) -> Coordinates:
        """The sides of the box that holds every core."""
        sides = zip(*self.cores, strict=True)
        x, y, z, core = (max(side) + 1 for side in sides)
        return x, y, z, core


def named_topology(name: str) -> Topology:
    """Returns the topology of a TPU type such as `v3-32` or `v5e-64`.

    The number counts cores for v2, v3, v4 and v5p, chips for v5e (also
    called v5litepod) and v6e, as Google's names do.

    Raises:
      UsageError: there is no such type.
    """
    spelt = name.replace("v5litepod-", "v5e-")
    chip, dash, number = spelt.partition("-")
    generation = _GENERATIONS.get(chip)
    if generation is None or not dash or not number.isdigit():
        raise errors.UsageError(
            f"{name!r} is no TPU type; it must be one of "
            f"{', '.join(f'{k}-N' for k in _GENERATIONS)}, e.g. v3-32"
        )
    counted = generation.counted_per_chip
    mesh = generation.meshes.get(int(number) // counted)
    if mesh is None or int(number) % counted:
        sizes = [str(chips * counted) for chips in generation.meshes]
        raise errors.UsageError(
            f"there is no {name}; {chip} comes with {', '.join(sizes)}"
        )
    host = generation.host
    if counted == 1 and math.prod(mesh) <= _NUM_CHIPS_ONE_HOST:
        host = mesh
    return _boxed(spelt, mesh, host, generation)


def _boxed(
    name: str, mesh: _Box, host: _Box, generation: _Generation
) -> Topology:
    """Returns a mesh of chips cut in boxes, one for each host."""

    def box(sides: _Box) -> list[_Box]:
        # x counts fastest, as Cloud TPU numbers chips.
        x, y, z = (range(side) for side in sides)
        return [(i, j, k) for k, j, i in itertools.product(z, y, x)]

    corners = box((mesh[0] // host[0], mesh[1] // host[1], mesh[2] // host[2]))
    hosts = tuple(
        tuple(
            (
                corner[0] * host[0] + x,
                corner[1] * host[1] + y,
                corner[2] * host[2] + z,
                core,
            )
            for x, y, z in box(host)
            for core in range(generation.cores_per_chip)
        )
        for corner in corners
    )
    return Topology(name, hosts, generation.num_bytes)
