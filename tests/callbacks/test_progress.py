"""What a job shows: bars on a terminal, lines in a file, JSON for programs."""

from __future__ import annotations

import collections
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

import numpy as np
import pytest
import system_samples as samples

import keras_munet
from keras_munet import callbacks
from keras_munet.callbacks import progress
from keras_munet.callbacks import progress_bar
from keras_munet.report import events

_ROOT = pathlib.Path(__file__).resolve().parents[2]


_RUN = callbacks.Run("folder", keras_munet.Settings(), 4, 2)


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
        reporter.begin_run(_RUN)
        for task in ("digits", "letters"):
            reporter.line(f"round 1/1: {task}")
            reporter.begin_task(callbacks.TaskStart(task, 2, 0, 6))
            for number in (1, 2):
                for _ in range(num_cycles):
                    reporter.end_cycle(3, num_cycles)
                reporter.end_generation(
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
    _job(progress_bar.make_reporter(tmp_path, stream))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 6
    assert "digits generation 2/2: 0.500* 0.500 0.500" in lines[2]
    assert all(line.startswith("[") for line in lines)
    assert not set("\r\x1b") & set(stream.getvalue())


def test_a_terminal_gets_three_nested_bars_and_the_same_lines(tmp_path):
    stream = _Terminal()
    _job(progress_bar.make_reporter(tmp_path, stream))
    shown = stream.getvalue()
    for name in ("task iterations", "digits", "letters", "children"):
        assert name in shown
    assert "\x1b[A" in shown, "bars below bars move the cursor up"
    assert "generation 2/2: 0.500* 0.500 0.500" in shown
    # Nothing is left of the bars in the end.
    assert shown.rstrip("\r ").endswith(("\r", "\x1b[A", "\n"))


def test_bars_count_what_was_done_before_the_job(tmp_path, monkeypatch):
    bars = progress_bar.Bars(_Terminal())
    bars.on_run_begin(_RUN)
    bars.on_task_begin(callbacks.TaskStart("digits", 2, 1, 5))
    assert bars._generations.n == 1
    assert (bars._children.n, bars._children.total) == (3, 5)
    bars.on_cycle_end(2, 4)
    assert bars._children.n == 3.5
    bars.on_run_end()
    bars.on_message("after the end", 1.0)
    assert "after the end" in bars._stream.getvalue()


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert type(progress_bar.display_for(_Terminal())) is progress.Lines


def test_json_is_one_object_a_line_and_holds_the_recorded_events(tmp_path):
    stream = _Terminal()
    _job(progress_bar.make_reporter(tmp_path, stream, as_json=True))
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
    _job(progress_bar.make_reporter(tmp_path, stream, quiet=True, as_json=True))
    assert stream.getvalue() == ""
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 6


def test_one_task_iteration_is_a_run_too(tmp_path):
    settings = samples.settings(num_samples_per_task=5)
    system = keras_munet.System.create(tmp_path / "system", settings)
    recorded = _Recorded()
    system.evolve("digits", callbacks=[recorded])
    names = [name for name, _ in recorded.calls]
    assert names[:2] == ["on_run_begin", "on_task_begin"]
    assert names[-1] == "on_run_end"
    (run,) = recorded.calls[0][1]
    assert (run.num_generations, run.num_task_iterations) == (2, 1)


class _Recorded(callbacks.Callback):
    """Keeps the name and arguments of every call but those of lines."""

    def __init__(self):
        self.calls = []

    def __getattribute__(self, name):
        if not name.startswith("on_") or name == "on_message":
            return super().__getattribute__(name)
        return lambda *args: self.calls.append((name, args))


def test_a_callback_follows_a_job_in_order():
    recorded = _Recorded()
    _job(progress.Progress(quiet=True, callbacks=[recorded]), num_cycles=1)
    names = [name for name, _ in recorded.calls]
    generation = [
        *("on_cycle_end", "on_event"),
        *(["on_child_end"] * 3),
        "on_generation_end",
    ]
    task = [
        "on_task_begin",
        *(2 * generation),
        *("on_event", "on_task_end"),
    ]
    assert names == ["on_run_begin", *(2 * task), "on_run_end"]
    indices = [
        args[1]["index"] for n, args in recorded.calls if n == "on_child_end"
    ]
    assert indices == [0, 1, 2] * 4


def test_a_callback_that_fails_ends_alone(tmp_path):
    class Failing(callbacks.Callback):
        def on_generation_end(self, event):
            raise ZeroDivisionError("no such\nserver")

    recorded = _Recorded()
    job = progress.Progress(
        tmp_path, quiet=True, callbacks=[Failing(), recorded]
    )
    with pytest.warns(RuntimeWarning, match="Failing failed in") as warned:
        _job(job)
    assert len(warned) == 1 and "\n" not in str(warned[0].message)
    assert recorded.calls[-1][0] == "on_run_end"
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 6


def test_a_closed_pipe_ends_the_job():
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        progress.Progress(stream=Closed()).line("to a pager that has ended")


def test_a_pipe_of_a_callback_that_shows_nothing_ends_it_alone(tmp_path):
    class Tracker(callbacks.Callback):
        def on_event(self, event):
            raise BrokenPipeError(32, "the server has closed the connection")

    job = progress.Progress(tmp_path, quiet=True, callbacks=[Tracker()])
    with pytest.warns(RuntimeWarning, match="callback Tracker failed"):
        job.event("published", task="digits")
        job.event("published", task="digits")
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 2


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        (float("nan"), "nan"),
        ([float("inf"), 1.5], ["inf", 1.5]),
        ({1: {"a"}, "b": np.float32(0.5)}, {"1": "{'a'}", "b": 0.5}),
        (np.int64(3), 3),
        (b"bytes", "b'bytes'"),
    ],
)
def test_what_json_cannot_hold_ends_no_job(tmp_path, value, recorded):
    job = progress.Progress(tmp_path, quiet=True)
    job.event("published", task="digits", own=value)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["own"] == recorded


def test_a_value_that_holds_itself_ends_no_job(tmp_path):
    value = []
    value.append(value)
    job = progress.Progress(tmp_path, quiet=True)
    job.event("published", task="digits", own=value)
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1


def test_a_subject_is_warned_of_once_a_job():
    job = progress.Progress(quiet=True)
    with pytest.warns(RuntimeWarning) as warned:
        for subject in ("progress", "progress", "other"):
            job.warn_once(subject, f"{subject} failed")
    assert [str(w.message) for w in warned] == [
        *("progress failed", "other failed"),
    ]


@pytest.mark.parametrize("by", ["progress", "callbacks alone"])
def test_a_run_reports_every_child_and_cycle(tmp_path, by):
    settings = samples.settings(
        task_names=["digits"], num_task_iters=1, num_samples_per_task=5
    )
    system = keras_munet.System.create(tmp_path / "system", settings)
    recorded = _Recorded()
    shown = progress.Progress(quiet=True) if by == "progress" else None
    system.run(progress=shown, callbacks=[recorded])
    calls = collections.defaultdict(list)
    for name, args in recorded.calls:
        calls[name].append(args)
    (run,) = calls["on_run_begin"][0]
    assert (run.num_generations, run.num_task_iterations) == (2, 1)
    assert run.settings == system.settings
    assert pathlib.Path(run.workdir) == tmp_path / "system"
    assert calls["on_task_begin"] == [(callbacks.TaskStart("digits", 2, 0, 5),)]
    assert [plan.generation for (plan,) in calls["on_generation_begin"]] == [
        *(0, 1),
    ]
    # Of equal children one is trained.
    parts = sum(n / cycles for n, cycles in calls["on_cycle_end"])
    assert 0 < parts <= 5
    assert len(calls["on_child_end"]) == 5
    # The caller of a `progress` closes it, and says where it is recorded.
    has_ended = by != "progress"
    assert len(calls["on_run_end"]) == has_ended
    assert (tmp_path / "system" / "metrics.jsonl").exists() == has_ended


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
    job = progress_bar.make_reporter(folder, io.StringIO(), as_json=True)
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
    job = progress_bar.make_reporter(folder, io.StringIO(), as_json=True)
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        job.event("published", task="digits")
        job.close()
    assert outside.exists() == (odd == "link")
    if odd == "link":
        assert outside.read_text() == "mine"
    history = events.read_history(folder)
    assert len(history.notes) == 1 and "metrics.jsonl" in history.notes[0]


def test_a_system_may_be_reached_by_a_link_of_its_user(tmp_path):
    (tmp_path / "system").mkdir()
    (tmp_path / "mine").symlink_to(tmp_path / "system")
    job = progress_bar.make_reporter(
        tmp_path / "mine", io.StringIO(), as_json=True
    )
    job.event("published", task="digits")
    assert (tmp_path / "system" / "metrics.jsonl").stat().st_size
