"""Measures what a task costs the store, as tasks become many.

    python tests/benchmarks/store_growth.py [--sizes=10,1000,10000]

Makes systems of so many tasks, each with a path of `num_components` components
of its own, and measures with `num_agents` agents that publish in turn (over
four jobs in this process, whose memory holds them all)

- publishing a task, every write on the disk,
- tidying up after it,
- refreshing: what a job needs of the living paths at the start of a
  generation, after every agent has published (in CPU time),
- ordering: what the search then takes to put them in order (in CPU time; it
  grows, and has no bar),
- opening the system, a task (in CPU time),

and what memory an open system takes. Components have kilobytes, so that no
hashing hides the rest. Records of the tasks that nobody measures are written
without their objects. Prints a JSON object per size, then the cost of the
largest size over that of the smallest; exits with 1 if one is above the bar.
"""

from __future__ import annotations

import gc
import hashlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import app
from absl import flags

from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.models.vit import architecture as vit_architecture
from keras_munet.search import evolution
from keras_munet.store import checksummed_json
from keras_munet.store import files as files_lib
from keras_munet.store import layout
from keras_munet.store import system_dir
from keras_munet.store import task_state
from keras_munet.system import population_view

_RATIO_MAX = 1.2
_NUM_PARAMS = 512
_NUM_CLASSES = 10
_NUM_JOBS = 4
_SIZES = flags.DEFINE_list("sizes", ["10", "1000", "10000"], "Tasks.")
_NUM_COMPONENTS = flags.DEFINE_integer("num_components", 100, "Of a path.")
_NUM_AGENTS = flags.DEFINE_integer("num_agents", 20, "That publish.")
_NUM_TURNS = flags.DEFINE_integer("num_turns", 8, "Publications of each.")
_FOLDER = flags.DEFINE_string(
    "folder", None, "Where the systems are made; a temporary one by default."
)
_OPEN = flags.DEFINE_string("open", None, "Opens a system only; for itself.")


def _places(num_components: int) -> list[str]:
    blocks = [f"encoderblock_{i}" for i in range(num_components - 2)]
    return ["embedding", *blocks, "head"]


def _component(name: str, value: int) -> specs.Component:
    spec = specs.ComponentSpec(
        name, "EncoderBlock", {"width": 16}, (("kernel", (_NUM_PARAMS,)),)
    )
    values = np.full((_NUM_PARAMS,), value, np.float32)
    return specs.Component(spec, {"kernel": values})


def _state(
    root: specs.PathRecord,
    task: str,
    num_done: int,
    refs: tuple[specs.ComponentRef, ...],
) -> task_state.TaskState:
    path = specs.PathRecord(
        task=task,
        parent=root.id,
        created_in=(num_done, 7, 3),
        hparams={**settings_lib.DEFAULT_HPARAMS, "num_layers": len(refs) - 2},
        components=refs,
        metrics={"quality": 0.5, "score": 0.25, "test_quality": 0.5},
    )
    return task_state.TaskState(
        task=task,
        private=False,
        num_classes=_NUM_CLASSES,
        class_names=tuple(f"class {i}" for i in range(_NUM_CLASSES)),
        num_iterations_done=num_done,
        published=path,
        child_counts={root.id: 4},
    )


def _make(place: pathlib.Path, num_tasks: int) -> None:
    """Makes a system; its tasks' records name objects that are not there."""
    files = files_lib.LocalStorage(place, durable=False)
    system = system_dir.SystemDir.create(
        files,
        experiment=settings_lib.Settings().to_json(),
        family={"family": "vit"},
        root_components=[_component("embedding", -1)],
        root_hparams={"num_layers": 0},
        root_source="random",
    )
    for number in range(num_tasks):
        task = f"dataset_{number}/with_a_config"
        refs = tuple(
            specs.ComponentRef(
                name,
                hashlib.sha256(f"{number} {name}".encode()).hexdigest(),
                hashlib.sha256(name.encode()).hexdigest()[:16],
                _NUM_PARAMS,
            )
            for name in _places(_NUM_COMPONENTS.value)
        )
        name = layout.task_file(task)
        body = _state(system.root, task, 1, refs).to_json()
        files.write_atomic(name, checksummed_json.seal(body, name))


class _Agent:
    """A job that publishes its task again and again."""

    def __init__(self, system: system_dir.SystemDir, number: int):
        self.system = system
        self.task = f"agent_{number}"
        self._num_done = 0
        self._number = number

    def refs(self) -> tuple[specs.ComponentRef, ...]:
        """Stores new components: the first half stay the same."""
        places = _places(_NUM_COMPONENTS.value)
        return tuple(
            self.system.objects.put(
                _component(
                    name,
                    self._number
                    + (self._num_done * 1000) * (2 * i > len(places)),
                )
            )
            for i, name in enumerate(places)
        )

    def publish(self) -> tuple[float, float]:
        """Publishes and tidies up; returns the seconds of both."""
        with self.system.lease(self.task):
            with self.system.naming():
                refs = self.refs()
                self._num_done += 1
                self.system.save_progress(
                    self.task, {"refs": [ref.to_json() for ref in refs]}
                )
            state = _state(self.system.root, self.task, self._num_done, refs)
            started = time.perf_counter()
            self.system.publish(state)
            published = time.perf_counter()
            self.system.tidy()
            ended = time.perf_counter()
        return published - started, ended - published


def _measure(place: pathlib.Path, num_tasks: int) -> dict[str, float]:
    _make(place, num_tasks)
    # Alone, for its memory.
    command = [sys.executable, __file__, f"--open={place}"]
    opened = json.loads(subprocess.check_output(command))
    jobs = [system_dir.SystemDir.open(place) for _ in range(_NUM_JOBS)]
    agents = [_Agent(jobs[n % _NUM_JOBS], n) for n in range(_NUM_AGENTS.value)]
    watcher = agents[0]
    newest = population_view.Newest(watcher.system)
    for agent in agents:
        agent.publish()
    newest()
    search = evolution.TaskIteration(
        settings_lib.Settings(),
        vit_architecture.VitFamily(64, 3, 128, 8, 4),
        newest.population,
        watcher.task,
        num_classes=_NUM_CLASSES,
        iteration=1,
    )
    search.rank({path.id: 0.5 for path in search.unranked})
    publishing, tidying, refreshing, ordering = [], [], [], []
    gc.collect()
    gc.freeze()
    for _ in range(_NUM_TURNS.value):
        for agent in agents[1:]:
            publish_secs, tidy_secs = agent.publish()
            publishing.append(publish_secs)
            tidying.append(tidy_secs)
        started = time.process_time()
        population = newest()
        assert population is not None
        for ref in population.published["agent_1"].components:
            population.locks(ref.id, without="agent_1")
        population.accounted_params("agent_1", population.root.components)
        refreshing.append(time.process_time() - started)
        started = time.process_time()
        search.renew(population)
        ordering.append(time.process_time() - started)
    return {
        "num_tasks": num_tasks,
        "publish_ms": 1000 * _lower_quartile(publishing),
        "tidy_ms": 1000 * _lower_quartile(tidying),
        "refresh_ms": 1000 * _lower_quartile(refreshing),
        "order_ms": 1000 * _lower_quartile(ordering),
        "open_ms_per_task": 1000 * opened["secs"] / num_tasks,
        "open_secs": opened["secs"],
        "again_secs": opened["again_secs"],
        "open_mib": opened["mib"],
    }


def _lower_quartile(secs: list[float]) -> float:
    """Returns what a quarter of the times is below: other programs disturb."""
    return statistics.quantiles(secs, n=4)[0]


def _resident_mib() -> float:
    status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _open(place: str) -> dict[str, float]:
    secs = []
    before = _resident_mib()
    for _ in range(2):
        started = time.process_time()
        system = system_dir.SystemDir.open(place)
        population = population_view.read_population(system)
        num_living = len(population.living)
        population.locks(population.root.components[0].id)
        secs.append(time.process_time() - started)
        mib = _resident_mib() - before
        if len(secs) == 1:
            del system, population
    assert num_living
    return {"secs": secs[0], "again_secs": secs[1], "mib": mib}


def main(argv: list[str]) -> None:
    """Measures in a folder that goes afterwards."""
    del argv
    if _OPEN.value:
        print(json.dumps(_open(_OPEN.value)))
        return
    points = []
    with tempfile.TemporaryDirectory(dir=_FOLDER.value) as folder:
        for size in map(int, _SIZES.value):
            place = pathlib.Path(folder) / str(size)
            points.append(_measure(place, size))
            print(json.dumps({k: round(v, 3) for k, v in points[-1].items()}))
            sys.stdout.flush()
    keys = ["publish_ms", "tidy_ms", "refresh_ms", "open_ms_per_task"]
    ratios = {key: points[-1][key] / points[0][key] for key in keys}
    print(json.dumps({k: round(v, 2) for k, v in ratios.items()}))
    if max(ratios.values()) > _RATIO_MAX:
        sys.exit(f"a cost grows more than {_RATIO_MAX:g} times")


if __name__ == "__main__":
    app.run(main)
