"""`launch/agents.py` with real agents: kills lose nothing, stops stop all."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import psutil
import pytest
import system_samples as samples

from keras_munet.store import event_reader
from keras_munet.store import system_dir

_AGENTS = pathlib.Path(__file__).resolve().parents[2] / "launch" / "agents.py"
_TASKS = ["digits", "glyphs/digits", "glyphs/greek"]
_SECS_MAX = 240


def _start(folder: pathlib.Path, num_rounds: int) -> subprocess.Popen:
    settings = samples.settings(
        task_names=_TASKS,
        num_task_iters=num_rounds,
        num_samples_per_task=4,
        children_per_generation=2,
    ).to_json()
    config = folder / "config.json"
    config.write_text(json.dumps(settings))
    return subprocess.Popen(
        [
            *(sys.executable, str(_AGENTS), f"--config={config}"),
            *(f"--workdir={folder / 'system'}", "--num_agents=2"),
        ],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _read_until(job: subprocess.Popen, *words: str) -> None:
    for line in job.stdout:
        if all(word in line for word in words):
            return
    raise AssertionError(f"the job ended before a line with {words}")


@pytest.mark.slow
def test_an_agent_that_is_killed_loses_no_update(tmp_path):
    job = _start(tmp_path, num_rounds=2)
    _read_until(job, "[agent 0]", "generation 1/2")
    # The first that was started.
    agents = psutil.Process(job.pid).children()
    min(agents, key=lambda agent: agent.pid).send_signal(signal.SIGKILL)
    out, _ = job.communicate(timeout=_SECS_MAX)
    assert job.returncode == 0, out
    assert "[agent 0] ended with exit code -9; begins again" in out
    directory = system_dir.SystemDir.open(tmp_path / "system")
    assert directory.check() == []
    assert {
        name: state.num_iterations_done
        for name, state in directory.tasks().items()
    } == dict.fromkeys(_TASKS, 2)
    # Each iteration was published by one agent, once.
    published = [
        (line.event["task"], line.event["iteration"])
        for line in event_reader.read_events(directory.files)
        if line.event and line.event["event"] == "published"
    ]
    assert sorted(published) == [(t, n) for t in sorted(_TASKS) for n in (0, 1)]


@pytest.mark.slow
def test_sigterm_stops_every_agent_and_the_same_command_continues(tmp_path):
    job = _start(tmp_path, num_rounds=20)
    _read_until(job, "[agent 1]", "generation 1/2")
    children = psutil.Process(job.pid).children(recursive=True)
    job.send_signal(signal.SIGTERM)
    started = time.monotonic()
    job.communicate(timeout=_SECS_MAX)
    assert job.returncode == 75
    assert time.monotonic() - started < _SECS_MAX / 4
    assert not any(child.is_running() for child in children)
    assert system_dir.SystemDir.open(tmp_path / "system").check() == []
    again = _start(tmp_path, num_rounds=20)
    _read_until(again, "generation 2/2")
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=_SECS_MAX)
    assert again.returncode == 75
