"""What a job shows: bars on a terminal, lines in a file, JSON for programs."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pathlib
import pty
import select
import struct
import subprocess
import sys
import termios
import time

import pytest
import system_samples as samples

import keras_munet
from keras_munet.callbacks import progress
from keras_munet.callbacks import progress_bar
from keras_munet.report import events

_ROOT = pathlib.Path(__file__).resolve().parents[2]


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def terminal_of_80_columns(monkeypatch):
    """Whatever the tests themselves run in."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")


def _job(reporter, num_cycles=2):
    """Two task iterations of two generations of three children."""
    with reporter:
        reporter.plan(4, 2)
        for task in ("digits", "letters"):
            reporter.line(f"round 1/1: {task}")
            reporter.begin(
                task=task, num_done=0, num_generations=2, num_children=6
            )
            for number in (1, 2):
                for _ in range(num_cycles):
                    reporter.cycle(3, num_cycles)
                reporter.generation(
                    task=task,
                    iteration=0,
                    number=number,
                    num_generations=2,
                    children=[
                        {"index": i, "score": 0.5, "improved": i == 0}
                        for i in range(3)
                    ],
                    best_score=0.5,
                    clock={"train_secs": 1.0},
                    secs=1.0,
                )
            reporter.event("published", task=task)


def test_a_file_gets_whole_lines_and_no_control_characters(tmp_path):
    stream = io.StringIO()
    _job(progress_bar.reporter(tmp_path, stream))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 6
    assert "digits generation 2/2: 0.500* 0.500 0.500" in lines[2]
    assert all(line.startswith("[") for line in lines)
    assert not set("\r\x1b") & set(stream.getvalue())


def test_a_terminal_gets_three_nested_bars_and_the_same_lines(tmp_path):
    stream = _Terminal()
    _job(progress_bar.reporter(tmp_path, stream))
    shown = stream.getvalue()
    for name in ("task iterations", "digits", "letters", "children"):
        assert name in shown
    assert "\x1b[A" in shown, "bars below bars move the cursor up"
    assert "generation 2/2: 0.500* 0.500 0.500" in shown
    # Nothing is left of the bars in the end.
    assert shown.rstrip("\r ").endswith(("\r", "\x1b[A", "\n"))


def test_bars_count_what_was_done_before_the_job(tmp_path, monkeypatch):
    bars = progress_bar.Bars(None, stream=_Terminal())
    bars.plan(4, 2)
    bars.begin(task="digits", num_done=1, num_generations=2, num_children=5)
    assert bars._generations.n == 1
    assert (bars._children.n, bars._children.total) == (3, 5)
    bars.cycle(2, 4)
    assert bars._children.n == 3.5
    bars.close()
    bars.line("after the end")
    assert "after the end" in bars._stream.getvalue()


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert type(progress_bar.reporter(None, _Terminal())) is progress.Progress


def test_json_is_one_object_a_line_and_holds_the_recorded_events(tmp_path):
    stream = _Terminal()
    _job(progress_bar.reporter(tmp_path, stream, as_json=True))
    shown = [json.loads(line) for line in stream.getvalue().splitlines()]
    recorded = [
        json.loads(line)
        for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    assert [e for e in shown if e["event"] != "line"] == recorded
    assert len(recorded) == 6
    assert shown[0]["text"] == "round 1/1: digits"


def test_quiet_shows_nothing_and_records_everything(tmp_path):
    stream = _Terminal()
    _job(progress_bar.reporter(tmp_path, stream, quiet=True, as_json=True))
    assert stream.getvalue() == ""
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 6


def test_listeners_are_told_every_event_without_a_folder():
    told = []
    _job(progress.Progress(quiet=True, listeners=[told.append]))
    assert [e["event"] for e in told[:3]] == [
        *("generation", "generation", "published"),
    ]


def test_a_run_tells_every_child_and_cycle(tmp_path):
    class Counted(progress.Progress):
        plans, begun, parts = [], [], []

        def plan(self, num_generations, num_iterations):
            self.plans.append((num_generations, num_iterations))
            super().plan(num_generations, num_iterations)

        def begin(self, **values):
            self.begun.append(values)
            super().begin(**values)

        def cycle(self, num_children, num_cycles):
            self.parts.append(num_children / num_cycles)

    settings = samples.settings(
        task_names=["digits"], num_task_iters=1, num_samples_per_task=5
    )
    system = keras_munet.System.create(tmp_path / "system", settings)
    system.run(progress=Counted(quiet=True))
    assert Counted.plans == [(2, 1)]
    assert Counted.begun == [
        {
            "task": "digits",
            "num_done": 0,
            "num_generations": 2,
            "num_children": 5,
        }
    ]
    # Twins are trained once.
    assert 0 < sum(Counted.parts) <= 5


@pytest.mark.slow
def test_evolving_in_a_terminal_draws_bars_and_leaves_lines(tmp_path):
    config = tmp_path / "config.json"
    settings = samples.settings(
        task_names=["digits"], num_task_iters=1, num_samples_per_task=2
    ).to_json()
    config.write_text(json.dumps(settings))
    ours, theirs = pty.openpty()
    rows_and_columns = struct.pack("HHHH", 24, 100, 0, 0)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, rows_and_columns)
    job = subprocess.Popen(
        [
            *(sys.executable, str(_ROOT / "launch" / "evolve.py")),
            *(f"--config={config}", f"--workdir={tmp_path / 'system'}"),
        ],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        ready, _, _ = select.select([ours], [], [], 1.0)
        try:
            more = os.read(ours, 65536) if ready else b""
        except OSError:
            break
        shown += more
        if not more and job.poll() is not None:
            break
    assert job.wait(10) == 0, shown[-2000:]
    text = shown.decode()
    for part in ("task iterations", "children", "\x1b[A", "test accuracy"):
        assert part in text, text[-2000:]
    assert "Traceback" not in text


def test_events_that_cannot_be_written_cost_one_warning_and_come_later(
    tmp_path,
):
    folder = tmp_path / "absent"
    job = progress_bar.reporter(folder, io.StringIO(), as_json=True)
    with pytest.warns(RuntimeWarning, match="the job goes on") as warned:
        job.event("published", task="digits")
        job.event("published", task="mnist")
    assert len(warned) == 1 and "\n" not in str(warned[0].message)
    folder.mkdir()
    job.event("published", task="emnist")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    tasks = [json.loads(line)["task"] for line in lines]
    assert tasks == ["digits", "mnist", "emnist"]


@pytest.mark.parametrize("odd", ["link", "pipe", "folder", "dangling link"])
def test_events_go_into_a_regular_file_of_the_system_alone(tmp_path, odd):
    folder = tmp_path / "system"
    folder.mkdir()
    place, outside = folder / "metrics.jsonl", tmp_path / "outside"
    if odd == "pipe":
        os.mkfifo(place)
    elif odd == "folder":
        place.mkdir()
    else:
        place.symlink_to(outside)
    if odd == "link":
        outside.write_text("mine")
    job = progress_bar.reporter(folder, io.StringIO(), as_json=True)
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        job.event("published", task="digits")
        job.close()
    assert outside.exists() == (odd == "link")
    if odd == "link":
        assert outside.read_text() == "mine"
    history = events.read(folder)
    assert len(history.notes) == 1 and "metrics.jsonl" in history.notes[0]


def test_a_system_may_be_reached_by_a_link_of_its_user(tmp_path):
    (tmp_path / "system").mkdir()
    (tmp_path / "mine").symlink_to(tmp_path / "system")
    job = progress_bar.reporter(tmp_path / "mine", io.StringIO(), as_json=True)
    job.event("published", task="digits")
    assert (tmp_path / "system" / "metrics.jsonl").stat().st_size
