"""Ways in which a disk, or what it hangs on, fails the process that arms them.

Invariant: what a power loss takes was never promised: data of a file are safe
after its fsync; a name that was made, replaced or removed, after that of its
folder. What one process left unsynced, a power loss in a later one can take.
"""

from __future__ import annotations

import ast
import errno
import os
import pathlib
import random
import shutil
import signal
import time

# What changes the disk, or finds out that it cannot be.
CALLS = ("open", "write", "fsync", "replace", "mkdir", "unlink", "ftruncate")
# A disk that is full still reads, deletes and syncs.
_GROWING = ("write", "mkdir", "replace")


def arm(handle) -> None:
    """Passes this process's calls that change the disk through `handle`."""

    def wrapped(name, real):
        return lambda *args, **kwargs: handle(name, real, args, kwargs)

    for name in CALLS:
        setattr(os, name, wrapped(name, getattr(os, name)))


def die_at(
    number: int, rng: random.Random, journal: pathlib.Path, *, loses_power: bool
) -> None:
    """Arms this process to die at one of its calls.

    Args:
      number: how many calls are let through.
      rng: decides how much of a torn write arrives, and what is lost.
      journal: what earlier jobs left unsynced, and this one does.
      loses_power: whether what no fsync covers is lost, torn or reordered.
    """
    seen = [0]
    disk = _Disk(journal)

    def handle(name, real, args, kwargs):
        seen[0] += 1
        if seen[0] > number:
            disk.disarm()
            if name == "write":
                part = bytes(args[1])[: rng.randint(0, len(args[1]))]
                disk.seen(name, real, (args[0], part), {})
            if loses_power:
                disk.lose(rng)
            else:
                disk.save()
            os.kill(os.getpid(), signal.SIGKILL)
        return disk.seen(name, real, args, kwargs)

    arm(handle)


def fail_at(number: int, code: int, *, lasts: bool) -> None:
    """Arms this process so that one of its calls fails.

    Args:
      number: which one, from 1.
      code: the error.
      lasts: whether all later calls fail too (of a full disk: those that
        make something).
    """
    seen = [0]

    def handle(name, real, args, kwargs):
        seen[0] += 1
        later = lasts and seen[0] > number
        if later and code == errno.ENOSPC:
            later = name in _GROWING or (
                name == "open" and bool(args[1] & os.O_CREAT)
            )
        if seen[0] == number or later:
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    arm(handle)


def write_little(rng: random.Random) -> None:
    """Has the writes of this process take a part of what they are given."""
    real = os.write
    os.write = lambda handle, data: real(
        handle, data[: rng.randint(1, len(data))]
    )


class _Disk:
    """Knows what a power loss now could take, and takes some of it.

    Data of a file are safe after its fsync; a name that was made, replaced or
    removed is safe after the fsync of its folder.
    """

    def __init__(self, journal: pathlib.Path):
        self._journal = journal
        self._paths: dict[int, str] = {}
        # Inode -> path of files whose data are not safe.
        self._dirty: dict[int, str] = {}
        # Path -> what it held when it was last safe.
        self._before: dict[str, bytes | None] = {}
        self._real = {name: getattr(os, name) for name in CALLS}
        if journal.exists():
            self._dirty, self._before = ast.literal_eval(journal.read_text())

    def disarm(self) -> None:
        """Lets the calls of this process through again."""
        for name, real in self._real.items():
            setattr(os, name, real)

    def save(self) -> None:
        """Leaves what is not safe to the next job: the kernel lives on."""
        self._journal.write_text(repr((self._dirty, self._before)))

    def seen(self, name, real, args, kwargs):
        """Does a call and takes note of it."""
        if name in ("replace", "unlink", "mkdir"):
            path = os.fspath(args[1] if name == "replace" else args[0])
            self._remember(path)
        result = real(*args, **kwargs)
        if name == "open":
            self._paths[result] = os.fspath(args[0])
        elif name == "write":
            inode = os.fstat(args[0]).st_ino
            self._dirty[inode] = self._paths[args[0]]
        elif name == "replace":
            inode = os.stat(args[1]).st_ino
            if inode in self._dirty:
                self._dirty[inode] = os.fspath(args[1])
        elif name == "fsync":
            self._dirty.pop(os.fstat(args[0]).st_ino, None)
            folder = self._paths[args[0]]
            for path in list(self._before):
                if os.path.dirname(path) == folder:
                    del self._before[path]
        return result

    def _remember(self, path: str) -> None:
        if path in self._before or os.path.isdir(path):
            return
        try:
            self._before[path] = pathlib.Path(path).read_bytes()
        except FileNotFoundError:
            self._before[path] = None

    def lose(self, rng: random.Random) -> None:
        """Undoes and tears what is not safe, each with even odds."""
        for path in self._dirty.values():
            if os.path.exists(path) and rng.random() < 0.5:
                data = pathlib.Path(path).read_bytes()
                whole = rng.randint(0, len(data))
                # Never written, or written as a hole.
                rest = rng.choice([b"", bytes(len(data) - whole)])
                self._put(path, data[:whole] + rest)
        for path, old in self._before.items():
            if rng.random() < 0.5:
                self._put(path, old)
        self._journal.unlink(missing_ok=True)

    def _put(self, path: str, data: bytes | None) -> None:
        if data is None and os.path.isdir(path):
            shutil.rmtree(path)
        elif data is None:
            pathlib.Path(path).unlink(missing_ok=True)
        elif os.path.isdir(os.path.dirname(path)):
            with open(path, "wb") as file:
                file.write(data)


def jump_about(rng: random.Random) -> None:
    """Has this process see a wall clock that jumps."""
    real = time.time
    time.time = lambda: real() + rng.choice([0, 0, -1e6, 1e6, 3600, -3600])
