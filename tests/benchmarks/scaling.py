"""A model of the published `large` experiments on TPU slices: time and cost.

    python launch/dry_run.py --config=configs/large.py:vit \
        --topology=v4-64 --json > FOLDER/v4-64.json      (one per slice type)
    python tests/benchmarks/scaling.py --reports=FOLDER [--efficiency=0.4] \
        [--price_per_chip_hour=0]

What comes from where: steps from the catalogue's splits and the config; the
least time of a step and the program's compilation from the reports; what the
host does (reading examples, storing components) is measured here, on this
machine. What is assumed are the flags, and nothing else: `efficiency` is the
share of the bound that a step reaches, and `price_per_chip_hour` yours to look
up. Prints Markdown tables.

A generation waits for its slowest child, so every child counts as the fullest
one; every child is stored, as if all improved.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
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

from keras_munet.aot import job_time
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.data import types
from keras_munet.data.tfds import catalogue
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
_PRICE = flags.DEFINE_float(
    "price_per_chip_hour", 0.0, "Of the slice type, in your currency."
)
_IMAGE_BYTES = 384 * 384 * 3
_SECS_PER_HOUR = 3600.0
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
    report: Mapping[str, Any], settings: settings_lib.Settings, host: Host
) -> Hours:
    """Returns the hours of a config on the slice type of a report."""
    children = settings.children_per_generation
    generations = settings.num_task_iters * settings.num_generations
    program = report["compiled"][0]
    computing = job_time.job_secs(
        settings,
        report["num_at_a_time"],
        report["step_secs"],
        report["validation_secs"],
    )
    compiling = report["num_programs"] * program["figures"]["compile_secs"]
    # Of what a core holds, the examples are not stored.
    pool = report["program"]
    examples = pool["pool"] * (3 * pool["side"] ** 2 + 4)
    stored = (program["variable_bytes"] - examples) * children * generations
    stored *= len(settings.task_names)
    hosts = topology.named_topology(report["topology"]).hosts
    per_host = len(hosts[0]) / report["cores_per_child"]
    return Hours(
        bound=computing / _SECS_PER_HOUR,
        compiling=compiling / _SECS_PER_HOUR,
        storing=stored / host.put_bytes_per_sec / _SECS_PER_HOUR,
        busiest_read=(settings.batch_size * _IMAGE_BYTES * per_host)
        / report["step_secs"],
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
        works = [job_time.work_of(n, settings) for n in settings.task_names]
        steps = settings.num_generations * sum(w.train_steps for w in works)
        print(f"\n{title}: {len(works)} tasks, {steps:,} steps of 32 children")
        _print_table(reports, settings, host)


def _print_table(reports, settings, host: Host) -> None:
    print(
        "\n| slice | bound, h | at the efficiency, h | compiling, h | "
        "storing, h | host reads, MB/s | chip hours | cost |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for report in reports:
        found = hours(report, settings, host)
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
