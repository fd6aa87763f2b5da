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


def test_creating_a_system_names_the_task_whose_data_are_missing(tmp_path):
    data_dir = _keep(tmp_path / "data")
    settings = _settings(data_dir, task_names=[NAME, "own/nothing"])
    with pytest.raises(errors.DataError, match="'own/nothing' is not prepared"):
        keras_munet.System.create(tmp_path / "w", settings)
    assert not (tmp_path / "w").exists()
