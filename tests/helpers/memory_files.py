"""A system's files in this process's memory, for tests.

Invariant: it answers as a local folder would, names and refusals included;
one contract test class runs against both.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

from keras_munet import errors
from keras_munet.store import storage


class MemoryFiles(storage.Storage):
    """Files in this process's memory: for tests."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}
        # Name -> (holder, how many share it; 0 for one alone).
        self._locks: dict[str, tuple[str, int]] = {}
        self._write_numbers = itertools.count(1)
        self._versions: dict[str, int] = {}
        self._times: dict[str, float] = {}
        self._mutex = threading.RLock()

    @property
    def where(self) -> str:
        """A word that stands for the memory."""
        return "memory:"

    def read(self, name: str, num_bytes_max: int) -> bytes:
        """Returns a whole file; see `storage.Storage`."""
        data = self._get(name)
        if len(data) > num_bytes_max:
            raise errors.StoreError(
                f"{self.where}{name} has {len(data)} bytes; at most "
                f"{num_bytes_max} are allowed: it is not what its name says"
            )
        return data

    def read_head(self, name: str, num_bytes: int) -> bytes:
        """Returns the first bytes; see `storage.Storage`."""
        return self._get(name)[:num_bytes]

    def read_part(self, name: str, start: int, num_bytes: int) -> bytes:
        """Returns a part of a file; see `storage.Storage`."""
        return self._get(name)[start : start + num_bytes]

    def write_atomic(self, name: str, data: bytes) -> None:
        """Replaces a file in one step; see `storage.Storage`."""
        storage.check_name(name)
        data = bytes(data)
        with self._after_fence(name):
            above = name.rpartition("/")[0]
            while above:
                if above in self._data:
                    raise errors.StoreError(
                        f"{self.where}{name} cannot be written: {above} is a "
                        "file where a folder should be; use another name"
                    )
                above = above.rpartition("/")[0]
            if any(other.startswith(f"{name}/") for other in self._data):
                raise errors.StoreError(
                    f"{self.where}{name} cannot be written: it is a folder "
                    "where a file should be; use another name"
                )
            self._put(name, data)

    def compare_and_swap(
        self,
        name: str,
        expected: bytes | None,
        data: bytes | None,
        *,
        durable: bool = True,
    ) -> bool:
        """Replaces a file that holds `expected`; see `storage.Storage`."""
        del durable
        storage.check_name(name)
        with self._mutex:
            if self._data.get(name) != expected:
                return False
            if data is None:
                self.delete(name)
            else:
                self.write_atomic(name, data)
            return True

    def folder_version(self, folder: str) -> object:
        """Returns the number of the folder's last write."""
        return self._versions.get(storage.check_name(folder), 0)

    def versions(self, folder: str) -> dict[str, object]:
        """Returns the number of each file's last write."""
        return {
            name: self._versions[name]
            for name in self.list(folder)
            if "/" not in name[len(folder) + 1 :]
        }

    def sync(self, name: str) -> None:
        """Looks only whether the file exists: memory has no disk."""
        self._get(name)

    def list(self, folder: str = "") -> Iterator[str]:
        """Yields names; see `storage.Storage`."""
        above = f"{storage.check_name(folder)}/" if folder else ""
        with self._mutex:
            found = sorted(n for n in self._data if n.startswith(above))
        yield from found

    def temporaries(self) -> Iterator[str]:
        """Yields nothing: a write cannot be interrupted here."""
        return iter(())

    def exists(self, name: str) -> bool:
        """Whether there is such a file; see `storage.Storage`."""
        return storage.check_name(name) in self._data

    def num_bytes(self, name: str) -> int:
        """Returns a size; see `storage.Storage`."""
        return len(self._get(name))

    def age_secs(self, name: str) -> float:
        """Returns the time since the last write; see `storage.Storage`."""
        self._get(name)
        return time.time() - self._times[name]

    def delete(self, name: str) -> None:
        """Removes a file; see `storage.Storage`."""
        storage.check_name(name, temporary=True)
        with self._after_fence(name):
            if name in self._data:
                self._put(name, None)

    def lock(
        self, name: str, holder: str, *, shared: bool = False
    ) -> storage.Lock:
        """Takes a lock among the users of this object."""
        storage.check_name(name)
        with self._mutex:
            found, num_sharing = self._locks.get(name, ("", 0))
            if name in self._locks and not (shared and num_sharing):
                raise storage.LockHeldError(
                    f"{self.where}{name} is held by {found!a}; wait until it "
                    "is released",
                    found,
                )
            self._locks[name] = holder, num_sharing + 1 if shared else 0
            if name not in self._data:
                self._put(name, b"")
        return _MemoryLock(self._unlock, name)

    def locks_in_use(self, names: Iterable[str]) -> set[str]:
        """Looks at the locks; see `storage.Storage`."""
        with self._mutex:
            return {
                name
                for name in names
                if self._locks.get(storage.check_name(name), ("", 1))[1] == 0
            }

    def revoke(self, name: str) -> None:
        """Counts as a write; see `storage.Storage`."""
        with self._mutex:
            number = next(self._write_numbers)
            self._versions[storage.check_name(name)] = number

    @contextlib.contextmanager
    def _after_fence(self, name: str) -> Iterator[None]:
        """Holds the mutex in a block that begins once the fence is passed."""
        before = self._versions.get(name)
        if self._fence is not None:
            self._fence()
        with self._mutex:
            if self._fence is None or self._versions.get(name) == before:
                yield
                return
        raise self._revoked(name)

    def _unlock(self, name: str) -> None:
        with self._mutex:
            holder, num_sharing = self._locks.pop(name)
            if num_sharing > 1:
                self._locks[name] = holder, num_sharing - 1

    def _put(self, name: str, data: bytes | None) -> None:
        """Sets or removes a file; the caller holds the mutex."""
        number = next(self._write_numbers)
        self._versions[name.rpartition("/")[0]] = number
        self._versions[name] = number
        self._times[name] = time.time()
        if data is None:
            del self._data[name]
        else:
            self._data[name] = data

    def _get(self, name: str) -> bytes:
        data = self._data.get(storage.check_name(name))
        if data is None:
            raise storage.MissingFileError(
                f"{self.where}{name} does not exist; check the name"
            )
        return data


class _MemoryLock(storage.Lock):
    def __init__(self, unlock: Callable[[str], None], name: str):
        self._unlock: Callable[[str], None] | None = unlock
        self._name = name

    def release(self) -> None:
        unlock, self._unlock = self._unlock, None
        if unlock is not None:
            unlock(self._name)
