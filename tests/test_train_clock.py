"""How seconds of training are divided into kinds of work."""

from __future__ import annotations

import collections

import pytest

from keras_munet.train import clock as clock_lib


@pytest.fixture
def now(monkeypatch):
    """A clock that a test turns: `now[0]`, seconds."""
    secs = [100.0]
    monkeypatch.setattr(clock_lib.time, "perf_counter", lambda: secs[0])
    return secs


def _wait(now, secs):
    now[0] += secs
    return secs


def test_seconds_within_others_are_counted_once(now):
    clock = collections.defaultdict(float)
    with clock_lib.spent(clock, "train"):
        _wait(now, 1.0)
        with clock_lib.spent(clock, "input"):
            _wait(now, 2.0)
        _wait(now, 4.0)
    assert clock == {"train_secs": 5.0, "input_secs": 2.0}


def test_seconds_before_an_error_are_counted(now):
    clock = collections.defaultdict(float)
    with pytest.raises(ValueError), clock_lib.spent(clock, "train"):
        _wait(now, 3.0)
        raise ValueError
    assert clock == {"train_secs": 3.0}


def test_what_a_first_call_takes_longer_is_compiling(now):
    clock = collections.defaultdict(float)
    calls = clock_lib.Calls(clock, "train")
    for secs in (9.0, 2.0, 4.0):
        assert calls(_wait, now, secs) == secs
    calls.end()
    assert clock == {"train_secs": 9.0, "compile_secs": 6.0}


@pytest.mark.parametrize("secs", [[1.0, 2.0], [5.0], []])
def test_a_first_call_that_is_no_longer_or_alone_compiles_nothing(now, secs):
    clock = collections.defaultdict(float)
    calls = clock_lib.Calls(clock, "validate")
    for each in secs:
        calls(_wait, now, each)
    calls.end()
    assert clock.get("compile_secs", 0.0) == 0.0
    assert clock.get("validate_secs", 0.0) == sum(secs)
