"""Presets fill the numbers that a config leaves open, and no others."""

from __future__ import annotations

import doctest
import json

import pytest
import system_samples as samples

import keras_munet
from keras_munet import errors
from keras_munet.core import presets
from keras_munet.core import settings as settings_lib

_OPEN = dict.fromkeys(settings_lib.PRESET_KEYS, 0)


def _sizes(num_train, num_classes=10):
    return {"own/a": presets.DataSize(num_train, num_train // 8, num_classes)}


def test_the_example_runs():
    assert doctest.testmod(presets).attempted > 0
    assert doctest.testmod(presets).failed == 0


@pytest.mark.parametrize(
    ("num_train", "num_classes", "chosen"),
    [
        (100, 2, "small"),
        (60_000, 100, "small"),
        (60_001, 2, "medium"),
        (2_000, 101, "medium"),
        (500_001, 10, "large"),
        (50_000, 1_001, "large"),
    ],
)
def test_auto_follows_the_images_and_classes(num_train, num_classes, chosen):
    settings = settings_lib.Settings(preset="auto", **_OPEN)
    filled = presets.resolve_preset(settings, _sizes(num_train, num_classes))
    assert filled.preset == chosen
    assert all(getattr(filled, key) > 0 for key in _OPEN)
    # The largest task decides.
    both = {**_sizes(10), "b": presets.DataSize(num_train, 9, num_classes)}
    assert presets.resolve_preset(settings, both).preset == chosen


def test_a_larger_preset_trains_longer():
    size = presets.DataSize(100_000, 10_000, 10)
    secs = [
        presets.expected_secs(
            presets.resolve_preset(
                settings_lib.Settings(preset=name, **_OPEN), {}
            ),
            size,
            2_572_928,
        )
        for name in ("small", "medium", "large")
    ]
    assert secs[0] < secs[1] / 2 < secs[2] / 4


def test_numbers_that_are_given_are_kept():
    settings = settings_lib.Settings(
        preset="small", **{**_OPEN, "num_samples_per_task": 7}
    )
    filled = presets.resolve_preset(settings, {})
    assert filled.num_samples_per_task == 7
    assert filled.num_validations_per_path_training == 32
    published = settings_lib.Settings()
    assert presets.resolve_preset(published, _sizes(10)) is published


@pytest.mark.parametrize("num_tasks, num_cycles", [(1, 32), (2, 34), (8, 36)])
def test_several_tasks_train_for_the_starts_that_they_save(
    num_tasks, num_cycles
):
    (size,) = _sizes(900).values()
    sizes = {f"own/{number}": size for number in range(num_tasks)}
    small = settings_lib.Settings(preset="auto", **_OPEN)
    filled = presets.resolve_preset(small, sizes)
    assert filled.num_validations_per_path_training == num_cycles
    # A dry run has no data, and counts the same.
    named = settings_lib.Settings(
        preset="small", task_names=tuple(sizes), **_OPEN
    )
    filled = presets.resolve_preset(named, {})
    assert filled.num_validations_per_path_training == num_cycles
    large = settings_lib.Settings(preset="large", **_OPEN)
    filled = presets.resolve_preset(large, sizes)
    assert filled.num_validations_per_path_training == 64


@pytest.mark.parametrize("key", settings_lib.PRESET_KEYS)
def test_no_number_is_open_without_a_preset(key):
    for door in (
        lambda: settings_lib.Settings(**{key: 0}),
        lambda: settings_lib.Settings.from_dict({key: 0}),
    ):
        with pytest.raises(errors.UsageError, match=f"{key}.*preset"):
            door()
    with pytest.raises(errors.UsageError, match="preset"):
        settings_lib.Settings(preset="tiny")


def test_a_system_keeps_what_its_preset_filled():
    settings = settings_lib.Settings(preset="auto", **_OPEN)
    experiment = presets.resolve_preset(settings, _sizes(90_000)).to_json()
    again = presets.recorded_settings(settings, experiment)
    assert again.to_json() == experiment
    # Another preset is another experiment, of which the difference is told.
    other = settings_lib.Settings(preset="small", **_OPEN)
    assert presets.recorded_settings(other, experiment).preset == "small"


def test_a_system_is_created_and_continued_with_a_preset(tmp_path, capsys):
    changes = {
        **_OPEN,
        "preset": "auto",
        "num_validations_per_path_training": 1,
        "task_names": ["digits"],
        "num_task_iters": 1,
    }
    settings = samples.settings(**changes)
    system = keras_munet.System.create_or_open(tmp_path / "s", settings)
    assert system.settings.preset == "small"
    assert system.settings.num_samples_per_task == 1
    progress = keras_munet.Progress(tmp_path / "s")
    assert system.run(progress=progress)
    assert "preset small: 1 trained child" in capsys.readouterr().out
    again = keras_munet.System.create_or_open(tmp_path / "s", settings)
    assert again.settings == system.settings
    assert not again.run()
    with pytest.raises(errors.UsageError, match=r"preset is .small., not"):
        keras_munet.System.create_or_open(
            tmp_path / "s", samples.settings(**{**changes, "preset": "large"})
        )


def test_a_job_tells_which_generations_it_spares(tmp_path, capsys):
    settings = samples.settings(
        task_names=["digits"],
        num_task_iters=1,
        num_samples_per_task=4,
        children_per_generation=1,
        hparams={"opt_lr": 0.0001, "ds_crop": False},
        search={"stop_patience": 1, "probe_child": True},
    )
    system = keras_munet.System.create(tmp_path / "s", settings)
    system.run(progress=keras_munet.Progress(tmp_path / "s"))
    assert "ends early: no better score in 1 gen" in capsys.readouterr().out
    (ended,) = (
        event
        for line in (tmp_path / "s" / "metrics.jsonl").read_text().splitlines()
        if (event := json.loads(line))["event"] == "ended_early"
    )
    assert ended["num_generations_spared"] == 2
    assert ended["secs_spared"] > 0
