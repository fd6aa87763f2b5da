"""A model of the published `large` experiments on TPU slices: time and cost.

    python launch/dry_run.py --config=configs/large.py:vit \
        --topology=v4-64 --json > FOLDER/v4-64.json      (one per slice type)
    python tests/benchmarks/scaling.py --reports=FOLDER [--efficiency=0.4] \
        [--price_per_chip_hour=0]

What comes from where: steps from the catalogue's splits and the config; the
least time of a step and its compilation from the reports; what the host does
(reading examples, storing components) is measured here, on this machine. What
is assumed are the flags, and nothing else: `efficiency` is the share of the
bound that a step reaches, `compilers` how many programs compile at once, and
`price_per_chip_hour` yours to look up. Prints Markdown tables.

A generation waits for its slowest slice, so every child counts as the largest
one of the first generation; every child is stored, as if all improved.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "configs"))

import large
import numpy as np
from absl import app
from absl import flags

from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.data import types
from keras_munet.data.tfds import catalogue
from keras_munet.data.tfds import catalogue_sources
from keras_munet.store import codec
from keras_munet.store import files as files_lib
from keras_munet.store import objects
from keras_munet.train.devices import topology

_REPORTS = flags.DEFINE_string(
    "reports",
    None,
    "Folder of JSON reports of launch/dry_run.py.",
    required=True,
)
_EFFICIENCY = flags.DEFINE_float(
    "efficiency", 0.4, "Assumed: bound over time of a step, in (0, 1]."
)
_COMPILERS = flags.DEFINE_integer(
    "compilers", 1, "Assumed: programs that compile at one time."
)
_PRICE = flags.DEFINE_float(
    "price_per_chip_hour", 0.0, "Of the slice type, in your currency."
)
_IMAGE_BYTES = 384 * 384 * 3
_SECS_PER_HOUR = 3600.0
_PART = re.compile(r"(\w+)(?:\[(\d*)(%?):(\d*)(%?)\])?$")
# Parameters of a block of L/16, the unit that is stored.
_BLOCK_PARAMS = 12_596_224


@dataclasses.dataclass(frozen=True)
class Host:
    """What one host was measured to do.

    Attributes:
      read_bytes_per_sec: examples picked from a file in memory.
      put_bytes_per_sec: components stored, with fsync.
    """

    read_bytes_per_sec: float
    put_bytes_per_sec: float


@dataclasses.dataclass(frozen=True)
class Work:
    """What one task asks for.

    Attributes:
      train_steps: of each child.
      validation_steps: of each child.
    """

    train_steps: int
    validation_steps: int


def num_examples(instruction: str, splits: Mapping[str, int]) -> int:
    """Returns how many examples an instruction such as `train[:98%]` picks."""
    total = 0
    for part in instruction.split("+"):
        found = _PART.match(part)
        assert found, instruction
        split, start, start_percent, end, end_percent = found.groups()
        size = splits[split]

        def place(number: str, percent: str, default: int, size: int) -> int:
            if not number:
                return default
            return size * int(number) // 100 if percent else int(number)

        first = place(start or "", start_percent or "", 0, size)
        last = place(end or "", end_percent or "", size, size)
        total += min(last, size) - first
    return total


def work_of(task: catalogue.Task, settings: settings_lib.Settings) -> Work:
    """Returns the steps of a task iteration for each child."""
    splits = catalogue_sources.SOURCES[task.source].num_examples
    other = task.plan.validation_source
    held = catalogue_sources.SOURCES[other].num_examples if other else splits
    cycles = settings.num_validations_per_path_training
    trained = min(
        num_examples(task.plan.train, splits),
        settings.num_train_examples_between_validations_max,
    )
    validated = min(
        num_examples(task.plan.validation, held),
        settings.num_validation_examples_max,
    )
    size = settings.batch_size
    return Work(cycles * -(-trained // size), cycles * -(-validated // size))


def measured_host() -> Host:
    """Measures this machine, each figure a median of five."""
    images = np.zeros((2048, 384, 384, 3), np.uint8)
    split = types.Split(images, np.zeros(len(images), np.int32))
    rng = np.random.default_rng(0)
    reading, putting = [], []
    with tempfile.TemporaryDirectory() as folder:
        store = objects.ObjectStore(files_lib.LocalStorage(folder))
        for number in range(5):
            picked = rng.integers(0, len(images), 64)
            started = time.perf_counter()
            batch, _ = split.batch(picked)
            reading.append(batch.nbytes / (time.perf_counter() - started))
            block = _block(number)
            started = time.perf_counter()
            store.put(block)
            secs = time.perf_counter() - started
            putting.append(len(codec.encode(block)) / secs)
    return Host(statistics.median(reading), statistics.median(putting))


def _block(number: int) -> specs.Component:
    spec = specs.ComponentSpec(
        "encoderblock_0",
        "EncoderBlock",
        {"width": 1024, "num_heads": 16, "mlp_dim": 4096},
        (("kernel", (_BLOCK_PARAMS,)),),
    )
    rng = np.random.default_rng(number)
    values = rng.normal(size=_BLOCK_PARAMS).astype(np.float32)
    bits = rng.integers(0, 2**16, _BLOCK_PARAMS).astype(np.uint16)
    return specs.Component(spec, {"kernel": values}, {"kernel": bits})


@dataclasses.dataclass(frozen=True)
class Hours:
    """Where the time of some tasks goes.

    Attributes:
      bound: training and validation at the published peaks.
      compiling: tracing is not counted.
      storing: what the children trained, by one host.
      busiest_read: bytes per second that a host must read at the bound.
    """

    bound: float
    compiling: float
    storing: float
    busiest_read: float


def hours(
    works: list[Work],
    report: Mapping[str, Any],
    settings: settings_lib.Settings,
    host: Host,
) -> Hours:
    """Returns the hours of a list of tasks on the slice type of a report."""
    train, evaluate = report["steps"]
    secs = {
        step["name"]: max(
            step["bound"][f"{name}_secs"]
            for name in ("compute", "memory", "links")
        )
        for step in (train, evaluate)
    }
    children = settings.children_per_generation
    generations = settings.num_generations
    # Children of one slice take turns where they are more than the slices.
    turns = -(-children // (report["num_slices"] * report["num_children"]))
    computing = sum(
        turns
        * (
            work.train_steps * secs["train"]
            + work.validation_steps * secs["evaluate"]
        )
        for work in works
    )
    programs = len(works) * generations * children / report["num_children"]
    compiling = programs * sum(
        step["figures"]["compile_secs"] for step in (train, evaluate)
    )
    per_child = train["changed_bytes"] / report["num_children"]
    stored = per_child * len(works) * generations * children
    slices_per_host = (
        len(topology.named_topology(report["topology"]).hosts[0])
        / report["num_replicas"]
    )
    return Hours(
        bound=generations * computing / _SECS_PER_HOUR,
        compiling=compiling / _COMPILERS.value / _SECS_PER_HOUR,
        storing=stored / host.put_bytes_per_sec / _SECS_PER_HOUR,
        busiest_read=(settings.batch_size * _IMAGE_BYTES * slices_per_host)
        / secs["train"],
    )


def main(argv: list[str]) -> None:
    del argv
    reports = [
        json.loads(path.read_text())
        for path in pathlib.Path(_REPORTS.value).glob("*.json")
    ]
    reports.sort(key=lambda r: (r["topology"][:2], _num_chips(r)))
    host = measured_host()
    print(
        f"this host: picks {host.read_bytes_per_sec / 1e9:.2f} GB/s of "
        f"examples, stores {host.put_bytes_per_sec / 1e6:.0f} MB/s"
    )
    for key, title in catalogue.BENCHMARKS.items():
        settings = settings_lib.Settings.from_dict(
            large.get_config(key).to_dict()
        )
        tasks = [catalogue.find(name) for name in settings.task_names]
        works = [work_of(task, settings) for task in tasks if task]
        steps = settings.num_generations * sum(w.train_steps for w in works)
        print(f"\n{title}: {len(works)} tasks, {steps:,} steps of 32 children")
        _print_table(works, reports, settings, host)


def _print_table(works, reports, settings, host: Host) -> None:
    print(
        "\n| slice | bound, h | at the efficiency, h | compiling, h | "
        "storing, h | host reads, MB/s | chip hours | cost |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for report in reports:
        found = hours(works, report, settings, host)
        likely = found.bound / _EFFICIENCY.value
        total = likely + found.compiling + found.storing
        chips = _num_chips(report)
        print(
            f"| {report['topology']} | {found.bound:,.1f} | {likely:,.1f} | "
            f"{found.compiling:,.1f} | {found.storing:,.1f} | "
            f"{found.busiest_read * _EFFICIENCY.value / 1e6:,.0f} | "
            f"{total * chips:,.0f} | {total * chips * _PRICE.value:,.0f} |"
        )


def _num_chips(report: Mapping[str, Any]) -> int:
    cores = topology.named_topology(report["topology"]).cores
    return len({core[:3] for core in cores})


if __name__ == "__main__":
    app.run(main)
