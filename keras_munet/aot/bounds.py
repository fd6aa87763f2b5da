"""The least time that a step can take, from figures and published peaks.

Invariant: a bound, never a prediction. A step takes at least as long as its
busiest resource at its published peak; what it really takes only a TPU can
show (the roofline model: Williams et al., Communications of the ACM 52, 2009).
"""

from __future__ import annotations

import dataclasses

from keras_munet.aot import chips
from keras_munet.aot import compiler


@dataclasses.dataclass(frozen=True)
class Bound:
    """The least seconds that each resource of a core is busy.

    Attributes:
      compute_secs: the matrix units.
      memory_secs: the core's own memory, by the bytes that the compiler
        counts; some of them may never leave the chip.
      links_secs: the links between chips.
    """

    compute_secs: float
    memory_secs: float
    links_secs: float

    @property
    def secs(self) -> float:
        """The least time of a step."""
        return max(self.compute_secs, self.memory_secs, self.links_secs)

    @property
    def resource(self) -> str:
        """Returns the busiest resource: `compute`, `memory` or `links`."""
        return max(
            ("compute", "memory", "links"),
            key=lambda name: getattr(self, f"{name}_secs"),
        )


def program_bound(
    figures: compiler.Figures, reduced_bytes: int, where: compiler.Slice
) -> Bound:
    """Returns the bound of a compiled program.

    A sum over n chips has each send at least 2 (n - 1) / n of its bytes
    (Patarasuk and Yuan, J. Parallel Distrib. Comput. 69, 2009).

    Args:
      figures: what the compiler says, of one core.
      reduced_bytes: what a core puts in sums over all cores.
      where: the cores that run it.
    """
    chip = chips.chip_of(where.name)
    per_chip = chip.cores
    num_chips = len({core[:3] for core in where.cores})
    sent = 2 * reduced_bytes * (num_chips - 1) / num_chips
    return Bound(
        compute_secs=figures.flops * per_chip / chip.flops_per_sec,
        memory_secs=figures.accessed_bytes * per_chip / chip.bytes_per_sec,
        links_secs=sent / chip.link_bytes_per_sec,
    )
