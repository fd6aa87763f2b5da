"""Reads the events of all jobs of a system, merged by time.

Invariant: of one log the lines keep their order; no file stays open and no log
is taken into memory as a whole. A line that is torn, as a job that was killed
leaves it, costs itself and nothing else.
"""

from __future__ import annotations

import dataclasses
import heapq
import json
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from keras_munet import errors
from keras_munet.core import guarded_json
from keras_munet.store import event_log
from keras_munet.store import storage

# The newest format of an event that is read; those without one are of 1.
FORMAT_VERSION_MAX = 1
# Seconds since 1970; a time beyond is damage.
_TIME_MAX = 1e10
_WRONG = (
    *(AttributeError, KeyError, IndexError, TypeError, ValueError),
    *(OverflowError, RecursionError),
)


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a log that is not empty.

    Attributes:
      file: of the log.
      number: of the line in the file, from 1.
      event: what it says; None if it says no event that can be read.
      is_torn: whether a part of it, or all, is no event.
      is_newer: whether a newer version of this program wrote it.
    """

    file: str
    number: int
    event: dict[str, Any] | None
    is_torn: bool = False
    is_newer: bool = False


def read_events(files: storage.Storage) -> Iterator[Line]:
    """Yields the lines of all logs in the order of their times.

    Lines without a time, as jobs before 2026-12 wrote them, come right after
    the line before them; those of `metrics.jsonl` come first.

    Raises:
      MissingFileError: there is no log.
      StoreError: a log cannot be read; what the others say is yielded before.
    """
    logs = event_log.log_files(files)[::-1]
    num_logs = len(logs)
    problems: list[errors.StoreError] = []
    running: list[tuple[float, int, Line, Iterator[tuple[float, Line]]]] = []
    while logs or running:
        # A log is opened when its time comes: few are open at a time.
        while logs and (not running or logs[-1][0] <= running[0][0]):
            start, names = logs.pop()
            log = _timed_lines(files, start, names, problems)
            for time, line in log:
                heapq.heappush(running, (time, len(logs), line, log))
                break
        if running:
            _, number, line, log = running[0]
            yield line
            for time, line in log:
                heapq.heapreplace(running, (time, number, line, log))
                break
            else:
                heapq.heappop(running)
    for problem in problems:
        # Jobs in a bucket write no `metrics.jsonl`.
        if num_logs == 1 or not isinstance(problem, storage.MissingFileError):
            raise problem


def merged_lines(files: storage.Storage) -> Iterator[bytes]:
    """Yields all logs as the lines of one.

    A single log is yielded byte for byte; of several, lines that say no event
    are left out.

    Raises:
      MissingFileError: there is no log.
      StoreError: a log cannot be read.
    """
    if len(event_log.log_files(files)) == 1:
        yield from files.lines(event_log.METRICS_FILE, event_log.NUM_BYTES_MAX)
        return
    for line in read_events(files):
        if line.event is not None:
            text = json.dumps(line.event, sort_keys=True, allow_nan=False)
            yield text.encode() + b"\n"


def parse_line(data: bytes, file: str, number: int) -> Line | None:
    """Returns what the bytes of a line say; None for an empty one."""
    text = data.decode("utf-8", "replace").strip()
    if not text:
        return None
    event = _parsed(text)
    is_torn = event is None
    if event is None:
        # The first event of a resumed job continues a torn line.
        event = _parsed_tail(text)
    if event is None:
        return Line(file, number, None, is_torn=True)
    version = event.get("format_version", 1)
    if type(version) is not int or version < 0:
        return Line(file, number, None, is_torn=True)
    if version > FORMAT_VERSION_MAX:
        return Line(file, number, None, is_torn=is_torn, is_newer=True)
    return Line(file, number, event, is_torn=is_torn)


def _timed_lines(
    files: storage.Storage,
    start: float,
    names: Sequence[str],
    problems: list[errors.StoreError],
) -> Iterator[tuple[float, Line]]:
    """Yields (time, line) of one log; times never go back.

    What cannot be read is added to `problems`.
    """
    time = start
    for name in names:
        try:
            lines = files.lines(name, event_log.NUM_BYTES_MAX)
            for number, data in enumerate(lines, start=1):
                line = parse_line(data, name, number)
                if line is None:
                    continue
                event_time = line.event.get("time") if line.event else None
                if (
                    isinstance(event_time, int | float)
                    and event_time < _TIME_MAX
                ):
                    time = max(time, event_time)
                yield time, line
        except errors.StoreError as error:
            problems.append(error)


def _parsed(text: str) -> dict[str, Any] | None:
    """Returns the event that `text` is, or None."""
    try:
        record = guarded_json.loads(text)
    except _WRONG:
        return None
    return record if isinstance(record, dict) and "event" in record else None


def _parsed_tail(text: str) -> dict[str, Any] | None:
    """Returns the whole event that ends a line which begins with a torn one.

    An event inside an event cannot be mistaken for it: its text does not
    reach the end of the line.
    """
    decoder = json.JSONDecoder()
    start = text.find('{"', 1)
    while start >= 0:
        try:
            # A copy of the rest for each try would take for ever.
            _, end = decoder.raw_decode(text, start)
        except _WRONG:
            end = start
        if end == len(text):
            return _parsed(text[start:])
        start = text.find('{"', max(start + 1, end))
    return None
