"""A run ends in the same population wherever its children train."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys

import placed_run
import pytest

_HELPERS = pathlib.Path(__file__).resolve().parents[2] / "helpers"
_SECS_MAX = 400


def _start(workdir, num_devices, strategy, engine="auto", **env):
    return subprocess.Popen(
        [
            *(sys.executable, "placed_run.py", str(workdir)),
            *(str(num_devices), strategy, engine),
        ],
        cwd=_HELPERS,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _end(process) -> str:
    out, err = process.communicate(timeout=_SECS_MAX)
    assert process.returncode == 0, err[-3000:]
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The directory of a run on one device."""
    workdir = tmp_path_factory.mktemp("placed") / "alone"
    _end(_start(workdir, 1, "one_device"))
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_devices", "strategy"),
    [(4, "mirrored"), (8, "mirrored"), (3, "mirrored"), (1, "one_device")],
)
def test_a_run_on_logical_devices_equals_one_device(
    alone, tmp_path, num_devices, strategy
):
    workdir = tmp_path / "system"
    out = _end(_start(workdir, num_devices, strategy, "program"))
    assert out.split()[0] == "program"
    placed_run.assert_same(alone, workdir)


@pytest.mark.slow
def test_two_workers_end_in_the_population_of_one_device(alone, tmp_path):
    workdir = tmp_path / "system"
    ports = [_free_port() for _ in range(2)]
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    processes = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": cluster, "task": task})
        processes.append(_start(workdir, 1, "multi_worker", TF_CONFIG=config))
    chief, other = (_end(process).splitlines() for process in processes)
    assert chief[0].split()[1] == "True"
    assert other[0].split()[1] == "False"
    # Both know what was measured; one has written.
    assert chief[1] == other[1]
    placed_run.assert_same(alone, workdir)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
