"""A run ends in the same population wherever its children train."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from keras_munet.system import system

_TESTS = pathlib.Path(__file__).resolve().parent
_SECS_MAX = 400
_ATOL = 2e-3


def _start(workdir, num_devices, strategy, placement="auto", **env):
    return subprocess.Popen(
        [
            *(sys.executable, "placed_run.py", str(workdir)),
            *(str(num_devices), strategy, placement),
        ],
        cwd=_TESTS,
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


def _assert_same(first, second) -> None:
    """Asserts that two runs chose the same paths, with close values."""
    left, right = system.System.open(first), system.System.open(second)
    assert left.tasks.keys() == right.tasks.keys()
    for name, state in left.tasks.items():
        one, other = state.published, right.tasks[name].published
        assert one.born == other.born
        assert one.hparams == other.hparams
        assert one.metrics["quality"] == other.metrics["quality"]
        for mine, theirs in zip(one.components, other.components, strict=True):
            assert mine.spec_id == theirs.spec_id
            component = left._dir.objects.get(mine)
            for key, value in component.weights.items():
                np.testing.assert_allclose(
                    right._dir.objects.get(theirs).weights[key],
                    value,
                    atol=_ATOL,
                    err_msg=f"{name}/{mine.name}/{key}",
                )
    assert right.check() == []
    assert _children(first) == _children(second)


def _children(workdir):
    """Returns what every child of a run was and whether it improved."""
    lines = (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [
        (child["index"], child["hparams"], child["trained"], child["improved"])
        for event in found
        if event["event"] == "generation"
        for child in event["children"]
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_devices", "strategy", "placement", "trainer"),
    [
        (4, "mirrored", "fused", "Trainer"),
        (8, "mirrored", "auto", "Trainer"),
        (4, "mirrored", "sliced", "SlicedTrainer"),
        (2, "mirrored", "sliced", "SlicedTrainer"),
    ],
)
def test_a_run_on_logical_devices_equals_one_device(
    alone, tmp_path, num_devices, strategy, placement, trainer
):
    workdir = tmp_path / "system"
    out = _end(_start(workdir, num_devices, strategy, placement))
    assert out.split()[0] == trainer
    _assert_same(alone, workdir)


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
    _assert_same(alone, workdir)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
