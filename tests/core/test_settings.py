"""Settings survive the file they are kept in."""

from __future__ import annotations

import dataclasses
import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.core.settings import Settings


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
            if field.type in ("int", "float", "float | None"):
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
    if kind.endswith("None"):
        wrong.remove(None)
    if kind != "int":
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


_WRONG = st.one_of(
    st.none(),
    st.just("many"),
    st.just(b"bytes"),
    st.just(float("nan")),
    st.just(float("inf")),
    st.just(10**400),
    st.just(object()),
    st.just([1, None]),
    st.just({"a": 1}),
    st.just([["nested"]]),
    st.just(np.array([1.0, 2.0])),
    st.just(np.float64("nan")),
    st.just(1j),
    st.just(Settings),
)


def _kinds(value):
    """What a field takes; a value of its kind is not wrong."""
    if value is None:
        return (type(None),)
    return (str,) if isinstance(value, str) else ()


def _is_weights(value):
    return isinstance(value, dict) and all(
        isinstance(k, str) and type(v) in (int, float) for k, v in value.items()
    )


def _leaves():
    settings = Settings()
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name in ("search", "root", "data"):
            for inner in dataclasses.fields(value):
                yield (field.name, inner.name), getattr(value, inner.name)
        elif field.name == "hparams":
            for key, first in value.items():
                yield (field.name, key), first
        elif field.name == "ranges":
            yield (field.name, "opt_lr"), ()
        else:
            yield (field.name,), value


def _at(path, value):
    for key in reversed(path):
        value = {key: value}
    return value


@pytest.mark.parametrize(("path", "default"), list(_leaves()), ids=str)
@hypothesis.given(wrong=_WRONG)
@hypothesis.settings(deadline=None, max_examples=30)
def test_every_door_refuses_the_same_wrong_values(path, default, wrong):
    hypothesis.assume(not isinstance(wrong, _kinds(default)))
    # Any mapping of names to weights is right there.
    hypothesis.assume(path[-1] != "class_weights" or not _is_weights(wrong))
    told = []
    for door in (
        Settings.from_dict,
        lambda value: Settings(**value),
        lambda value: dataclasses.replace(Settings(), **value),
    ):
        try:
            door(_at(path, wrong))
        except errors.UsageError as error:
            assert "\n" not in str(error)
            told.append(str(error))
    assert len(told) == 3 and len(set(told)) == 1, told


@pytest.mark.parametrize(
    "value",
    [
        {"hparams": {"mu": 0.3}},
        {"hparams": {"mu": np.float32(0.5), "opt_lr": 1}},
        {"task_names": ["digits"], "search": {"mutations": ["a"]}},
        {"ranges": {"num_layers": [0, np.int64(2)]}},
        {"root": {"num_layers": np.int8(2)}, "data": {"antialias": False}},
        {"search": {"force_finetune_components": []}},
    ],
)
def test_the_constructor_normalizes_as_from_dict_does(value):
    made = Settings(**value)
    assert made == Settings.from_dict(value)
    json.dumps(made.to_json())
    assert set(made.hparams) == set(Settings().hparams)
    assert all(type(steps) is tuple for steps in made.ranges.values())


@pytest.mark.parametrize(
    "value",
    [
        {"hparams": {"muu": 0.3}},
        {"ranges": {"opt_lrr": [1.0]}},
        {"search": {"versoin": "munet"}},
        {"root": 3},
        {"data": ["folder"]},
        {"hparams": [("mu", 0.3)]},
    ],
)
def test_the_constructor_refuses_unknown_keys_too(value):
    with pytest.raises(errors.UsageError) as by_constructor:
        Settings(**value)
    with pytest.raises(errors.UsageError) as by_dict:
        Settings.from_dict(value)
    assert str(by_constructor.value) == str(by_dict.value)
