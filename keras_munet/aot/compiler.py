"""Runs the real TPU compiler on a machine without TPUs.

Invariant: every figure is the compiler's own, of one core of the slice that
was named; each question is a process of its own, whose end frees everything.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from keras_munet import errors
from keras_munet.aot import chips

# What was found to work; setup.cfg pins the same.
_NEEDED = ("tensorflow-tpu", "jax", "libtpu")
_INSTALL = "run `bash launch/tpu_env.sh DIR tpu-aot` and use DIR/bin/python"
_HBM = re.compile(r"Used ([\d.]+)([BKMGT]) of ([\d.]+)([BKMGT]) hbm")
# Where a single array is too large.
_ARRAY = re.compile(r"\(size=(\d+)\) would exceed memory \(size=(\d+)\)")
_UNITS = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# The compiler believes it and looks for no machine in the network.
_ENVIRONMENT = {
    # Of one host; it says nothing about what is compiled for.
    "TPU_ACCELERATOR_TYPE": "v3-8",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}

CoreCoordinates = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Figures:
    """The compiler's figures of a program, for one core.

    Attributes:
      peak_bytes: most memory in use at one time, arguments included; as far
        as the compiler says it where the program does not fit.
      limit_bytes: memory that a program may use.
      fits: whether it was compiled.
      flops: floating point operations of one run, of a loop once.
      accessed_bytes: moved between the core and its memory in one run, of a
        loop once.
      collectives: kind -> (how many, bytes that a core puts in).
      compile_secs: on this machine.
      code_bytes: of the compiled program.
    """

    peak_bytes: int
    limit_bytes: int
    fits: bool
    flops: float = 0.0
    accessed_bytes: float = 0.0
    collectives: Mapping[str, tuple[int, int]] = dataclasses.field(
        default_factory=dict
    )
    compile_secs: float = 0.0
    code_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Slice:
    """The cores that a program is compiled for.

    Attributes:
      name: of the TPU type they are cut from, e.g. `v3-32`.
      cores: coordinates (x, y, z, core) of each replica's core.
    """

    name: str
    cores: tuple[CoreCoordinates, ...]

    def box(self) -> tuple[tuple[int, ...], tuple[CoreCoordinates, ...]]:
        """Returns the sides of the least box of chips, and cores within it.

        The compiler refuses a part of some slices, but knows every box.
        """
        corner = [min(side) for side in zip(*self.cores, strict=True)][:3]
        moved = tuple(
            (x - corner[0], y - corner[1], z - corner[2], core)
            for x, y, z, core in self.cores
        )
        sides = [max(side) + 1 for side in zip(*moved, strict=True)][:3]
        return tuple(sides), moved


def check_installed() -> None:
    """Verifies that programs can be lowered and compiled here.

    Raises:
      UsageError: the TPU compiler is missing, or two TensorFlows are mixed.
    """
    installed = {
        name.lower().replace("_", "-")
        for name in (d.name for d in importlib.metadata.distributions())
        if name
    }
    missing_packages = [name for name in _NEEDED if name not in installed]
    if missing_packages:
        raise errors.UsageError(
            f"the TPU compiler needs {', '.join(missing_packages)}, which this "
            f"environment does not have; {_INSTALL}"
        )
    if "tensorflow" in installed:
        raise errors.UsageError(
            "tensorflow and tensorflow-tpu are both installed and have "
            f"overwritten parts of one another; {_INSTALL}"
        )


def compile_module(
    hlo: bytes, aliases: Mapping[int, int], where: Slice
) -> Figures:
    """Returns the compiler's figures of a lowered program.

    Args:
      hlo: the module, as `lowering.lower_program` returns it.
      aliases: argument number -> output number that takes its memory over.
      where: the cores that run it.

    Raises:
      UsageError: the compiler refuses it for something else than memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "module.hlo")
        path.write_bytes(hlo)
        answer = _ask(
            where, {"hlo": str(path), "aliases": dict(aliases)}, folder
        )
    if "error" in answer:
        used, limit = _memory_refusal(answer["error"])
        return Figures(peak_bytes=used, limit_bytes=limit, fits=False)
    return Figures(
        peak_bytes=answer["peak_bytes"],
        limit_bytes=limit_bytes(where),
        fits=True,
        flops=answer["flops"],
        accessed_bytes=answer["accessed_bytes"],
        collectives={k: (n, b) for k, (n, b) in answer["collectives"].items()},
        compile_secs=answer["compile_secs"],
        code_bytes=answer["code_bytes"],
    )


@functools.cache
def limit_bytes(where: Slice) -> int:
    """Returns what a program may use on a core, as the compiler says it.

    Raises:
      UsageError: the compiler does not say.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = _ask(where, {"hlo": None, "aliases": {}}, folder)
    _, limit = _memory_refusal(answer.get("error", ""))
    return limit


def _ask(where: Slice, request: Mapping[str, Any], folder: str) -> Any:
    """Returns what the process of the compiler answers.

    Raises:
      UsageError: it ended without an answer.
    """
    chip = chips.chip_of(where.name)
    sides, cores = where.box()
    # A host feeds 2 x 2 chips, or what there is of them.
    host = [2 - side % 2 for side in sides[:2]] + [1]
    # Flat slices have two sides only.
    sides = sides if chip.is_cube else sides[:2]
    request_file, result_file = (
        pathlib.Path(folder, n) for n in ("asked", "told")
    )
    request_file.write_text(
        json.dumps(
            {
                **request,
                "topology": (
                    f"{chip.compiler_name}:{'x'.join(map(str, sides))}"
                ),
                "options": {
                    "chips_per_host_bounds": host,
                    **dict(chip.compiler_options),
                },
                "devices": cores,
            }
        ),
        encoding="utf-8",
    )
    environment = {**os.environ, **_ENVIRONMENT}
    # It keeps TensorFlow from loading the library, which is needed here.
    environment.pop("TPU_LOAD_LIBRARY", None)
    process = subprocess.run(
        [
            *(sys.executable, "-m", "keras_munet.aot.compile_process"),
            *(str(request_file), str(result_file)),
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode or not result_file.exists():
        lines = process.stderr.strip().splitlines() or ["it says nothing"]
        raise errors.UsageError(
            f"the TPU compiler for {where.name} ended with code "
            f"{process.returncode}: {lines[-1]}"
        )
    return json.loads(result_file.read_text(encoding="utf-8"))


def _memory_refusal(message: str) -> tuple[int, int]:
    """Returns (bytes needed, bytes there are) of a refusal.

    Raises:
      UsageError: the refusal is about something else.
    """
    array = _ARRAY.search(message)
    if array is not None:
        return int(array[1]), int(array[2])
    match = _HBM.search(message)
    if match is None:
        first = message.strip().partition("\n")[0]
        raise errors.UsageError(f"the TPU compiler refuses the step: {first}")
    used, used_unit, limit, limit_unit = match.groups()
    return (
        int(float(used) * _UNITS[used_unit]),
        int(float(limit) * _UNITS[limit_unit]),
    )
