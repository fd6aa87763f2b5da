"""A system uses the data that its tasks were trained on, one task at a time."""

from __future__ import annotations

import dataclasses
import gc
import weakref

import numpy as np
import pytest

import keras_munet
from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.data import tasks as tasks_lib
from keras_munet.data.own import store as own_store
from keras_munet.data.own import tasks as own_tasks
from keras_munet.store import system_dir
from keras_munet.system import task_data

NAME = "own/levels"


def _keep(folder, classes=("dark", "light"), seed=0, name=NAME, num=30):
    rng = np.random.default_rng(seed)
    images = np.concatenate(
        [
            rng.integers(60 * i, 60 * i + 40, (num, 8, 8, 1))
            for i in range(len(classes))
        ]
    ).astype(np.uint8)
    labels = np.repeat(np.arange(len(classes)), num)
    own_store.save(
        own_tasks.from_arrays(name, images, labels, class_names=classes),
        str(folder),
    )
    return str(folder)


def _settings(data_dir, **changes):
    return settings_lib.Settings.from_dict(
        {
            "task_names": [NAME],
            "num_task_iters": 1,
            "num_samples_per_task": 2,
            "children_per_generation": 1,
            "num_validations_per_path_training": 1,
            "num_train_examples_between_validations_max": 32,
            "batch_size": 16,
            "root": {"variant": "mu", "num_layers": 1, "image_size": 8},
            "data": {"data_dir": data_dir},
            **changes,
        }
    )


def _open(workdir, data_dir):
    data = settings_lib.DataSettings(data_dir=data_dir)
    return keras_munet.System.open(workdir, data)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    data_dir = _keep(folder / "data")
    keras_munet.System.create(folder / "w", _settings(data_dir)).run()
    return folder / "w", data_dir


# Data that were kept under the same name; what differs.
OTHERS = {
    "renamed": ({"classes": ("dim", "light")}, "class 'dim' is new"),
    "swapped": ({"classes": ("light", "dark")}, "another order"),
    "other pixels": ({"seed": 1}, "the images of train differ"),
    "fewer": ({"num": 20}, "train has 32 images, it had 48"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_every_use_of_other_data_is_refused_in_one_line(
    kind, trained, tmp_path
):
    changes, words = OTHERS[kind]
    workdir, _ = trained
    system = _open(workdir, _keep(tmp_path / "data", **changes))
    before = system.tasks[NAME]
    for use in (
        lambda: system.evolve(NAME),
        system.evaluate,
        lambda: system.data(NAME),
        lambda: system.export(tmp_path / "served"),
    ):
        with pytest.raises(errors.DataError, match=words) as caught:
            use()
        assert f"task '{NAME}' was trained on other data" in str(caught.value)
    assert not (tmp_path / "served").exists()
    assert system.tasks[NAME] == before


def test_continuing_an_experiment_on_other_data_is_refused(trained, tmp_path):
    workdir, _ = trained
    data_dir = _keep(tmp_path / "data", classes=("dim", "light"))
    more = _settings(data_dir, num_task_iters=2)
    with pytest.raises(errors.DataError, match="'dim' is new"):
        keras_munet.System.create_or_open(workdir, more)


def test_the_record_tells_what_the_task_was_trained_on(trained):
    workdir, data_dir = trained
    system = _open(workdir, data_dir)
    names, fingerprint = tasks_lib.prepared_fingerprint(NAME, data_dir=data_dir)
    assert system.tasks[NAME].class_names == names
    assert system.tasks[NAME].data == fingerprint
    assert system.check() == []


def test_a_system_without_a_fingerprint_gets_one_and_says_so(tmp_path):
    data_dir = _keep(tmp_path / "data")
    system = keras_munet.System.create(tmp_path / "w", _settings(data_dir))
    system.run()
    directory = system_dir.SystemDir.open(tmp_path / "w")
    state = dataclasses.replace(directory.tasks()[NAME], data=None)
    with directory.lease(NAME):
        directory.publish(state)
    other = _open(tmp_path / "w", _keep(tmp_path / "o", ("dim", "light")))
    # The classes were recorded ever since.
    with pytest.raises(errors.DataError, match="'dim' is new"):
        other.evaluate()
    lines = []
    progress = keras_munet.Progress(quiet=True)
    progress.line = lines.append
    system = _open(tmp_path / "w", data_dir)
    system.evolve(NAME, progress=progress)
    assert "its record has no fingerprint of its data" in lines[0]
    assert system.tasks[NAME].data is not None
    lines.clear()
    system.evolve(NAME, progress=progress)
    assert not any("fingerprint" in line for line in lines)


def test_an_iteration_that_was_begun_on_other_data_is_not_continued(tmp_path):
    data_dir = _keep(tmp_path / "data")
    system = keras_munet.System.create(tmp_path / "w", _settings(data_dir))
    progress = keras_munet.Progress(quiet=True)

    def stop(**_):
        raise KeyboardInterrupt

    progress.end_generation = stop
    with pytest.raises(KeyboardInterrupt):
        system.run(progress=progress)
    other = _open(tmp_path / "w", _keep(tmp_path / "o", seed=3))
    with pytest.raises(errors.DataError, match="images of train differ"):
        other.run()
    # What the message advises.
    other.remove(NAME)
    other.run()
    assert other.tasks[NAME].data == other._runner._loader.fingerprints[NAME]
    with pytest.raises(errors.UsageError):
        other.remove("own/nothing")


def test_images_of_one_large_task_are_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(task_data, "_NUM_SMALL_BYTES_MAX", 60 * 64 + 1)
    names = [f"own/t{i}" for i in range(4)]
    for i, name in enumerate(names):
        _keep(tmp_path, name=name, seed=i, num=30 if i < 2 else 90)
    loader = task_data.TaskDataLoader(_settings(str(tmp_path)))
    images = []
    load = tasks_lib.load

    def spied(*args, **options):
        data = load(*args, **options)
        images.append(weakref.ref(data.train.images))
        return data

    monkeypatch.setattr(tasks_lib, "load", spied)
    loader.check(names)
    gc.collect()
    assert len(images) == 4
    # In the order t1, t2, t3, t0: large ones are gone.
    assert [i() is not None for i in images] == [True, False, False, True]
    loader.load(names[0])
    loader.check(names)
    assert len(images) == 4
    loader.load(names[3])
    gc.collect()
    # Only one of the small ones is small enough to stay.
    assert [i() is not None for i in images] == [
        False,
        False,
        False,
        True,
        True,
    ]


@pytest.fixture
def collected():
    """Few objects, so that each of many collections takes milliseconds."""
    # They stay frozen, as those do that `conftest` freezes.
    gc.collect()
    gc.freeze()


def _spied(monkeypatch):
    """Returns the live image bytes after each load, and the names in order."""
    images, peaks, loaded_names = [], [], []
    load = tasks_lib.load

    def spied(name, *args, **options):
        data = load(name, *args, **options)
        loaded_names.append(name)
        images.extend(
            weakref.ref(split.images)
            for split in (data.train, data.validation, data.test)
        )
        gc.collect()
        alive = [ref() for ref in images]
        peaks.append(sum(a.nbytes for a in alive if a is not None))
        return data

    monkeypatch.setattr(tasks_lib, "load", spied)
    return peaks, loaded_names


@pytest.mark.usefixtures("collected")
def test_a_config_of_all_tasks_begins_with_the_memory_of_the_largest(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(task_data, "_NUM_SMALL_BYTES_MAX", 0)
    names = [f"own/t{i}" for i in range(69)]
    for i, name in enumerate(names):
        _keep(tmp_path, name=name, seed=i, num=200 if i == 40 else 20 + i % 7)
    peaks, loaded_names = _spied(monkeypatch)
    keras_munet.System.create(
        tmp_path / "w", _settings(str(tmp_path), task_names=names)
    )
    assert sorted(loaded_names) == sorted(names)
    assert max(peaks) == 2 * 200 * 64


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize(
    ("nums", "is_prefetched"),
    [
        # The third task is as large as the first two together.
        ((30, 30, 60), True),
        ((30, 30, 59), False),
        ((60, 10, 10), False),
    ],
)
def test_the_next_task_is_loaded_early_if_the_largest_leaves_room(
    tmp_path, monkeypatch, nums, is_prefetched
):
    monkeypatch.setattr(task_data, "_NUM_SMALL_BYTES_MAX", 0)
    names = [f"own/t{i}" for i in range(3)]
    for i, name in enumerate(names):
        _keep(tmp_path, name=name, seed=i, num=nums[i])
    peaks, loaded_names = _spied(monkeypatch)
    loader = task_data.TaskDataLoader(_settings(str(tmp_path)))
    loader.check(names)
    loader.load(names[0])
    del loaded_names[:]
    loader.prefetch(names[1])
    loader.prefetch(names[1])
    if is_prefetched:
        loader._prefetched[1].result(60)
    assert loaded_names == [names[1]] * is_prefetched
    data = loader.load(names[1])
    assert data.name == names[1] and loaded_names == [names[1]]
    assert max(peaks) == 2 * max(nums) * 64
    # One that was prefetched in vain is freed.
    del data
    loader.prefetch(names[0])
    assert loader.load(names[2]).name == names[2]
    gc.collect()
    assert loader.load(names[2]) is loader.load(names[2])
    assert max(peaks) == 2 * max(nums) * 64


def test_an_error_of_a_task_comes_when_its_turn_comes(tmp_path, monkeypatch):
    names = ["own/t0", "own/t1"]
    for name in names:
        _keep(tmp_path, name=name)
    loader = task_data.TaskDataLoader(_settings(str(tmp_path)))
    loader.check(names)
    loader._loaded.pop(names[1])
    load = tasks_lib.load

    def damaged(name, *args, **options):
        if name == names[1]:
            raise errors.DataError("t1 is damaged")
        return load(name, *args, **options)

    monkeypatch.setattr(tasks_lib, "load", damaged)
    loader.load(names[0])
    loader.prefetch(names[1])
    assert loader.load(names[0]).name == names[0]
    with pytest.raises(errors.DataError, match="t1 is damaged"):
        loader.load(names[1])


def test_a_run_prefetches_the_task_whose_turn_is_next(tmp_path, monkeypatch):
    names = ["own/t0", "own/t1"]
    for i, name in enumerate(names):
        _keep(tmp_path, name=name, seed=i)
    prefetched = []
    monkeypatch.setattr(
        task_data.TaskDataLoader,
        "prefetch",
        lambda self, name: prefetched.append(name),
    )
    settings = _settings(str(tmp_path), task_names=names, num_task_iters=2)
    keras_munet.System.create(tmp_path / "w", settings).run()
    assert prefetched == ["own/t1", "own/t0", "own/t1"]


def test_creating_a_system_names_the_task_whose_data_are_missing(tmp_path):
    data_dir = _keep(tmp_path / "data")
    settings = _settings(data_dir, task_names=[NAME, "own/nothing"])
    with pytest.raises(errors.DataError, match="'own/nothing' is not prepared"):
        keras_munet.System.create(tmp_path / "w", settings)
    assert not (tmp_path / "w").exists()
