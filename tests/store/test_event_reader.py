"""All logs as one: merged by time, read in pieces, whatever is in them."""

from __future__ import annotations

import json
import os
import resource

import memory_files
import pytest

from keras_munet import errors
from keras_munet.store import event_log
from keras_munet.store import event_reader
from keras_munet.store import files as files_lib
from keras_munet.store import storage


def _line(number, **values):
    event = {"event": "x", "number": number, **values}
    return json.dumps(event).encode() + b"\n"


def _write(files, start, *lines, segment=None, job=0):
    end = "" if segment is None else f"-{segment:06}"
    name = f"events/{start:08x}{job:08x}{end}.jsonl"
    files.write_atomic(name, b"".join(lines))
    return name


def _numbers(files):
    return [
        line.event["number"]
        for line in event_reader.read_events(files)
        if line.event
    ]


@pytest.fixture
def files():
    return memory_files.MemoryFiles()


def test_logs_are_merged_by_time_and_old_lines_come_first(files):
    files.write_atomic(
        "metrics.jsonl", _line(0) + _line(1) + _line(4, time=1004.0) + _line(5)
    )
    _write(files, 1002, _line(2, time=1002.5), _line(7, time=1009.0))
    _write(files, 1003, _line(3, time=1003.5), _line(6, time=1005.0))
    assert _numbers(files) == list(range(8))


def test_a_clock_that_goes_back_changes_no_order_within_a_log(files):
    _write(files, 1000, *(_line(n, time=1010.0 - n) for n in range(4)))
    _write(files, 1005, _line(9, time=2000.0), job=1)
    assert _numbers(files) == [0, 1, 2, 3, 9]


@pytest.mark.parametrize(
    "time", ["soon", None, [], float("nan"), -5, True, 10**400, 1e30]
)
def test_a_time_that_is_none_leaves_the_line_where_it_is(files, time):
    _write(files, 1000, _line(0, time=1000.5), _line(1, time=time), _line(2))
    told = [n for n in _numbers(files) if n != 1]
    assert told == [0, 2]


def test_segments_of_a_job_are_one_log(files):
    _write(files, 1000, _line(2, time=1002.0), segment=1)
    _write(files, 1000, _line(0), _line(1), segment=0)
    _write(files, 1000, _line(3), segment=10)
    assert _numbers(files) == [0, 1, 2, 3]


def test_other_files_in_the_folder_are_no_logs(files):
    for name in ("notes.txt", "a.jsonl", f"{'0' * 16}.jsonl~", "x/y.jsonl"):
        files.write_atomic(f"events/{name}", _line(1))
    with pytest.raises(storage.MissingFileError):
        list(event_reader.read_events(files))


def test_what_cannot_be_read_costs_itself_and_is_said_at_the_end(tmp_path):
    files = files_lib.LocalStorage(tmp_path)
    _write(files, 1000, _line(0))
    odd = _write(files, 1001, _line(1))
    os.unlink(tmp_path / odd)
    os.mkfifo(tmp_path / odd)
    _write(files, 1002, _line(2))
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "elsewhere")
    numbers = []
    with pytest.raises(errors.StoreError, match=r"metrics\.jsonl"):
        for line in event_reader.read_events(files):
            numbers.append(line.event["number"])
    assert numbers == [0, 2]


@pytest.mark.parametrize("size", [1, 100, 16 << 10, 200_000])
def test_lines_of_any_length_come_back_whole(tmp_path, size):
    memory = memory_files.MemoryFiles()
    lines = [_line(n, text="\u00e9" * (size + n)) for n in range(5)]
    for files in (memory, files_lib.LocalStorage(tmp_path)):
        files.write_atomic("metrics.jsonl", b"".join(lines) + b"{torn")
        told = list(event_reader.read_events(files))
        assert [line.number for line in told] == [1, 2, 3, 4, 5, 6]
        assert [line.is_torn for line in told] == [False] * 5 + [True]
        assert list(event_reader.merged_lines(files)) == [*lines, b"{torn"]


def test_logs_of_more_jobs_than_files_may_be_open_are_merged(tmp_path):
    files = files_lib.LocalStorage(tmp_path, durable=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    num_open = len(os.listdir("/proc/self/fd"))
    for job in range(60):
        lines = [_line(i, time=1000.0 + i, job=job) for i in range(3)]
        _write(files, 1000, *lines, job=job)
    resource.setrlimit(resource.RLIMIT_NOFILE, (num_open + 10, hard))
    try:
        assert _numbers(files) == [0] * 60 + [1] * 60 + [2] * 60
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_several_logs_merge_into_one_that_says_the_same(files):
    files.write_atomic("metrics.jsonl", _line(0) + b"{torn" + _line(1))
    _write(files, 1000, _line(2, time=1001.0), b"no event\n")
    data = b"".join(event_reader.merged_lines(files))
    alone = memory_files.MemoryFiles()
    alone.write_atomic("metrics.jsonl", data)
    assert _numbers(alone) == _numbers(files) == [0, 1, 2]
    assert event_log.read_lines(alone, "metrics.jsonl") == data.splitlines()
