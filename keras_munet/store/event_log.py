"""The logs in which a system's jobs tell what they do.

Invariant: a job adds to a log that no other living job adds to, so no job waits
for another one, and no line of another job is lost on any medium. A log that
cannot be written costs a warning and never the job.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import secrets
import tempfile
import time
import warnings
import weakref

from keras_munet import errors
from keras_munet.store import storage

# The log of the first job of a folder, and of every job before 2026-12.
METRICS_FILE = "metrics.jsonl"
# The logs of jobs beside it: `<job>.jsonl`, or segments `<job>-<number>.jsonl`.
EVENTS_DIR = "events"
# Held by the job whose log is `metrics.jsonl`.
METRICS_LOCK = "locks/metrics"
# A log is read in pieces, so this is no bound on memory.
NUM_BYTES_MAX = 1 << 36
# What a medium without `append` writes again with each line, at most.
SEGMENT_NUM_BYTES = 256 << 10
# Lines in memory that wait for a log that cannot be written just now.
_PENDING_NUM_BYTES_MAX = 64 << 20
_WARNING_LEVEL = 6
# Eight hex digits of the second of the start, eight random ones; a segment.
_LOG_FILE = re.compile(
    rf"{EVENTS_DIR}/([0-9a-f]{{8}})([0-9a-f]{{8}})(?:-([0-9]{{6}}))?\.jsonl"
)


def append_lines(files: storage.Storage, name: str, data: bytes) -> None:
    """Adds `data` to the end of a file; see `storage.Storage.append`.

    Raises:
      StoreError: the write failed, or others never stop writing.
    """
    files.append(name, data)


def read_lines(files: storage.Storage, name: str) -> list[bytes]:
    """Returns the lines of a file.

    Raises:
      MissingFileError: there is none.
      StoreError: it is too large or cannot be read.
    """
    lines = files.lines(name, NUM_BYTES_MAX)
    return [line.rstrip(b"\n") for line in lines]


def log_files(files: storage.Storage) -> list[tuple[float, list[str]]]:
    """Returns (start, files) of every log, `metrics.jsonl` first.

    The start is in seconds since 1970 by the clock of the log's job; 0 for
    `metrics.jsonl`, which need not exist. The files of one log are in the
    order of their lines.

    Raises:
      StoreError: the folder cannot be listed.
    """
    segments = collections.defaultdict(list)
    for name in files.list(EVENTS_DIR):
        parts = _LOG_FILE.fullmatch(name)
        if parts:
            segments[parts[1] + parts[2]].append(name)
    logs = [
        (float(int(job[:8], 16)), segments[job]) for job in sorted(segments)
    ]
    return [(0.0, [METRICS_FILE]), *logs]


class JobLog:
    """The log of one job; no failure of its medium ends the job.

    In a folder the log is `metrics.jsonl` if no other living job has it, else
    `events/<job>.jsonl`. Where files cannot grow, it is a row of segments of
    bounded size. Lines that cannot be written are added as soon as they can
    be; meanwhile a local copy keeps them.

    Args:
      files: of the system.
      holder: names the process; None for this one.
    """

    def __init__(self, files: storage.Storage, holder: str | None = None):
        self._files = files
        self._holder = str(os.getpid()) if holder is None else holder
        self._job = f"{int(time.time()):08x}{secrets.token_hex(4)}"
        self._file = ""
        self._release: weakref.finalize | None = None
        self._segment = b""
        self._num_segments = 0
        # Lines that are not in the log yet, and the path of their copy.
        self._pending: collections.deque[bytes] = collections.deque()
        self._num_pending_bytes = 0
        self._copy_path = ""
        self._has_lost_lines = False
        self._has_warned = False
        self._retry_time = 0.0

    def add(self, line: bytes) -> None:
        """Adds one line, now or as soon as the log can be written."""
        self._pending.append(line)
        self._num_pending_bytes += len(line)
        if time.monotonic() >= self._retry_time:
            self._flush()
        elif self._copy_path:
            self._copy(line)
        while self._num_pending_bytes > _PENDING_NUM_BYTES_MAX:
            self._num_pending_bytes -= len(self._pending.popleft())
            # They stay in the local copy.
            self._has_lost_lines = True

    def close(self) -> None:
        """Writes what waits, if possible, and lets another job have the log."""
        if self._pending:
            self._flush()
        if self._release is not None:
            self._release()
            self._release = None
        self._file = ""

    def _flush(self) -> None:
        began = time.monotonic()
        try:
            self._append(b"".join(self._pending))
        # A medium may fail in any way; none is a reason to end a job.
        except Exception as error:
            # No longer time goes into attempts than into the job.
            self._retry_time = 2 * time.monotonic() - began
            self._keep_copy(error)
            return
        self._pending.clear()
        self._num_pending_bytes = 0
        if self._copy_path and not self._has_lost_lines:
            with contextlib.suppress(OSError):
                os.unlink(self._copy_path)
            self._copy_path = ""

    def _append(self, data: bytes) -> None:
        if self._files.can_append:
            self._files.append(self._own_file(), data)
            return
        if len(self._segment) + len(data) > SEGMENT_NUM_BYTES and self._segment:
            self._num_segments += 1
            self._segment = b""
        name = f"{EVENTS_DIR}/{self._job}-{self._num_segments:06}.jsonl"
        self._files.write_atomic(name, self._segment + data)
        self._segment += data

    def _own_file(self) -> str:
        """Returns the name of the file that this job alone adds to."""
        if self._file:
            return self._file
        # This also refuses a system that is gone, and a link in its place.
        self._files.append(METRICS_FILE, b"")
        try:
            lock = self._files.lock(METRICS_LOCK, self._holder)
        except storage.LockHeldError as error:
            if error.holder == self._holder:
                # An earlier job of this process, which was not closed.
                self._file = METRICS_FILE
            else:
                name = f"{EVENTS_DIR}/{self._job}.jsonl"
                self._files.write_atomic(name, b"")
                self._file = name
        else:
            # Also of a job that is never closed.
            self._release = weakref.finalize(self, lock.release)
            self._file = METRICS_FILE
        return self._file

    def _keep_copy(self, error: Exception) -> None:
        """Copies the waiting lines to this machine; warns the first time."""
        new_lines = [self._pending[-1]]
        if not self._copy_path:
            new_lines = list(self._pending)
            with contextlib.suppress(OSError):
                handle, self._copy_path = tempfile.mkstemp(
                    prefix=f"keras_munet_events_{self._job}_", suffix=".jsonl"
                )
                os.close(handle)
        for line in new_lines:
            self._copy(line)
        if self._has_warned:
            return
        self._has_warned = True
        reason = str(error) or type(error).__name__
        if not isinstance(error, errors.MunetError):
            reason = f"{type(error).__name__}: {' '.join(reason.split())}"
        copy = f" (a copy grows in {self._copy_path})" * bool(self._copy_path)
        warnings.warn(
            f"{self._file or METRICS_FILE} cannot be written; the job goes on, "
            f"and its report will lack what happens meanwhile{copy}: {reason}",
            RuntimeWarning,
            stacklevel=_WARNING_LEVEL,
        )

    def _copy(self, line: bytes) -> None:
        # Without a disk the lines still wait in memory.
        if self._copy_path:
            with (
                contextlib.suppress(OSError),
                open(self._copy_path, "ab") as file,
            ):
                file.write(line)
