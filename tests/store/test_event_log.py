"""The logs of jobs: one each, on every medium, and none that ends a job."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import threading
import warnings

import memory_files
import pytest

from keras_munet import errors
from keras_munet.store import event_log
from keras_munet.store import event_reader
from keras_munet.store import files as files_lib


@pytest.fixture(params=["local", "memory"])
def files(request, tmp_path):
    if request.param == "memory":
        return memory_files.MemoryFiles()
    (tmp_path / "system").mkdir()
    return files_lib.LocalStorage(tmp_path / "system")


def _line(number, **values):
    event = {"event": "generation", "number": number, **values}
    return json.dumps(event).encode() + b"\n"


def _numbers(files):
    return [line.event["number"] for line in event_reader.read_events(files)]


def test_a_job_that_is_alone_writes_the_one_file_of_before(tmp_path):
    files = files_lib.LocalStorage(tmp_path)
    for number in range(2):
        job = event_log.JobLog(files)
        job.add(_line(number))
        job.close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == _line(0) + _line(1)
    assert not (tmp_path / "events").exists()


def test_jobs_of_one_process_share_the_one_file(tmp_path):
    jobs = [event_log.JobLog(files_lib.LocalStorage(tmp_path)) for _ in "ab"]
    for number in range(4):
        jobs[number % 2].add(_line(number))
    lines = b"".join(map(_line, range(4)))
    assert (tmp_path / "metrics.jsonl").read_bytes() == lines
    assert not (tmp_path / "events").exists()


def test_jobs_that_live_side_by_side_have_a_log_each(files):
    jobs = [event_log.JobLog(files, holder=str(n)) for n in range(3)]
    for number in range(9):
        jobs[number % 3].add(_line(number, time=4e9 + number))
    logs = [names for _, names in event_log.log_files(files)]
    assert sum(files.exists(name) for names in logs for name in names) == 3
    assert _numbers(files) == list(range(9))


def test_a_log_is_free_again_when_its_job_is_closed_or_killed(tmp_path):
    program = (
        "import sys, os, signal;"
        "from keras_munet.store import event_log, files;"
        "job = event_log.JobLog(files.LocalStorage(sys.argv[1]));"
        'job.add(b\'{"event": "x", "number": 0}\\n\');'
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], check=False
    )
    assert ended.returncode == -9
    job = event_log.JobLog(files_lib.LocalStorage(tmp_path))
    job.add(_line(1))
    assert not (tmp_path / "events").exists()
    job.close()
    # Also without `close`, as the interpreter may end anywhere.
    event_log.JobLog(files_lib.LocalStorage(tmp_path)).add(_line(2))
    event_log.JobLog(files_lib.LocalStorage(tmp_path)).add(_line(3))
    assert _numbers(files_lib.LocalStorage(tmp_path)) == [0, 1, 2, 3]


def test_what_a_write_costs_is_bounded_where_files_cannot_grow(monkeypatch):
    monkeypatch.setattr(event_log, "SEGMENT_NUM_BYTES", 400)
    files = memory_files.MemoryFiles()
    sizes = []
    write = files.write_atomic
    files.write_atomic = lambda name, data: (
        sizes.append(len(data)),
        write(name, data),
    )
    job = event_log.JobLog(files)
    for number in range(50):
        job.add(_line(number))
    job.add(_line(50, text="x" * 1000))
    job.add(_line(51))
    assert max(sizes[:50]) <= 400 and len(sizes) == 52
    ((_, names),) = event_log.log_files(files)[1:]
    assert len(names) > 5
    assert _numbers(files) == list(range(52))


def test_many_jobs_at_one_time_lose_no_line(files):
    def tell(agent):
        job = event_log.JobLog(files, holder=str(agent))
        for i in range(10):
            job.add(_line(100 * agent + i))
        job.close()

    threads = [threading.Thread(target=tell, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [100 * n + i for n in range(8) for i in range(10)]
    assert sorted(_numbers(files)) == expected


@pytest.mark.parametrize(
    "error",
    [
        errors.StoreError("the bucket is away"),
        OSError(28, "No space left"),
        RuntimeError("can't start\nnew thread"),
        MemoryError(),
    ],
    ids=lambda e: type(e).__name__,
)
def test_a_log_that_fails_keeps_a_copy_and_warns_once(files, error, tmp_path):
    job = event_log.JobLog(files)
    job.add(_line(0))

    def refuse(*args):
        raise error

    broken = pytest.MonkeyPatch()
    broken.setattr(type(files), "append", refuse)
    broken.setattr(type(files), "write_atomic", refuse)
    with pytest.warns(RuntimeWarning, match="cannot be written") as warned:
        for number in (1, 2, 3):
            job.add(_line(number))
    (warning,) = warned
    text = str(warning.message)
    assert "\n" not in text
    copy = pathlib.Path(text.split("a copy grows in ")[1].split(")")[0])
    assert copy.read_bytes() == _line(1) + _line(2) + _line(3)
    broken.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        job._retry_time = 0.0
        job.add(_line(4))
    assert _numbers(files) == [0, 1, 2, 3, 4]
    assert not copy.exists()


def test_a_copy_stays_if_memory_was_too_small_for_it(files, monkeypatch):
    monkeypatch.setattr(event_log, "_PENDING_NUM_BYTES_MAX", 100)
    job = event_log.JobLog(files)
    broken = pytest.MonkeyPatch()
    for name in ("append", "write_atomic"):
        broken.setattr(type(files), name, lambda *args: 1 / 0)
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        for number in range(9):
            job.add(_line(number))
    broken.undo()
    job.close()
    numbers = _numbers(files)
    assert numbers == list(range(9))[-len(numbers) :]
    copy = pathlib.Path(job._copy_path)
    assert copy.read_bytes() == b"".join(map(_line, range(9)))
    copy.unlink()


def test_without_a_place_for_a_copy_the_job_still_goes_on(files, monkeypatch):
    monkeypatch.setattr(
        event_log.tempfile, "mkstemp", lambda **_: os.stat("/absent")
    )
    job = event_log.JobLog(files)
    broken = pytest.MonkeyPatch()
    for name in ("append", "write_atomic"):
        broken.setattr(type(files), name, lambda *args: 1 / 0)
    with pytest.warns(
        RuntimeWarning, match="cannot be written: Zero|meanwhile"
    ):
        job.add(_line(0))
        job.add(_line(1))
    broken.undo()
    job.close()
    assert _numbers(files) == [0, 1]


def test_a_log_that_fails_slowly_is_not_tried_with_each_line(
    files, monkeypatch
):
    now = [0.0]
    monkeypatch.setattr(event_log.time, "monotonic", lambda: now[0])
    attempts = []

    def refuse(*args):
        attempts.append(now[0])
        now[0] += 60.0
        raise errors.StoreError("no answer for 60 s")

    for name in ("append", "write_atomic"):
        monkeypatch.setattr(type(files), name, refuse)
    job = event_log.JobLog(files)
    with pytest.warns(RuntimeWarning, match="no answer"):
        for number in range(30):
            job.add(_line(number))
            now[0] += 10.0
    assert len(attempts) <= 5
    os.unlink(job._copy_path)
