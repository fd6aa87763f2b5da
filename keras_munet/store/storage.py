"""Defines the storage of a system: names, reads, writes.

Invariant: a file is seen whole or not at all, the old one or the new one; and
no name, wherever it was read, can reach a file outside the system's folder.
"""

from __future__ import annotations

import abc
import copy
import random
import re
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import TypeVar

from keras_munet import errors

# Files being written; no reader ever sees one.
TEMPORARY_PREFIX = ".tmp-"
# 255 is the limit of common file systems, less a temporary's own letters.
_NUM_PART_CHARS_MAX = 200
# A longer line of a file of lines is read in pieces.
LINE_NUM_BYTES_MAX = 16 << 20
# Eight agents that tell something at once are done within some seconds.
APPEND_SECS = 120.0
# `lines` reads in parts: many files may be read side by side.
_FIRST_PART_NUM_BYTES = 16 << 10
_PART_NUM_BYTES = 128 << 10
# What `append` adds to; `compare_and_swap` takes it as a whole.
_APPENDED_NUM_BYTES_MAX = 1 << 30
_PART = re.compile(r"[A-Za-z0-9._~+-]+")
_StorageT = TypeVar("_StorageT", bound="Storage")


class MissingFileError(errors.StoreError):
    """The requested file does not exist."""


class LockHeldError(errors.UsageError):
    """Another holder has the lock.

    Attributes:
      holder: what the holder wrote about itself, `""` if nothing.
    """

    def __init__(self, message: str, holder: str):
        super().__init__(message)
        self.holder = holder


class NotInTimeError(errors.StoreError):
    """A lock was not to be had within the time given."""


class Lock(abc.ABC):
    """A lock that is held until `release`, or until its process ends."""

    @abc.abstractmethod
    def release(self) -> None:
        """Lets others have the lock; a second call does nothing."""


class Storage(abc.ABC):
    """Named byte strings under one root.

    Names are relative, with `/` between their parts. Every method raises
    StoreError for a name that `check_name` refuses and for what the medium
    refuses (full, read-only, not permitted).
    """

    # Whether `append` adds to a file in place, and need not write it again.
    can_append = False
    # How many files are best read side by side.
    num_reads_at_once = 1
    # Whether `changes` tells what any program changed, and not only what this
    # version publishes; what it does not tell, it tells some minutes later.
    tells_every_change = True
    _fence: Callable[[], None] | None = None

    def fenced(self: _StorageT, fence: Callable[[], None]) -> _StorageT:
        """Returns the same files, with `fence` before each change of one.

        `write_atomic` and `delete` prepare the change, call `fence`, and then
        do it in one step. The step fails if `revoke` came after the call: so
        a process that `fence` lets pass and that then stands still, however
        long, changes nothing afterwards.

        Args:
          fence: raises if this process may not change the files any more.
        """
        twin = copy.copy(self)
        twin._fence = fence
        return twin

    @abc.abstractmethod
    def revoke(self, name: str) -> None:
        """Makes the changes of a file fail that others are about to make.

        Only those of `fenced` files whose fence was passed before.
        """

    def _revoked(self, name: str) -> errors.StoreError:
        """Returns, or raises, the error for a change that failed so."""
        if self._fence is not None:
            self._fence()
        return errors.StoreError(
            f"{self.where}/{name} was changed by another process meanwhile; "
            "nothing published is lost, run again to continue"
        )

    @property
    @abc.abstractmethod
    def where(self) -> str:
        """The root as messages show it."""

    @property
    def location(self) -> str:
        """The root as `files.open_storage` takes it."""
        return self.where

    @abc.abstractmethod
    def read(self, name: str, num_bytes_max: int) -> bytes:
        """Returns a whole file.

        Raises:
          MissingFileError: there is none.
          StoreError: it is larger than `num_bytes_max`, found out before
            anything is read.
        """

    @abc.abstractmethod
    def read_head(self, name: str, num_bytes: int) -> bytes:
        """Returns the first `num_bytes` bytes, or all of a shorter file.

        Raises:
          MissingFileError: there is none.
        """

    @abc.abstractmethod
    def read_part(self, name: str, start: int, num_bytes: int) -> bytes:
        """Returns `num_bytes` bytes from `start` on, fewer at the end.

        Raises:
          MissingFileError: there is none.
        """

    def lines(self, name: str, num_bytes_max: int) -> Iterator[bytes]:
        """Yields the lines of a file; a very long one comes in pieces.

        A part of the file is in memory at a time, and no file stays open.

        Raises:
          MissingFileError: there is none.
          StoreError: it is larger than `num_bytes_max`, perhaps found out
            only at the end.
        """
        start, rest = 0, b""
        num_bytes = _FIRST_PART_NUM_BYTES
        while start < num_bytes_max:
            data = self.read_part(
                name, start, min(num_bytes, num_bytes_max - start)
            )
            if not data:
                if rest:
                    yield rest
                return
            start += len(data)
            num_bytes = _PART_NUM_BYTES
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                yield line + b"\n"
            if len(rest) >= LINE_NUM_BYTES_MAX:
                yield rest
                rest = b""
        if self.read_part(name, start, 1):
            raise errors.StoreError(
                f"{self.where}/{name} is larger than is allowed: the rest of "
                "it is not read"
            )
        if rest:
            yield rest

    def append(self, name: str, data: bytes) -> None:
        """Adds to the end of a file, which is made if there is none.

        Nothing that others add is lost. Where a medium can only replace whole
        files, this writes the file again: for files of some megabytes.

        Raises:
          StoreError: the write failed, or others never stop writing.
        """
        for _ in pauses(0.2, 5.0, APPEND_SECS):
            try:
                before = self.read(name, _APPENDED_NUM_BYTES_MAX)
            except MissingFileError:
                before = None
            if self.compare_and_swap(name, before, (before or b"") + data):
                return
        raise errors.StoreError(
            f"{self.where}/{name} was changed by others again and again for "
            f"{APPEND_SECS:g} s while a line was added; run again"
        )

    @abc.abstractmethod
    def write_atomic(self, name: str, data: bytes) -> None:
        """Puts `data` in the place of `name`, durably, in one step.

        Raises:
          StoreError: it failed; the old file is then still there, or in the
            one case of an unsynced folder the new one; never a mixture.
        """

    @abc.abstractmethod
    def compare_and_swap(
        self,
        name: str,
        expected: bytes | None,
        data: bytes | None,
        *,
        durable: bool = True,
    ) -> bool:
        """Replaces a file only if it still holds what the caller saw.

        Of several callers that expect the same, one succeeds; nothing is
        lost between the comparison and the write.

        Args:
          name: the file.
          expected: what it must hold; None if there must be none.
          data: what it shall hold; None deletes it.
          durable: whether to wait for the disk.

        Returns:
          Whether it was replaced.

        Raises:
          StoreError: the write failed, as `write_atomic` says; or another
            process is stopped in the midst of such a write.
        """

    def publish(self, name: str, expected: bytes | None, data: bytes) -> bool:
        """Replaces a task's record as `compare_and_swap` does.

        Where it can, it also writes down that the record has changed.
        """
        return self.compare_and_swap(name, expected, data)

    def position(self, folder: str) -> object:
        """Returns where `changes` begins; None where nothing tells changes."""
        del folder
        return None

    def changes(
        self, folder: str, since: object
    ) -> tuple[object, Sequence[str] | None]:
        """Returns which files in `folder` have changed since a position.

        Args:
          folder: of task records.
          since: what `position` or this returned last.

        Returns:
          The position now, to be taken before the files are read, and their
          names; None where all must be looked at.
        """
        del since
        return self.position(folder), None

    def journal_problem(self, folder: str) -> str | None:
        """Returns what is wrong with what `changes` reads, or None."""
        del folder
        return None

    @abc.abstractmethod
    def folder_version(self, folder: str) -> object:
        """Returns a value that changes whenever a file in `folder` does.

        Returns:
          None where the medium cannot tell, e.g. because a change was so
          recent that its clock could not tell it from the next.
        """

    @abc.abstractmethod
    def versions(self, folder: str) -> dict[str, object]:
        """Returns the name of every file in `folder` and its version.

        Only files directly in it count, in no order. A version changes
        whenever the file is written; it is None where the medium cannot tell.
        """

    def version(self, name: str) -> object:
        """Returns the version of one file, as `versions` does, or None."""
        del name
        return None

    @abc.abstractmethod
    def sync(self, name: str) -> None:
        """Makes sure that an existing file would survive a power loss.

        Raises:
          MissingFileError: there is none.
        """

    @abc.abstractmethod
    def list(self, folder: str = "") -> Iterator[str]:
        """Yields the names of all files below `folder`, sorted.

        The names are complete (they begin with `folder`). Temporaries are
        left out; names that `check_name` would refuse are not.
        """

    @abc.abstractmethod
    def temporaries(self) -> Iterator[str]:
        """Yields unfinished writes; `delete` and `age_secs` take them.

        Some may still be written: `core.unfinished` tells. Names that
        `check_name` refuses are left out.
        """

    @abc.abstractmethod
    def exists(self, name: str) -> bool:
        """Returns whether there is a file (a folder is none) of this name."""

    @abc.abstractmethod
    def num_bytes(self, name: str) -> int:
        """Returns the size of a file.

        Raises:
          MissingFileError: there is none.
        """

    @abc.abstractmethod
    def age_secs(self, name: str) -> float:
        """Returns how long ago a file was written, by the machine's clock.

        A clock that jumps makes it wrong, even negative: nothing that must
        hold may rest on it.

        Raises:
          MissingFileError: there is none.
        """

    @abc.abstractmethod
    def delete(self, name: str) -> None:
        """Removes a file; one that does not exist is no error."""

    @abc.abstractmethod
    def lock(self, name: str, holder: str, *, shared: bool = False) -> Lock:
        """Takes a lock that one holder at a time can have.

        Args:
          name: of the lock's file, which is made and stays.
          holder: one line about the holder, for those who are refused.
          shared: whether others may share it, who ask for that too.

        Raises:
          LockHeldError: another holder has it.
        """

    def require_locks(self) -> None:  # noqa: B027
        """Makes sure that a lock excludes other processes.

        Raises:
          UsageError: it does not.
        """

    @abc.abstractmethod
    def locks_in_use(self, names: Iterable[str]) -> set[str]:
        """Returns those of the locks that a holder has alone who lives.

        All are looked at together: it takes no longer for many than for one.
        A lock without a file has no holder.
        """


def pauses(
    first_secs: float, longest_secs: float, num_secs: float
) -> Iterator[None]:
    """Yields once per try, with a longer and random pause between two.

    Processes that were in each other's way once do not meet again at the same
    moment.

    Args:
      first_secs: the most that the first pause takes.
      longest_secs: the most that any takes.
      num_secs: after which there is no further try.
    """
    deadline = time.monotonic() + num_secs
    pause_secs = first_secs
    yield
    while time.monotonic() < deadline:
        time.sleep(random.uniform(0.0, pause_secs))
        pause_secs = min(2 * pause_secs, longest_secs)
        yield


def wait_for_lock(take: Callable[[], Lock], num_secs: float) -> Lock:
    """Returns the lock that `take` takes, once no other holder has it.

    Raises:
      NotInTimeError: others have it for longer than `num_secs`.
    """
    last_error: LockHeldError | None = None
    for _ in pauses(0.002, 0.1, num_secs):
        try:
            return take()
        except LockHeldError as error:
            last_error = error
    raise NotInTimeError(
        f"waited {num_secs:g} s in vain: {last_error}; end the process that "
        "has it, which may be stopped"
    ) from last_error


def is_name(name: str, *, temporary: bool = False) -> bool:
    """Returns whether `check_name` lets a name pass."""
    try:
        check_name(name, temporary=temporary)
    except errors.StoreError:
        return False
    return True


def check_name(name: str, *, temporary: bool = False) -> str:
    """Returns `name` if it can name a file below the root.

    Letters, digits and `. _ ~ + -` only: this leaves no way to write a parent
    folder, an absolute path, a drive, a NUL, or two spellings of one name.

    Args:
      name: parts joined by `/`.
      temporary: whether the name of an unfinished write is allowed too.

    Raises:
      StoreError: it cannot.
    """
    parts = name.split("/") if isinstance(name, str) else [""]
    for part in parts:
        if (
            not _PART.fullmatch(part)
            or part in (".", "..")
            or len(part) > _NUM_PART_CHARS_MAX
        ):
            raise errors.StoreError(
                f"{name!a} cannot name a file of a system: use letters, "
                "digits and . _ ~ + - in parts joined by '/', none of them "
                f"'.' or '..', each at most {_NUM_PART_CHARS_MAX} characters"
            )
    if any(is_temporary(part) for part in parts) and not temporary:
        raise errors.StoreError(
            f"{name!a} begins like an unfinished write; use a name "
            f"without {TEMPORARY_PREFIX!r} in front"
        )
    return name


def is_temporary(name: str) -> bool:
    """Returns whether `name` belongs to an unfinished write."""
    return name.rsplit("/", 1)[-1].startswith(TEMPORARY_PREFIX)
