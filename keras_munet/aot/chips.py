"""Lists the published peak rates of each generation of TPU chips.

Invariant: every figure is a chip's own and has its source here; what the
compiler leaves to a program comes from the compiler, not from this table.
"""

from __future__ import annotations

import dataclasses

from keras_munet import errors

_TERA = 1e12
_GIGA = 1e9
_BITS_PER_BYTE = 8


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published peak rates of a chip.

    Attributes:
      flops_per_sec: bfloat16 operations of the matrix units.
      bytes_per_sec: between the chip and its own memory.
      link_bytes_per_sec: sent to neighbour chips over all links.
      cores: programs that it runs at a time, each with its part of all.
      compiler_name: what the compiler calls the generation.
      is_cube: whether chips lie in three dimensions.
      compiler_options: the options that say which cores act as one.
    """

    flops_per_sec: float
    bytes_per_sec: float
    link_bytes_per_sec: float
    cores: int
    compiler_name: str
    is_cube: bool = False
    compiler_options: tuple[tuple[str, str], ...] = ()


def _gigabits(links: int, each: float) -> float:
    return links * each * _GIGA / _BITS_PER_BYTE


# v2, v3: Norrie et al., "The Design Process for Google's Training Chips: TPUv2
# and TPUv3", IEEE Micro 41(2), 2021, with links of 496 and 656 Gbit/s. v4:
# Jouppi et al., "TPU v4", ISCA 2023, links of 50 GB/s. v5e, v5p, v6e:
# cloud.google.com/tpu/docs, one page per generation, "Key specifications";
# their interconnect figure counts a chip's links together.
_CHIPS = {
    "v2": Chip(46 * _TERA, 700 * _GIGA, _gigabits(4, 496), 2, "v2"),
    "v3": Chip(123 * _TERA, 900 * _GIGA, _gigabits(4, 656), 2, "v3"),
    # Both cores of a chip run one program on the chip's whole memory.
    "v4": Chip(
        275 * _TERA,
        1200 * _GIGA,
        6 * 50 * _GIGA,
        1,
        "v4",
        True,
        (("chip_config_name", "megacore"),),
    ),
    "v5e": Chip(197 * _TERA, 819 * _GIGA, _gigabits(1, 1600), 1, "v5e"),
    "v5p": Chip(459 * _TERA, 2765 * _GIGA, _gigabits(1, 4800), 1, "v5p", True),
    "v6e": Chip(918 * _TERA, 1640 * _GIGA, _gigabits(1, 3584), 1, "v6e"),
}


def chip_of(slice_name: str) -> Chip:
    """Returns the chip of a TPU type such as `v3-32`.

    Raises:
      UsageError: there is no such generation.
    """
    name = slice_name.partition("-")[0]
    if name not in _CHIPS:
        raise errors.UsageError(
            f"{slice_name!r} is no TPU type; it must be one of "
            f"{', '.join(f'{k}-N' for k in _CHIPS)}, e.g. v3-32"
        )
    return _CHIPS[name]
