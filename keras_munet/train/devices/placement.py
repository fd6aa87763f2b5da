"""Plans where the children of a generation train.

Invariant: slices are disjoint, equal in size and together all cores; none is
stranded. Placement changes what children become by float rounding alone.

`fused`: all children on all cores, each core with its share of the batch; what
children share is computed once, and gradients are added up over all cores.
`sliced`: the cores are cut in boxes, each box has its part of the children and
the whole batch, and boxes do not talk; the published experiments train one
child per core so.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Protocol

from keras_munet import errors
from keras_munet.train.devices import topology as topology_lib

FUSED = "fused"
SLICED = "sliced"
AUTO = "auto"
# A TPU computes rows of a product eight at a time.
_SHARE_MIN = 8

Slices = tuple[tuple[topology_lib.Coordinates, ...], ...]


class Need(Protocol):
    """The memory of one child; `memory.MemoryNeed` is one."""

    def bytes_at(self, batch_size: int) -> int:
        """Returns the bytes of a step with so many examples at once."""
        ...


@dataclasses.dataclass(frozen=True)
class Plan:
    """The placement of a generation.

    Attributes:
      placement: `fused` or `sliced`.
      slices: the cores of each slice; one slice of all where fused.
      reason: why, in a few words.
    """

    placement: str
    slices: Slices
    reason: str


def plan_placement(
    topology: topology_lib.Topology,
    needs: Sequence[Need],
    batch_size: int,
    placement: str = AUTO,
) -> Plan:
    """Returns how children are placed.

    `auto` takes the fewest slices with which a core has at least eight
    examples of a step and the children of its slice fit in its memory; fused
    is one slice. Where nothing fits, it takes the most slices: there is the
    least on each core.

    Args:
      topology: the cores that there are.
      needs: of each child of a generation.
      batch_size: examples per step of each child.
      placement: `auto`, `fused` or `sliced`.

    Raises:
      UsageError: the batch does not divide over the cores, or there is one
        core and slices are wanted.
    """
    counts = _slice_counts(topology, len(needs), batch_size)
    num_cores = len(topology.cores)
    if placement == FUSED:
        if 1 not in counts:
            raise errors.UsageError(
                f"batch_size {batch_size} does not divide over the "
                f"{num_cores} devices of {topology.name}; choose a multiple "
                "of it, or placement 'sliced'"
            )
        return _planned(topology, 1, "as asked")
    several = [count for count in counts if count > 1]
    if placement == SLICED:
        if not several:
            raise errors.UsageError(
                f"placement 'sliced' is set for {num_cores} device(s) for "
                f"{len(needs)} child(ren) of batch_size {batch_size}, which "
                "cannot be cut; use 'fused', or several devices and children"
            )
        counts = several
    if not counts:
        raise errors.UsageError(
            f"batch_size {batch_size} divides over no slice of the {num_cores} "
            f"devices of {topology.name}; choose a multiple of {num_cores}"
        )
    enough = [
        count
        for count in counts
        if batch_size * count // num_cores >= _SHARE_MIN
    ]
    # More devices than that are of use: take them with what there is.
    enough = enough or counts[-1:]
    for count in enough:
        if _fits(topology, needs, count, batch_size * count // num_cores):
            return _planned(topology, count, "the fewest slices that fit")
    return _planned(topology, enough[-1], "the least on each device")


def assign_children(
    num_children: int, num_slices: int
) -> tuple[tuple[int, ...], ...]:
    """Returns the numbers of the children that each slice trains, in order.

    As equal in number as can be; a slice may have none.
    """
    bounds = [i * num_children // num_slices for i in range(num_slices + 1)]
    return tuple(
        tuple(range(start, end)) for start, end in itertools.pairwise(bounds)
    )


def cut_topology(topology: topology_lib.Topology, num_slices: int) -> Slices:
    """Returns the cores of a topology, cut in boxes of equal shape.

    Boxes are as compact as can be, keep the cores of a chip together, and
    touch as few hosts as they can.

    Raises:
      UsageError: the mesh cannot be cut in so many boxes.
    """
    mesh = topology.mesh
    num_cores = len(topology.cores)
    shapes = [
        shape
        for shape in itertools.product(*(_divisors(side) for side in mesh))
        if math.prod(shape) * num_slices == num_cores
    ]
    if not shapes:
        raise errors.UsageError(
            f"the {num_cores} cores of {topology.name}, "
            f"{' x '.join(map(str, mesh))}, cannot be cut in {num_slices} "
            "boxes; choose a number that divides their sides"
        )
    host_of = {
        core: number
        for number, host in enumerate(topology.hosts)
        for core in host
    }

    def badness(shape: tuple[int, ...]) -> tuple[int, int, int]:
        hosts = {
            (_box_of(core, shape), number) for core, number in host_of.items()
        }
        sides = shape[:3]
        surface = sum(math.prod(sides) // side for side in sides)
        return len(hosts), -shape[3], surface

    shape = min(shapes, key=badness)
    boxes: dict[tuple[int, ...], list[topology_lib.Coordinates]] = {}
    for core in topology.cores:
        boxes.setdefault(_box_of(core, shape), []).append(core)
    slices = tuple(tuple(cores) for cores in boxes.values())
    check_slices(topology, slices)
    return slices


def check_slices(topology: topology_lib.Topology, slices: Slices) -> None:
    """Verifies what TensorFlow does not.

    Raises:
      UsageError: a core is in two slices, in none, or not in the topology; or
        slices differ in size.
    """
    all_cores = set(topology.cores)
    used_cores: set[topology_lib.Coordinates] = set()
    for cores in slices:
        for core in cores:
            if core not in all_cores:
                raise errors.UsageError(
                    f"a slice has the core {core}, which {topology.name} does "
                    "not have; cut slices with placement.cut_topology"
                )
            if core in used_cores:
                raise errors.UsageError(
                    f"the core {core} of {topology.name} is in two slices; "
                    "cut slices with placement.cut_topology"
                )
            used_cores.add(core)
    stranded = sorted(all_cores - used_cores)
    if stranded:
        raise errors.UsageError(
            f"{len(stranded)} cores of {topology.name} are in no slice, e.g. "
            f"{stranded[0]}; cut slices with placement.cut_topology"
        )
    sizes = sorted({len(cores) for cores in slices})
    if len(sizes) > 1:
        raise errors.UsageError(
            f"slices of {topology.name} have {sizes} cores; a generation would "
            "wait for the smallest: cut slices with placement.cut_topology"
        )


def _planned(
    topology: topology_lib.Topology, num_slices: int, reason: str
) -> Plan:
    if num_slices == 1:
        return Plan(FUSED, (topology.cores,), reason)
    return Plan(SLICED, cut_topology(topology, num_slices), reason)


def _slice_counts(
    topology: topology_lib.Topology, num_children: int, batch_size: int
) -> list[int]:
    """Returns into how many slices the cores can be cut, ascending."""
    num_cores = len(topology.cores)
    sides = topology.mesh
    whole = math.prod(sides) == num_cores
    counts = {1}
    if whole:
        # Any product of divisors of the sides.
        counts |= {
            math.prod(parts)
            for parts in itertools.product(*(_divisors(s) for s in sides))
        }
    return sorted(
        count
        for count in counts
        if count <= max(num_children, 1)
        and batch_size % (num_cores // count) == 0
    )


def _fits(
    topology: topology_lib.Topology,
    needs: Sequence[Need],
    num_slices: int,
    share: int,
) -> bool:
    if topology.num_bytes_per_core is None:
        return True
    return all(
        sum(needs[i].bytes_at(share) for i in group)
        <= topology.num_bytes_per_core
        for group in assign_children(len(needs), num_slices)
    )


def _box_of(
    core: topology_lib.Coordinates, shape: tuple[int, ...]
) -> tuple[int, ...]:
    return tuple(at // side for at, side in zip(core, shape, strict=True))


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]
