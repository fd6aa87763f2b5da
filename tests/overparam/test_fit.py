"""A whole training: kept, killed, resumed, refused, on several workers."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import overparam_samples as samples
import pytest

from keras_munet import errors
from keras_munet.overparam import checkpoints
from keras_munet.overparam import fit
from keras_munet.store import tensors

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_RUN = (
    "import sys, keras\n"
    "import overparam_samples as samples\n"
    "from keras_munet.overparam import fit\n"
    "made = samples.trainer(shared_optimizer=keras.optimizers.Adam)\n"
    "fit.train(made, samples.batch, 60, place=sys.argv[1],\n"
    "    save_every=1, settings={'a': 1},\n"
    "    on_step=lambda step, losses: print(step, flush=True))\n"
)


def _start(place):
    return subprocess.Popen(
        [sys.executable, "-c", _RUN, str(place)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=pathlib.Path(__file__).parent,
    )


@pytest.mark.slow
@pytest.mark.parametrize("num_lines", [1, 20, 40])
def test_a_killed_training_ends_with_the_same_bytes(tmp_path, num_lines):
    whole = _start(tmp_path / "whole")
    whole.communicate()
    killed = _start(tmp_path / "killed")
    for _ in range(num_lines):
        killed.stdout.readline()
    # Anywhere within a step, or its saving.
    time.sleep(0.0005 * num_lines)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    again = _start(tmp_path / "killed")
    lines = again.communicate()[0].split()
    assert int(lines[0]) >= num_lines
    names = [tmp_path / n / checkpoints.NAME for n in ("whole", "killed")]
    assert names[0].read_bytes() == names[1].read_bytes()


def _train(place, num_steps, make_model=None, **options):
    made = samples.trainer(
        make_model or samples.without_norm,
        shared_optimizer=lambda: keras.optimizers.Adam(0.01),
    )
    fit.train(made, samples.batch, num_steps, place=place, **options)
    return made


def test_training_goes_on_where_it_stopped(tmp_path):
    whole = _train(None, 7)
    _train(tmp_path, 4)
    steps = []
    resumed = _train(tmp_path, 7, on_step=lambda step, _: steps.append(step))
    assert steps == [4, 5, 6]
    expected = samples.values(whole)
    for name, value in samples.values(resumed).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    # Nothing is left to do.
    assert _train(tmp_path, 7).num_steps_done == 7


def test_the_state_of_another_training_is_refused(tmp_path):
    _train(tmp_path, 1, settings={"rate": 0.1})
    with pytest.raises(errors.UsageError, match=r"settings.*0\.2"):
        _train(tmp_path, 1, settings={"rate": 0.2})
    with pytest.raises(errors.UsageError, match="another network"):
        _train(tmp_path, 1, samples.network, settings={"rate": 0.1})
    with pytest.raises(errors.UsageError, match="plain values"):
        _train(tmp_path, 1, settings={"rate": object()})


@pytest.mark.parametrize("data", [b"", b"no state", b"\0" * 64])
def test_a_damaged_state_is_named(tmp_path, data):
    (tmp_path / checkpoints.NAME).write_bytes(data)
    with pytest.raises(errors.StoreError, match=checkpoints.NAME) as info:
        _train(tmp_path, 1)
    assert str(info.value).isprintable()


def test_two_trainings_in_one_place_do_not_meet(tmp_path):
    with (
        checkpoints.Keeper(tmp_path),
        pytest.raises(errors.UsageError, match=str(os.getpid())),
    ):
        _train(tmp_path, 1)


@pytest.mark.parametrize(
    ("images", "labels", "told"),
    [
        # Squared, it is more than float32 can hold.
        (0.0, 1e30, "loss of task 'depth' is inf at step 2"),
        # ReLU makes zeros of it, but not the statistics of its batch.
        (np.nan, 0.0, "after 3 steps .* is not finite"),
    ],
)
def test_training_stops_before_it_keeps_what_is_not_finite(
    tmp_path, images, labels, told
):
    def broken(step):
        x, y = samples.batch(step)
        if step == 2:
            x[0] += images
            y["depth"] += labels
        return x, y

    made = samples.trainer()
    with pytest.raises(errors.DataError, match=told):
        fit.train(made, broken, 4, place=tmp_path, save_every=1)
    kept = samples.trainer()
    fit.train(kept, samples.batch, 2, place=tmp_path)
    assert kept.num_steps_done == 2
    assert all(
        np.isfinite(v).all()
        for v in samples.values(kept).values()
        if v.dtype == np.float32
    )


_WORKER = (
    "import os, sys\n"
    "import overparam_samples as samples\n"
    "from keras_munet import errors\n"
    "from keras_munet.overparam import fit\n"
    "made = samples.trainer(samples.without_norm, sys.argv[1])\n"
    "steps = []\n"
    "try:\n"
    "    fit.train(made, samples.batch, int(sys.argv[3]),\n"
    "        place=sys.argv[2], save_every=1,\n"
    "        on_step=lambda step, _: steps.append(step))\n"
    "except errors.MunetError as error:\n"
    "    print('error', error, flush=True)\n"
    "    os._exit(1)\n"
    "print(steps, flush=True)\n"
)


def _training(place, num_steps, strategy="multi_worker"):
    return [sys.executable, "-c", _WORKER, strategy, str(place), str(num_steps)]


def _start_command(command, **environment):
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=pathlib.Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": str(_ROOT), **environment},
    )


def _two_workers(commands):
    """Returns what the chief and the other print, and their errors."""
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    started = [
        _start_command(
            command,
            TF_CONFIG=json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": index},
                }
            ),
        )
        for index, command in enumerate(commands)
    ]
    try:
        return [process.communicate(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()


def _free_ports(num):
    probes = [socket.socket() for _ in range(num)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.mark.slow
def test_of_two_workers_the_chief_alone_keeps_what_both_train(tmp_path):
    place, alone = tmp_path / "both", tmp_path / "alone"
    for first, num_steps in ((0, 3), (3, 5)):
        for out, problem in _two_workers([_training(place, num_steps)] * 2):
            assert out == f"{list(range(first, num_steps))}\n", problem[-2000:]
    assert _start_command(_training(alone, 5, "one_device")).wait() == 0
    names = [p / checkpoints.NAME for p in (place, alone)]
    (both, told), (one, also_told) = (
        tensors.from_bytes(name.read_bytes()) for name in names
    )
    assert told == also_told
    for name, value in one.items():
        np.testing.assert_allclose(both[name], value, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_workers_in_a_place_that_is_taken_end_with_one_line_each(tmp_path):
    with checkpoints.Keeper(tmp_path):
        ended = _two_workers([_training(tmp_path, 1)] * 2)
    for (out, problem), start in zip(
        ended, ("error", "error the chief worker:"), strict=True
    ):
        assert out.startswith(start), problem[-2000:]
        assert str(os.getpid()) in out
        assert out.count("\n") == 1


@pytest.mark.slow
def test_workers_that_see_different_folders_are_told(tmp_path):
    made = samples.trainer(samples.without_norm)
    fit.train(made, samples.batch, 1, place=tmp_path / "one")
    ended = _two_workers(
        [_training(tmp_path / name, 2) for name in ("one", "other")]
    )
    for out, problem in ended:
        assert "give all of them one shared folder" in out, problem[-2000:]


@pytest.mark.slow
def test_the_command_runs_on_two_workers(tmp_path):
    values = {
        **{"image_height": 8, "image_width": 8, "num_train": 8, "num_test": 4},
        **{"width": 2, "num_stages": 1, "num_epochs": 2, "batch_size": 4},
    }
    command = [
        sys.executable,
        str(_ROOT / "launch" / "overparam.py"),
        f"--config={_ROOT / 'configs' / 'overparam_rooms.py'}",
        f"--output_dir={tmp_path}",
        "--strategy=multi_worker",
        "--method=hard_sharing",
        *(f"--config.{key}={value}" for key, value in values.items()),
    ]
    (chief, problem), (other, _) = _two_workers([command] * 2)
    assert chief.endswith(f"written: {tmp_path}\n"), problem[-2000:]

    def measured(out):
        # Without progress, which has times.
        return [x for x in out.splitlines() if not x.startswith("all_tasks:")]

    assert measured(chief) == measured(other)
    written = sorted(path.name for path in tmp_path.glob("*.*"))
    assert written == ["all_tasks.keras", "metrics.json"]
