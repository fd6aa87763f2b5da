"""Tells which task records of a local folder changed since a reader looked.

Invariant: a reader learns every change, or that it must look at all records.
The journal is a cache: one that is missing, cut off or of another time costs
one look at all records, and so does a change that it has no line for.

A publication sets the modification time of the folder of records to a value of
its own, and writes down the value before and after. So the lines are a chain,
which any other change of the folder breaks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from collections.abc import Sequence

from keras_munet import errors
from keras_munet.core import guarded_file
from keras_munet.core import unfinished
from keras_munet.store import storage

# Below the locks, which no copy of a system needs.
JOURNAL_FILE = "locks/publications"
# Held while a record is replaced.
PUBLISHING_LOCK = "locks/publishing"
# A longer journal begins anew, which costs each reader a look at all records.
_NUM_BYTES_MAX = 1 << 20
_TAIL_NUM_BYTES = 4 << 10
_EPOCH = re.compile(rb"[0-9a-f]{16}\n")
_EPOCH_NUM_BYTES = 17
_TYPES = [str, int, int, int]
# Publications take less than that between the change and its line.
_NUM_LOOKS = 5
_LOOK_SECS = 0.001
# A change and the times that it leaves lie closer together.
_TICK_NS = 20_000_000


@dataclasses.dataclass(frozen=True)
class Position:
    """The last state of the folder that a reader saw.

    Attributes:
      epoch: names the journal; empty if there was none.
      offset: where its next line begins.
      mark: the modification time of the folder, nanoseconds.
    """

    epoch: bytes
    offset: int
    mark: int


@dataclasses.dataclass(frozen=True)
class _Line:
    """A publication: a record, and the folder's time before and after.

    Attributes:
      name: of the record.
      before: the modification time of the folder, nanoseconds.
      after: the one that the publication left.
      changed: that of the record.
    """

    name: str
    before: int
    after: int
    changed: int


class Journal:
    """The publications in one folder of records.

    Args:
      folder: path of the records.
      path: of the journal, in a folder that exists when it is written.
    """

    def __init__(self, folder: str, path: str):
        self._folder = folder
        self._path = path

    def position(self) -> Position | None:
        """Returns where `changes` begins; taken before all records are read.

        None where the folder changed so lately that its time could not tell
        the next change.
        """
        mark = self._mark()
        if mark is None:
            return None
        epoch, offset, lines = self._lines(None)
        is_own = bool(lines) and lines[-1].after == mark
        is_coarse = mark % 1_000_000_000 == 0
        if not is_own and (is_coarse or time.time_ns() - mark < _TICK_NS):
            return None
        return Position(epoch, offset, mark)

    def changes(
        self, since: Position | None
    ) -> tuple[Position | None, list[str] | None]:
        """Returns (the position now, records changed since the other one).

        The records are None if all must be looked at.
        """
        for attempt in range(_NUM_LOOKS if since is not None else 0):
            if attempt:
                # A publication may be about to write its line.
                time.sleep(_LOOK_SECS)
            assert since is not None
            mark = self._mark()
            if mark == since.mark:
                return since, []
            epoch, offset, lines = self._lines(since)
            marks = [since.mark, *(line.after for line in lines)]
            if [line.before for line in lines] != marks[:-1]:
                break
            if mark in marks:
                names = list(dict.fromkeys(line.name for line in lines))
                return Position(epoch, offset, marks[-1]), names
        return self.position(), None

    @contextlib.contextmanager
    def publication(self, name: str, path: str) -> Iterator[None]:
        """Writes down a change that is made in its block.

        The caller holds the lock of publications. What fails here is no
        reason to refuse the change: readers look at all records then.

        Args:
          name: of the record.
          path: of the same, as the block leaves it.
        """
        before = self._mark()
        yield
        with contextlib.suppress(OSError):
            changed = self._mark()
            record = os.lstat(path)
            # No other change leaves this value, however coarse the clock is.
            after = time.time_ns()
            after += 1 + secrets.randbelow(999) - after % 1000
            os.utime(self._folder, ns=(after, after))
            # A process that stood still in between may have missed a change
            # of another program; and some file systems have coarse times.
            if (
                before is not None
                and changed is not None
                and abs(record.st_ctime_ns - changed) < _TICK_NS
                and self._mark() == after
            ):
                self._append(_Line(name, before, after, record.st_mtime_ns))

    def problem(self) -> str | None:
        """Returns what a journal says that is not so, or None.

        One that is damaged or not complete is none: readers notice that, and
        the next publication makes it anew.
        """
        mark = self._mark()
        epoch, _, lines = self._lines(Position(b"", 0, 0))
        if mark is None or not epoch:
            return None
        newest: dict[str, int] = {}
        after = mark
        for line in reversed(lines):
            if line.after != after:
                break
            after = line.before
            newest.setdefault(line.name, line.changed)
        for name, changed in newest.items():
            path = os.path.join(self._folder, os.path.basename(name))
            with contextlib.suppress(OSError):
                # Unless another job has published meanwhile.
                if os.lstat(path).st_mtime_ns != changed and (
                    self._mark() == mark
                ):
                    return f"{JOURNAL_FILE} lacks a change of {name}"
        return None

    def _mark(self) -> int | None:
        try:
            return os.stat(self._folder).st_mtime_ns
        except FileNotFoundError:
            return None

    def _lines(
        self, since: Position | None
    ) -> tuple[bytes, int, Sequence[_Line]]:
        """Returns (epoch, where the next line begins, lines).

        The lines are those since a position, or the last ones. There are
        none where they cannot be read.
        """
        try:
            with guarded_file.open_regular(self._path) as handle:
                epoch = os.pread(handle, _EPOCH_NUM_BYTES, 0)
                num_bytes = os.fstat(handle).st_size
                start = max(_EPOCH_NUM_BYTES, num_bytes - _TAIL_NUM_BYTES)
                if since is not None:
                    start = _EPOCH_NUM_BYTES
                    if epoch == since.epoch:
                        start = since.offset
                    elif since.epoch:
                        return epoch, 0, ()
                data = os.pread(handle, 2 * _NUM_BYTES_MAX, start)
        except (OSError, errors.StoreError):
            return b"", 0, ()
        # The last line may be half written.
        data = data[: data.rfind(b"\n") + 1]
        offset = start + len(data)
        if since is None and start > _EPOCH_NUM_BYTES:
            data = data[data.find(b"\n") + 1 :]
        lines = _parsed(data)
        if lines is None or not _EPOCH.match(epoch):
            return b"", 0, ()
        return epoch, offset, lines

    def _append(self, line: _Line) -> None:
        data = json.dumps(dataclasses.astuple(line)).encode() + b"\n"
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            handle = os.open(self._path, flags | os.O_CLOEXEC)
        except OSError:
            # There is none, or something else is in its place.
            self._begin(data)
            return
        try:
            if stat.S_ISREG(os.fstat(handle).st_mode):
                num_bytes = os.fstat(handle).st_size
                epoch, offset, _ = self._lines(None)
                # What is damaged at its end begins anew too.
                is_whole = bool(epoch) and offset == num_bytes
                if is_whole and num_bytes + len(data) <= _NUM_BYTES_MAX:
                    os.write(handle, data)
                    return
        finally:
            os.close(handle)
        self._begin(data)

    def _begin(self, data: bytes) -> None:
        """Puts a new journal in the place of the old one."""
        folder, name = os.path.split(self._path)
        start = f"{storage.TEMPORARY_PREFIX}{name}-"
        part = os.path.join(folder, start + unfinished.new_writer_id())
        with open(part, "xb") as file:
            file.write(secrets.token_hex(8).encode() + b"\n" + data)
        os.replace(part, self._path)


def _parsed(data: bytes) -> list[_Line] | None:
    """Returns whole lines of a journal; None if they are others."""
    lines = []
    try:
        for text in data.splitlines():
            line = _Line(*json.loads(text))
            if [type(v) for v in dataclasses.astuple(line)] != _TYPES:
                return None
            lines.append(line)
    except (ValueError, TypeError, RecursionError):
        return None
    return lines
