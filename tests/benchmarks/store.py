"""What the store costs: bytes of a task, opening, publishing.

    python tests/benchmarks/store.py [--num_tasks=1000] [--num_components=50]

Makes a system of `num_tasks` tasks, each with a path of `num_components`
components of its own, and measures

- the bytes that a task adds beyond its new components (at most 8 KiB),
- opening the system and reading every task's state (under 1 s),
- publishing a task, every write on the disk (under 50 ms), beside what the
  same disk needs to take the bytes of one component.

Prints a table; exits with 1 if a bar is missed. Needs about 300 MB in `folder`
and a minute.
"""

from __future__ import annotations

import os
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
from absl import app
from absl import flags

from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.store import codec
from keras_munet.store import files as files_lib
from keras_munet.store import system_dir
from keras_munet.store import task_state
from keras_munet.system import population_view

_NUM_BYTES_MAX = 8 << 10
_OPEN_SECS_MAX = 1.0
_PUBLISH_SECS_MAX = 0.05
_NUM_OPENINGS = 5
_NUM_PUBLISHED = 20
_NUM_CLASSES = 10
_MIB = 1 << 20
_NUM_TASKS = flags.DEFINE_integer("num_tasks", 1000, "Tasks.")
_NUM_COMPONENTS = flags.DEFINE_integer(
    "num_components", 50, "Components of each path, all its own."
)
_FOLDER = flags.DEFINE_string(
    "folder", None, "Where the system is made; a temporary one by default."
)


def _component(name: str, value: int, num_params: int = 16) -> specs.Component:
    spec = specs.ComponentSpec(
        name,
        "EncoderBlock",
        {"width": num_params, "num_heads": 3, "mlp_dim": 4 * num_params},
        (("kernel", (num_params,)),),
    )
    values = np.full((num_params,), value, np.float32)
    bits = {"kernel": np.zeros(num_params, np.uint16)}
    return specs.Component(spec, {"kernel": values}, bits)


def _state(
    system: system_dir.SystemDir, number: int, num_components: int
) -> task_state.TaskState:
    """Stores new components; returns a state of a new task that has them."""
    names = ["embedding"]
    names += [f"encoderblock_{i}" for i in range(num_components - 3)]
    names += ["encoder_norm", "head"][: num_components - 1]
    refs = tuple(
        system.objects.put(_component(name, number * num_components + i))
        for i, name in enumerate(names)
    )
    task = f"dataset_{number}/with_a_config"
    path = specs.PathRecord(
        task=task,
        parent=system.root.id,
        created_in=(number, 7, 3),
        hparams={**settings_lib.DEFAULT_HPARAMS, "num_layers": 47},
        components=refs,
        metrics={
            "quality": 0.123456789,
            "score": 0.123456789,
            "accounted_params": 1234567.0,
            "num_params": 12345678.0,
            "test_quality": 0.123456789,
        },
    )
    return task_state.TaskState(
        task=task,
        private=False,
        num_classes=_NUM_CLASSES,
        class_names=tuple(f"class {i}" for i in range(_NUM_CLASSES)),
        num_iterations_done=1,
        published=path,
        child_counts={system.root.id: 4},
    )


def _num_bytes(folder: pathlib.Path) -> int:
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file())


def _opening_secs(folder: pathlib.Path) -> float:
    started = time.perf_counter()
    opened = system_dir.SystemDir.open(folder)
    num_living = len(population_view.read_population(opened).living)
    secs = time.perf_counter() - started
    assert num_living > _NUM_TASKS.value
    return secs


def _written_secs(path: pathlib.Path, data: bytes) -> float:
    """Returns what the disk needs for a new file of these bytes."""
    started = time.perf_counter()
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    secs = time.perf_counter() - started
    path.unlink()
    return secs


def _measure(folder: pathlib.Path) -> bool:
    num_tasks, num_components = _NUM_TASKS.value, _NUM_COMPONENTS.value
    place = folder / "system"
    fast = system_dir.SystemDir.create(
        files_lib.LocalStorage(place, durable=False),
        experiment=settings_lib.Settings().to_json(),
        family={"family": "vit"},
        root_components=[_component("embedding", -1)],
        root_hparams={},
        root_source="random",
    )
    started = time.perf_counter()
    for number in range(num_tasks):
        fast.publish(_state(fast, number, num_components))
    secs = time.perf_counter() - started
    print(
        f"made {num_tasks} tasks of {num_components} components in {secs:.0f} s"
    )
    opening = [_opening_secs(place) for _ in range(_NUM_OPENINGS)]

    system = system_dir.SystemDir.open(place)
    system.tasks()
    publishing, added, plain = [], [], []
    for number in range(num_tasks, num_tasks + _NUM_PUBLISHED):
        before = _num_bytes(place)
        state = _state(system, number, num_components)
        new = sum(
            system.objects.num_bytes(ref.id)
            for ref in state.published.components
        )
        started = time.perf_counter()
        system.publish(state)
        publishing.append(time.perf_counter() - started)
        added.append(_num_bytes(place) - before - new)
        record = b"x" * max(1, added[-1])
        plain.append(_written_secs(folder / "plain", record))
    large = _component("encoderblock_0", -2, _MIB)
    data = codec.encode(large)
    started = time.perf_counter()
    system.objects.put(large)
    put_secs = time.perf_counter() - started
    plain_secs = _written_secs(folder / "plain", data)

    rows = [
        (
            "bytes of a task beyond its components",
            f"{max(added):,}",
            f"{_NUM_BYTES_MAX:,}",
            max(added) <= _NUM_BYTES_MAX,
        ),
        (
            f"opening {num_tasks:,} tasks, "
            f"{num_tasks * num_components:,} components",
            f"{statistics.median(opening):.2f} s",
            f"{_OPEN_SECS_MAX:g} s",
            statistics.median(opening) < _OPEN_SECS_MAX,
        ),
        (
            "publishing a task",
            f"{1000 * statistics.median(publishing):.1f} ms",
            f"{1000 * _PUBLISH_SECS_MAX:g} ms",
            statistics.median(publishing) < _PUBLISH_SECS_MAX,
        ),
    ]
    print(f"{'what':48} {'seen':>10} {'bar':>8}")
    for what, seen, bar, _ in rows:
        print(f"{what:48} {seen:>10} {bar:>8}")
    print(
        f"opening, all: {' '.join(f'{s:.2f}' for s in opening)} s; publishing, "
        f"longest: {1000 * max(publishing):.1f} ms; a plain file of the same "
        f"bytes on this disk: {1000 * statistics.median(plain):.1f} ms"
    )
    print(
        f"a component of {len(data) / _MIB:.0f} MiB: {1000 * put_secs:.0f} ms; "
        f"a plain file of the same bytes: {1000 * plain_secs:.0f} ms"
    )
    return all(row[-1] for row in rows)


def main(argv: list[str]) -> None:
    """Measures in a folder that goes afterwards."""
    del argv
    with tempfile.TemporaryDirectory(dir=_FOLDER.value) as folder:
        if not _measure(pathlib.Path(folder)):
            sys.exit("a bar is missed")


if __name__ == "__main__":
    app.run(main)
