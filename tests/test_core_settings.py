"""Settings survive the file they are kept in."""

from __future__ import annotations

import dataclasses
import json

import pytest

from keras_munet import errors
from keras_munet.core import settings as settings_lib


def test_settings_round_trip_through_json():
    settings = settings_lib.Settings.from_dict(
        {
            "task_names": ["a", "private:b"],
            "root": {"variant": "B/16"},
            "ranges": {"num_layers": [0, 1]},
        }
    )
    saved = json.loads(json.dumps(settings.to_json()))
    again = settings_lib.Settings.from_dict(saved)
    assert dataclasses.replace(again, data=settings.data) == settings


def _numbers():
    """Yields (dotted key, kind) of every number of the settings."""
    groups = {
        "": settings_lib.Settings,
        "search.": settings_lib.SearchSettings,
        "root.": settings_lib.RootSettings,
        "data.": settings_lib.DataSettings,
    }
    for prefix, group in groups.items():
        for field in dataclasses.fields(group):
            if field.type in ("int", "float"):
                yield prefix + field.name, field.type


def _nested(key, value):
    group, _, name = key.rpartition(".")
    return {group: {name: value}} if group else {name: value}


def test_every_number_has_bounds():
    assert {key for key, _ in _numbers()} == set(settings_lib.BOUNDS)
    numbers = {
        key
        for key, value in settings_lib.DEFAULT_HPARAMS.items()
        if type(value) in (int, float)
    }
    assert numbers | set(settings_lib.ROOT_HPARAMS) == set(
        settings_lib.HPARAM_BOUNDS
    )


@pytest.mark.parametrize(("key", "kind"), list(_numbers()))
def test_a_number_out_of_bounds_is_refused_by_every_door(key, kind):
    low, high = settings_lib.BOUNDS[key]
    wrong = [2**200, -(2**200), "1", True, None, [1], high + 1, low - 1]
    if kind == "float":
        wrong = [*wrong, float("nan"), float("inf"), -1e300]
    groups = {
        "": settings_lib.Settings,
        "search": settings_lib.SearchSettings,
        "root": settings_lib.RootSettings,
    }
    group, _, name = key.rpartition(".")
    for value in wrong:
        for door in (
            lambda value=value: groups[group](**{name: value}),
            lambda value=value: settings_lib.Settings.from_dict(
                _nested(key, value)
            ),
        ):
            with pytest.raises(errors.UsageError, match=name) as refused:
                door()
            assert "\n" not in str(refused.value)
    for value in {high, max(low, 1) if kind == "int" else high}:
        settings_lib.Settings.from_dict(_nested(key, value))


@pytest.mark.parametrize(
    ("hparams", "ranges"),
    [
        ({"adapter_dim": 2**40}, {}),
        ({"opt_lr": 1e9}, {}),
        ({"mu": "0.1"}, {}),
        ({}, {"num_layers": (0, 10**9)}),
        ({}, {"ds_image_size": (2**40,)}),
        ({}, {"adapter_dim": tuple(range(1, 2_000))}),
        ({}, {"mu": 0.1}),
    ],
)
def test_hyperparameters_are_bounded_by_every_door(hparams, ranges):
    with pytest.raises(errors.UsageError, match=r"hparams\.|ranges\."):
        settings_lib.Settings.from_dict({"hparams": hparams, "ranges": ranges})
    with pytest.raises(errors.UsageError, match=r"hparams\.|ranges\."):
        settings_lib.Settings(hparams=hparams, ranges=ranges)
