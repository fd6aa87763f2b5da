"""How seconds of training are divided into kinds of work."""

from __future__ import annotations

import contextlib
import threading
import time

import hypothesis
import pytest
import training_samples
from hypothesis import strategies as st

from keras_munet.train import batches
from keras_munet.train import timing
from keras_munet.train.layerwise import layer_functions

_KINDS = ("train", "validate", "input", "fill", "compile")


@pytest.fixture
def now(monkeypatch):
    """A clock that a test turns: `now[0]`, seconds."""
    secs = [100.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: secs[0])
    return secs


def _wait(now, secs):
    now[0] += secs
    return secs


def test_seconds_within_others_are_counted_once(now):
    clock = timing.Clock()
    with clock.measure("train"):
        _wait(now, 1.0)
        with clock.measure("input"):
            _wait(now, 2.0)
        _wait(now, 4.0)
    assert clock == {"train_secs": 5.0, "input_secs": 2.0}


def test_seconds_before_an_error_are_counted(now):
    clock = timing.Clock()
    with pytest.raises(ValueError), clock.measure("train"):
        _wait(now, 3.0)
        raise ValueError
    assert clock == {"train_secs": 3.0}


def test_what_a_first_call_takes_longer_is_compiling(now):
    clock = timing.Clock()
    calls = timing.Calls(clock, "train")
    with clock.measure("train"):
        for secs in (9.0, 2.0, 4.0):
            assert calls(_wait, now, secs) == secs
        calls.end()
    assert clock == {"train_secs": 9.0, "compile_secs": 6.0}


@pytest.mark.parametrize("secs", [[1.0, 2.0], [5.0], []])
def test_a_first_call_that_is_no_longer_or_alone_compiles_nothing(now, secs):
    clock = timing.Clock()
    calls = timing.Calls(clock, "validate")
    for each in secs:
        calls(_wait, now, each)
    calls.end()
    assert clock["compile_secs"] == 0.0
    assert clock["validate_secs"] == sum(secs)


def test_a_wait_for_input_is_one_though_threads_compile(now):
    clock, compiled = timing.Clock(), [7.0]
    with clock.measure("train"), clock.compiling(lambda: compiled[0]):
        with clock.measure("input"):
            _wait(now, 16.0)
            compiled[0] += 16.0
        _wait(now, 2.0)
        compiled[0] += 0.5
    assert clock == {
        "input_secs": 16.0,
        "train_secs": 1.5,
        "compile_secs": 0.5,
    }


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 50), st.floats(0, 60)),
        st.tuples(st.just("open"), st.sampled_from(_KINDS)),
        st.tuples(st.just("close")),
        st.tuples(st.just("call"), st.floats(0, 50)),
        st.tuples(st.just("threads")),
        st.tuples(st.just("end")),
    ),
    max_size=40,
)


@hypothesis.given(_STEPS)
@hypothesis.settings(max_examples=300, deadline=None)
def test_no_entry_is_negative_and_all_are_the_time_within(steps):
    secs, compiled, within = [100.0], [0.0], 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing.time, "perf_counter", lambda: secs[0])
        clock = timing.Clock()
        calls = timing.Calls(clock, "train")
        blocks, threads = [], contextlib.ExitStack()
        for name, *args in steps:
            if name == "wait":
                # Threads may say to have compiled for longer than was waited.
                within += args[0] if blocks else 0.0
                secs[0] += args[0]
                compiled[0] += args[1]
            elif name == "call":
                within += args[0]
                calls(_wait, secs, args[0])
            elif name == "open":
                blocks.append(contextlib.ExitStack())
                blocks[-1].enter_context(clock.measure(*args))
            elif name == "close" and blocks:
                blocks.pop().close()
            elif name == "threads":
                threads.close()
                threads.enter_context(clock.compiling(lambda: compiled[0]))
            elif name == "end":
                calls.end()
        while blocks:
            blocks.pop().close()
        threads.close()
    assert all(value >= 0 for value in clock.values())
    assert sum(clock.values()) == pytest.approx(within, abs=1e-6)
    assert sum(clock.values()) <= secs[0] - 100.0 + 1e-6


def test_threads_that_compile_at_one_time_count_once():
    functions, clock = layer_functions.LayerFunctions(), timing.Clock()

    def compile_for(secs):
        with functions._compiling():
            time.sleep(secs)

    started = time.perf_counter()
    with clock.measure("train"), clock.compiling(functions.compile_secs):
        threads = [
            threading.Thread(target=compile_for, args=[secs])
            for secs in (0.05, 0.1, 0.1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    wall = time.perf_counter() - started
    assert 0.08 <= clock["compile_secs"] <= wall
    assert clock["train_secs"] >= 0
    assert sum(clock.values()) <= wall


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_a_generation_that_waits_for_input_has_no_negative_entry(
    strategy, monkeypatch
):
    monkeypatch.setattr(batches, "num_prefetched", lambda *_: 1)
    inputs = batches.training_batch

    def slow(*args):
        # As long as the first step compiles, and more.
        time.sleep(0.3)
        return inputs(*args)

    monkeypatch.setattr(batches, "training_batch", slow)
    trainer = training_samples.trainer(strategy)
    started = time.perf_counter()
    training_samples.train([training_samples.job(0, 1)], trainer)
    wall = time.perf_counter() - started
    assert trainer.clock["input_secs"] > 0
    assert min(trainer.clock.values()) >= 0
    assert sum(trainer.clock.values()) <= wall
