"""Jobs that evolve a system in forked processes, with a stand-in for training.

What runs is the real `System.run`: everything between the search and the disk.
A population depends on its records alone, so a job that was hurt and continued
must end in the same bytes. Those who fork run in a process of their own: see
`apart`.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import traceback

import numpy as np
import system_samples

from keras_munet import errors
from keras_munet.core import devices
from keras_munet.core import seeds
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.data import fingerprints
from keras_munet.data import types
from keras_munet.roots import root as root_lib
from keras_munet.store import leases
from keras_munet.store import system_dir
from keras_munet.system import executor
from keras_munet.system import system as system_lib
from keras_munet.system import task_data
from keras_munet.train import child_job
from keras_munet.train import timing
from keras_munet.train.devices import workers as workers_lib

_NUM_CLASSES = 3
_CLASS_NAMES = ("a", "b", "c")
# Exit codes of a forked job.
_FAILED = 1
_REFUSED = 3


def apart(script: str, *arguments: object, timeout_secs: float) -> dict:
    """Runs a script of this folder in a process of its own.

    Args:
      script: its file name.
      *arguments: of its command line.
      timeout_secs: after which it counts as hanging.

    Returns:
      The JSON object that it printed last.
    """
    helpers = pathlib.Path(__file__).resolve().parent
    found = subprocess.run(
        [sys.executable, str(helpers / script), *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": str(helpers.parents[1]),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        capture_output=True,
        text=True,
        timeout=timeout_secs,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-5000:]
    return json.loads(found.stdout.splitlines()[-1])


class Stand:
    """Stands where the trainer does; what it returns the event determines."""

    workers = workers_lib.ALONE

    def __init__(self):
        self.clock = timing.Clock()

    def stop_when(self, stop):
        """Never stops in the middle: it has no cycles."""

    def train(
        self,
        children,
        data,
        data_hparams,
        event,
        *,
        accept_ties,
        on_cycle=None,
    ):
        found = []
        for child in children:
            rng = seeds.generator(0, *event, child.index)
            quality = float(rng.random())
            improved = quality * child.size_factor > child.score_to_beat
            made = {
                part.spec.name: noisy(part.load(), rng, part.trainable)
                for part in child.components
                if part.shared_id is None
            }
            found.append(
                child_job.TrainedChild(
                    child.index,
                    (quality,),
                    (1.0,),
                    quality if improved else None,
                    made if improved else {},
                )
            )
        return found

    def evaluate(self, parts, data, split, image_size, antialias):
        return 0.5

    def logits(self, path, data, split):
        labels = getattr(data, split).labels
        return np.eye(data.num_classes)[labels], labels

    def forget_task(self, task):
        pass


def noisy(component, rng, trainable):
    """Returns a component with noise added to its weights if it is trained."""
    if not trainable:
        return component
    weights = {
        name: value + rng.normal(size=value.shape).astype("f4")
        for name, value in component.weights.items()
    }
    return specs.Component(component.spec, weights)


def create(
    folder: pathlib.Path, num_tasks: int = 2, num_rounds: int = 2
) -> None:
    """Makes a new system of made-up tasks."""
    root = root_lib.random("mu", num_layers=1, image_size=16)
    settings = settings_lib.Settings.from_dict(
        {
            "task_names": [f"made/{number}" for number in range(num_tasks)],
            "num_task_iters": num_rounds,
            "num_samples_per_task": 4,
            "children_per_generation": 2,
            "ranges": {"num_layers": [0, 1]},
        }
    )
    system_dir.SystemDir.create(
        folder,
        experiment=settings.to_json(),
        family=root.family.to_json(),
        root_components=root.components,
        root_hparams={**settings.hparams, **root.hparams},
        root_source=root.source,
    )


def run(
    folder: pathlib.Path,
    *,
    log: pathlib.Path | None = None,
    lease_secs: float | None = None,
) -> None:
    """Runs what is left of a system.

    Args:
      folder: of the system.
      log: where to tell what is published; see `_logged`.
      lease_secs: after which a stopped job loses its task; None for the usual.
    """
    directory = system_dir.SystemDir.open(folder)
    if log is not None:
        _logged(directory, log)
    if lease_secs is not None:
        directory._job = leases.JobLeases(directory.files, lease_secs)
    split = types.Split(np.zeros((1, 4, 4, 1), np.uint8), np.zeros(1, np.int32))
    settings = settings_lib.Settings.from_dict(directory.experiment)
    loader = task_data.TaskDataLoader(settings)
    for name in settings.task_names:
        data = types.TaskData(
            name, _NUM_CLASSES, _CLASS_NAMES, split, split, split
        )
        loader._loaded[name] = data
        loader._class_names[name] = data.class_names
        loader.fingerprints[name] = fingerprints.of(data)
    system = system_lib.System(directory, loader=loader)
    train_by(system, Stand())
    system.run()


def train_by(system: system_lib.System, trainer) -> None:
    """Has a system train by `trainer` instead of a real one."""
    system._runner._crews[devices.Devices.of("auto")] = executor.Executor(
        trainer, system._dir, system.family, system.settings
    )


def _logged(directory: system_dir.SystemDir, log: pathlib.Path) -> None:
    """Has a system tell what it is about to publish, and what is published.

    Each line is `WORD TASK NUMBER OLD NEW`: the word is `will` or `did`, the
    number that of the task iterations done, the others are path ids.
    """
    publish = directory.publish

    def told(state):
        old = directory.tasks().get(state.task)
        line = " ".join(
            [
                state.task,
                str(state.num_iterations_done),
                old.published.id if old else "-",
                state.published.id,
            ]
        )
        _append(log, f"will {line}\n")
        publish(state)
        _append(log, f"did {line}\n")

    directory.publish = told


def _append(log: pathlib.Path, line: str) -> None:
    # Not by `os.open`, which may be made to fail.
    with open(log, "a", encoding="ascii") as file:
        file.write(line)


def told(log: pathlib.Path) -> list[tuple[str, str, int, str, str]]:
    """Returns what jobs told: (word, task, number, old path, new path)."""
    if not log.exists():
        return []
    # Without a line that is being written just now.
    whole = log.read_text().split("\n")[:-1]
    lines = [line.split() for line in whole]
    return [(w, task, int(n), old, new) for w, task, n, old, new in lines]


def forked(work) -> int:
    """Starts `work` in a process of its own; returns the process's id."""
    child = os.fork()
    if child:
        return child
    code = _FAILED
    try:
        work()
        code = 0
    except errors.MunetError as error:
        assert "\n" not in str(error)
        code = _REFUSED
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(code)


def ended(child: int) -> str:
    """Waits for a job; returns `done`, `refused` or `killed`."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return "killed"
    code = os.WEXITSTATUS(status)
    assert code in (0, _REFUSED), "a job failed; see its trace"
    return "done" if code == 0 else "refused"


def end_all(children) -> None:
    """Kills and buries processes."""
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def finished(folder: pathlib.Path) -> dict[str, str]:
    """Runs to the end in a forked job; returns the digests of all files."""
    assert ended(forked(lambda: run(folder))) == "done"
    directory = system_dir.SystemDir.open(folder)
    assert directory.check() == []
    directory.collect()
    return system_samples.digests(folder)


def import_once() -> None:
    """Imports what a run needs, so that a forked job has it at once."""
    from keras_munet.system import task_iteration

    del task_iteration


def copied(start: pathlib.Path, to: pathlib.Path) -> pathlib.Path:
    """Returns `to`, a fresh copy of `start`."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(start, to)
    return to
