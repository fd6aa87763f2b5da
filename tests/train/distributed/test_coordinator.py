"""Children on the workers of a cluster: the same results, whoever dies."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import coordinator_samples
import numpy as np
import psutil
import pytest
import system_samples
import training_samples as samples

from keras_munet import errors
from keras_munet.core import devices
from keras_munet.train.devices import cluster

_TESTS = pathlib.Path(__file__).resolve().parents[2]
_WORKER = _TESTS.parent / "launch" / "worker.py"
# Both sides of a comparison run with as many threads: sums depend on it.
_ENV = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
_SECS_MAX = 240


@pytest.fixture(scope="module")
def here():
    """A trainer whose only worker is this process."""
    return coordinator_samples.trainer()


def test_a_child_that_is_sent_away_becomes_what_it_would_here(here):
    children = [
        samples.job(0, 1, ("embedding", "encoderblock_0")),
        samples.job(1, 0, hparams={"opt_lr": 0.01, "opt_nesterov": True}),
        samples.job(2, 0, size_factor=0.9, score_to_beat=0.2),
    ]
    alone = [samples.train([child])[0] for child in children]
    away = samples.train(children, here)
    for one, other in zip(alone, away, strict=True):
        assert one.scores == other.scores
        np.testing.assert_allclose(one.losses, other.losses, atol=1e-5)
        assert (one.index, one.quality) == (other.index, other.quality)
        assert one.components.keys() == other.components.keys()
        for name, component in one.components.items():
            again = other.components[name]
            assert (component.momentum is None) == (again.momentum is None)
        samples.assert_close(one, other, atol=1e-5)


def test_a_child_that_is_sent_twice_comes_out_with_the_same_bits(here):
    child = samples.job(3, 1, hparams={"opt_name": "adamw", "opt_lr": 1e-3})
    (first,), (second,) = (samples.train([child], here) for _ in range(2))
    assert first.losses == second.losses
    samples.assert_close(first, second, atol=0.0)
    (alone,) = samples.train([child])
    samples.assert_close(first, alone, atol=1e-5)


def test_a_child_below_what_it_must_beat_leaves_nothing(here):
    (child,) = samples.train([samples.job(0, 0, score_to_beat=2.0)], here)
    assert child.quality is None
    assert not child.components
    assert len(child.scores) == 2


@pytest.mark.parametrize("text", ["", "host", "host:0", ":1", "a:1,a:1"])
def test_workers_that_are_none_are_refused(text):
    with pytest.raises(errors.UsageError):
        cluster.parse_workers(text)


def test_workers_choose_the_strategy_and_exclude_others():
    assert devices.Devices(workers="a:1").strategy == "coordinator"
    with pytest.raises(errors.UsageError, match="workers"):
        devices.Devices("mirrored", workers="a:1")
    with pytest.raises(errors.UsageError, match="workers"):
        devices.Devices("coordinator")


def test_a_worker_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "_CONNECT_SECS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(errors.UsageError, match=f"127.0.0.1:{port}"):
        cluster.connect_coordinator((f"127.0.0.1:{port}",))


@contextlib.contextmanager
def _workers(*flags: str):
    """Two workers; yields their addresses and processes."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
    started = [
        subprocess.Popen(
            [
                *(sys.executable, str(_WORKER), f"--workers={addresses}"),
                *(f"--index={index}", *flags),
            ],
            env=_ENV,
            stdout=subprocess.DEVNULL,
        )
        for index in range(2)
    ]
    try:
        yield addresses, [psutil.Process(worker.pid) for worker in started]
    finally:
        for worker in started:
            worker.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(5)
            worker.kill()
            worker.wait()


def _evolve(workdir: pathlib.Path, workers: str = "") -> subprocess.Popen:
    program = str(_TESTS / "helpers" / "coordinator_process.py")
    return subprocess.Popen(
        [sys.executable, program, str(workdir), *filter(None, [workers])],
        env=_ENV,
        stdout=subprocess.PIPE,
        text=True,
    )


def _wait_until_busy(worker: psutil.Process) -> psutil.Process:
    """Returns the serving process, in the middle of a child."""
    deadline = time.monotonic() + _SECS_MAX
    used: dict[int, float] = {}
    while time.monotonic() < deadline:
        for process in [worker, *worker.children()]:
            times = process.cpu_times()
            secs = times.user + times.system
            if used and secs - used.get(process.pid, secs) > 0.04:
                return process
            used[process.pid] = secs
        time.sleep(0.05)
    raise AssertionError("no child reached the worker")


def _read_until(job: subprocess.Popen, text: str) -> None:
    assert job.stdout is not None
    for line in job.stdout:
        if text in line:
            return
    raise AssertionError(f"the job ended before {text!r}")


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory):
    """What the experiment ends in without any cluster."""
    workdir = tmp_path_factory.mktemp("alone") / "system"
    job = _evolve(workdir)
    job.communicate(timeout=_SECS_MAX)
    assert job.returncode == 0
    return _population(workdir)


def _population(workdir: pathlib.Path) -> dict[str, str]:
    """Everything that was published and stored, byte for byte."""
    return {
        name: digest
        for name, digest in system_samples.digests(workdir).items()
        if name.startswith(("objects", "tasks", "system.json"))
    }


@pytest.mark.slow
def test_workers_that_are_killed_and_stand_still_change_nothing(
    on_one_device, tmp_path
):
    with _workers("--silent_secs=3") as (addresses, (first, second)):
        job = _evolve(tmp_path / "system", addresses)
        _read_until(job, "generation 1/2")
        # Its watcher begins it again.
        _wait_until_busy(first).send_signal(signal.SIGKILL)
        _read_until(job, "round 2/2")
        # It keeps its connection and never answers, until it is killed.
        _wait_until_busy(second).send_signal(signal.SIGSTOP)
        job.communicate(timeout=_SECS_MAX)
    assert job.returncode == 0
    assert _population(tmp_path / "system") == on_one_device


@pytest.mark.slow
def test_a_worker_that_never_returns_changes_nothing(on_one_device, tmp_path):
    with _workers("--serve") as (addresses, (first, _)):
        job = _evolve(tmp_path / "system", addresses)
        _read_until(job, "generation 1/2")
        _wait_until_busy(first).send_signal(signal.SIGKILL)
        job.communicate(timeout=_SECS_MAX)
    assert job.returncode == 0
    assert _population(tmp_path / "system") == on_one_device
