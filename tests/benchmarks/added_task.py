"""What one more task costs a system of 3 and of 1,000 tasks, without training.

    python tests/benchmarks/added_task.py [--num_tasks=3,1000] [--num_added=7]

Everything of `System.evolve` runs except the training, whose place a stand-in
takes: search, store, publication, collection. Both systems add their tasks in
turns; the medians of the processor's seconds (the disk is not waited for) and
of the bytes written and read are compared. Then every published file of the
other tasks must be what it was. Exits with 1 if a cost grows by more than 20%,
or a file changed. The root is that of the smallest published experiment; a
smaller one shows more of what is not flat.
"""

from __future__ import annotations

import contextlib
import cProfile
import hashlib
import pathlib
import pstats
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "helpers"))

import numpy as np
import store_jobs
from absl import app
from absl import flags

from keras_munet.core import seeds
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.data import types
from keras_munet.roots import root as root_lib
from keras_munet.store import files as files_lib
from keras_munet.store import system_dir
from keras_munet.store import task_state
from keras_munet.system import system as system_lib
from keras_munet.train import child_job

_FLAT_WITHIN = 0.2
_NUM_CLASSES = 10
_CLASS_NAMES = tuple(map(str, range(_NUM_CLASSES)))
_NUM_TASKS = flags.DEFINE_list("num_tasks", ["3", "1000"], "Sizes compared.")
_NUM_ADDED = flags.DEFINE_integer("num_added", 7, "Tasks added to each.")
_VARIANT = flags.DEFINE_string("variant", "Ti/16", "The root's ViT.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 32, "Of the root, pixels.")
_PROFILE = flags.DEFINE_bool("profile", False, "Print where time goes.")


class CountingFiles(files_lib.LocalStorage):
    """A folder that counts the bytes that pass."""

    def __init__(self, folder):
        super().__init__(folder, durable=False)
        self.num_written = self.num_read = 0

    def read(self, name, num_bytes_max):
        data = super().read(name, num_bytes_max)
        self.num_read += len(data)
        return data

    def write_atomic(self, name, data):
        self.num_written += len(data)
        super().write_atomic(name, data)


class Untrained(store_jobs.Stand):
    """Stands where the trainer does: adds noise; each child is the best yet.

    Attributes:
      own_secs: the processor's seconds that count as training.
    """

    def __init__(self):
        super().__init__()
        self.own_secs = 0.0
        self._quality = 0.0

    def train(self, children, data, data_hparams, event, *, accept_ties):
        started = time.process_time()
        found = []
        for child in children:
            rng = seeds.generator(0, *event, child.index)
            self._quality += 1e-6
            made = {
                part.spec.name: store_jobs.noisy(
                    part.load(), rng, part.trainable
                )
                for part in child.components
                if part.shared_id is None
            }
            found.append(
                child_job.TrainedChild(
                    child.index, (self._quality,), (1.0,), self._quality, made
                )
            )
        self.own_secs += time.process_time() - started
        return found


def _system(folder, num_tasks) -> tuple[system_lib.System, CountingFiles]:
    """Makes a system whose tasks each have a head of their own."""
    files = CountingFiles(folder)
    root = root_lib.random(
        _VARIANT.value, num_layers=3, image_size=_IMAGE_SIZE.value
    )
    settings = settings_lib.Settings.from_dict(
        {"num_samples_per_task": 32, "children_per_generation": 8}
    )
    system_lib.System.create(files, settings, root)
    directory = system_dir.SystemDir.open(files)
    origin = directory.root
    layout = root.family.layout(origin.hparams, _NUM_CLASSES)
    parent = origin
    made: list[str] = []
    for number in range(num_tasks):
        own = {
            spec.name: directory.objects.put(
                root.family.initial(spec, seeds.generator(number, spec.name))
            )
            for spec in layout
            if spec.name == "head"
        }
        path = specs.PathRecord(
            task=f"old/{number:04}",
            parent=parent.id,
            created_in=(number, 0, 0),
            hparams=origin.hparams,
            components=tuple(own.get(c.name, c) for c in origin.components),
            metrics={"quality": 0.5, "score": 0.5, "test_quality": 0.5},
        )
        # One in ten comes from the root, the others from the one before.
        parent = path if number % 10 else origin
        sampled = [origin.id, *made[-20::2]]
        made.append(path.id)
        directory.publish(
            task_state.TaskState(
                task=path.task,
                private=False,
                num_classes=_NUM_CLASSES,
                class_names=_CLASS_NAMES,
                num_iterations_done=1,
                published=path,
                child_counts=dict.fromkeys(sampled, 2),
            )
        )
    data = {f"new/{i}": _data(f"new/{i}") for i in range(_NUM_ADDED.value)}
    return system_lib.System(directory, task_data=data), files


def _data(name) -> types.TaskData:
    split = types.Split(np.zeros((1, 4, 4, 1), np.uint8), np.zeros(1, np.int32))
    return types.TaskData(name, _NUM_CLASSES, _CLASS_NAMES, split, split, split)


def _added(system, files, name) -> dict[str, float]:
    """Returns what adding one task cost."""
    trainer = Untrained()
    store_jobs.train_by(system, trainer)
    written, read = files.num_written, files.num_read
    started = time.process_time()
    system.evolve(name)
    return {
        "secs": time.process_time() - started - trainer.own_secs,
        "bytes_written": files.num_written - written,
        "bytes_read": files.num_read - read,
    }


def _digests(system, folder) -> dict[str, str]:
    """Returns file -> SHA-256 of what the published old tasks consist of."""
    old = [s for n, s in system.tasks.items() if n.startswith("old/")]
    ids = {ref.id for state in old for ref in state.published.components}
    return {
        str(path.relative_to(folder)): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.stem in ids or path.name.startswith("old~")
    }


def main(argv: list[str]) -> None:
    """Measures and prints."""
    del argv
    sizes = [int(text) for text in _NUM_TASKS.value]
    with tempfile.TemporaryDirectory() as base:
        folders = {n: pathlib.Path(base) / str(n) for n in sizes}
        made = {n: _system(folder, n) for n, folder in folders.items()}
        before = {n: _digests(made[n][0], folders[n]) for n in sizes}
        costs: dict[int, list[dict[str, float]]] = {n: [] for n in sizes}
        # The first of each imports and fills caches.
        for number in range(_NUM_ADDED.value):
            for size in sizes:
                with (
                    cProfile.Profile()
                    if (_PROFILE.value and number and size == sizes[-1])
                    else contextlib.nullcontext() as profile
                ):
                    found = _added(*made[size], f"new/{number}")
                if number:
                    costs[size].append(found)
        changed = {
            name
            for n in sizes
            for name, digest in _digests(made[n][0], folders[n]).items()
            if before[n].pop(name, None) != digest
        }
        lost = sorted(name for n in sizes for name in before[n])
    if isinstance(profile, cProfile.Profile):
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
    flat = True
    for key in costs[sizes[0]][0]:
        medians = [statistics.median(c[key] for c in costs[n]) for n in sizes]
        ratio = medians[-1] / medians[0]
        flat = flat and ratio <= 1 + _FLAT_WITHIN
        shown = "  ".join(
            f"{n} tasks {median:.4g}"
            for n, median in zip(sizes, medians, strict=True)
        )
        print(f"{key}: {shown}  ratio {ratio:.2f}")
    print(f"files of other tasks changed: {len(changed)}, lost: {len(lost)}")
    if changed or lost or not flat:
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
