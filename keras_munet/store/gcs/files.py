"""The folder of a Google Cloud Storage bucket that keeps a system.

Invariant: `write_atomic` and `compare_and_swap` are one upload; the bucket
refuses the latter unless the object has the compared generation; a process that
lost a lock writes nothing (see `locks`).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence

from keras_munet import errors
from keras_munet.store import storage
from keras_munet.store.gcs import bucket as bucket_lib
from keras_munet.store.gcs import locks
from keras_munet.store.gcs import publications

# Between two looks at a file that is replaced while it is read, at most.
_PAUSE_SECS = 0.1
_PAUSE_SECS_MAX = 2.0
# After which a reader looks at all records again: jobs of versions before
# 2026-12 do not announce what they publish.
_LOOK_SECS = 300.0


@dataclasses.dataclass(frozen=True)
class _Position:
    """The publications that a reader saw, and when it looked at all records."""

    announced: publications.Position
    looked: float


class GcsStorage(storage.Storage):
    """Files below `gs://bucket/folder`.

    Credentials are those of the machine, as the library finds them.

    Args:
      text: `gs://bucket/folder`.
      retry_secs: how long a request is made again that fails in passing.
      term_secs: how long a lock that is not renewed is respected.

    Raises:
      UsageError: `text` is none, or `google-cloud-storage` is not there.
    """

    tells_every_change = False
    # Each waits for answers most of the time.
    num_reads_at_once = 16

    def __init__(
        self,
        text: str,
        *,
        retry_secs: float = bucket_lib.RETRY_SECS,
        term_secs: float = locks.TERM_SECS,
    ):
        bucket, folder = bucket_lib.parse_url(text)
        self._bucket = bucket_lib.Bucket(bucket, folder, retry_secs)
        self._locks = locks.Locks(self._bucket, term_secs)
        self._publications = publications.Publications(
            self._bucket, self._locks.verify, retry_secs
        )
        self._retry_secs = retry_secs
        # Folders that are known to have files: no file has their name.
        self._folders: set[str] = set()

    @property
    def where(self) -> str:
        """The folder, `gs://` in front."""
        return self._bucket.where

    def read(self, name: str, num_bytes_max: int) -> bytes:
        """Returns a whole file; see `storage.Storage`."""
        for _ in self._tries():
            info = self._get(name)
            if info.num_bytes > num_bytes_max:
                raise errors.StoreError(
                    f"{self.where}/{name} has {info.num_bytes} bytes; at "
                    f"most {num_bytes_max} are allowed: it is not what its "
                    "name says"
                )
            data = self._bucket.read(name, info)
            if data is not None:
                return data
        raise self._restless(name)

    def read_head(self, name: str, num_bytes: int) -> bytes:
        """Returns the first bytes; see `storage.Storage`."""
        for _ in self._tries():
            data = self._bucket.read(name, self._get(name), num_bytes)
            if data is not None:
                return data
        raise self._restless(name)

    def read_part(self, name: str, start: int, num_bytes: int) -> bytes:
        """Returns a part of a file; see `storage.Storage`."""
        for _ in self._tries():
            data = self._bucket.read(name, self._get(name), num_bytes, start)
            if data is not None:
                return data
        raise self._restless(name)

    def write_atomic(self, name: str, data: bytes) -> None:
        """Replaces a file in one step; see `storage.Storage`."""
        self._check_free(name)
        if self._fence is None:
            self._write(name, bytes(data))
            return
        info = self._bucket.find(name)
        self._fence()
        generation = info.generation if info else 0
        if self._write(name, bytes(data), generation) is None:
            raise self._revoked(name)

    def revoke(self, name: str) -> None:
        """Gives a file another generation; see `storage.Storage`."""
        info = self._bucket.find(_checked(name))
        if info is not None:
            data = self._bucket.read(name, info)
            if data is not None:
                self._write(name, data, info.generation)

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
        _checked(name)
        info = self._bucket.find(name)
        if expected is None:
            if info is not None or data is None:
                return info is None
            self._check_free(name)
            return self._write(name, data, 0) is not None
        if info is None or info.num_bytes != len(expected):
            return False
        if self._bucket.read(name, info) != expected:
            return False
        if data is None:
            return self._delete(name, info.generation)
        return self._write(name, data, info.generation) is not None

    def publish(self, name: str, expected: bytes | None, data: bytes) -> bool:
        """Replaces a record and announces it; see `storage.Storage`."""
        with self._publications.publication(_checked(name)):
            return self.compare_and_swap(name, expected, data)

    def position(self, folder: str) -> object:
        """Returns the last publication; see `storage.Storage`."""
        del folder
        looked = time.monotonic()
        announced = self._publications.position()
        return None if announced is None else _Position(announced, looked)

    def changes(
        self, folder: str, since: object
    ) -> tuple[object, Sequence[str] | None]:
        """Returns what jobs announced since; see `storage.Storage`."""
        if since is not None:
            assert isinstance(since, _Position)
            if time.monotonic() - since.looked < _LOOK_SECS:
                changes = self._publications.changes(since.announced)
                if changes is not None:
                    return _Position(changes[0], since.looked), changes[1]
        return self.position(folder), None

    def folder_version(self, folder: str) -> object:
        """Returns None: a bucket has no folders that could have one."""
        _checked(folder)
        return None

    def versions(self, folder: str) -> dict[str, object]:
        """Returns the generation of every file; see `storage.Storage`."""
        above = f"{_checked(folder)}/"
        return {
            name: info.generation
            for name, info in self._bucket.list(above, is_flat=True)
            if not storage.is_temporary(name)
        }

    def version(self, name: str) -> object:
        """Returns the generation of one file; see `storage.Storage`."""
        info = self._bucket.find(_checked(name))
        return None if info is None else info.generation

    def sync(self, name: str) -> None:
        """Looks only whether the file exists: what a bucket has, it keeps."""
        self._get(name)

    def list(self, folder: str = "") -> Iterator[str]:
        """Yields names; see `storage.Storage`."""
        for name in self._names(f"{_checked(folder)}/" if folder else ""):
            if not storage.is_temporary(name):
                yield name

    def temporaries(self) -> Iterator[str]:
        """Yields what a copied folder brought along: uploads leave none."""
        for name in self._names(""):
            if storage.is_temporary(name) and storage.is_name(
                name, temporary=True
            ):
                yield name

    def exists(self, name: str) -> bool:
        """Returns whether there is such a file; see `storage.Storage`."""
        return self._bucket.find(_checked(name)) is not None

    def num_bytes(self, name: str) -> int:
        """Returns a size; see `storage.Storage`."""
        return self._get(name).num_bytes

    def age_secs(self, name: str) -> float:
        """Returns the time since the last write; see `storage.Storage`."""
        info = self._get(name, temporary=True)
        return time.time() - info.written.timestamp()

    def delete(self, name: str) -> None:
        """Removes a file; see `storage.Storage`."""
        _checked(name, temporary=True)
        if self._fence is None:
            self._delete(name)
            return
        info = self._bucket.find(name)
        self._fence()
        if info is not None:
            self._delete(name, info.generation)

    def lock(
        self, name: str, holder: str, *, shared: bool = False
    ) -> storage.Lock:
        """Takes a lock that ends when its holder does not renew it.

        If another holds it, this waits until that one is seen to live (the
        sixth of a term at most) or until the term is over. A file is made of
        locks that are held alone.
        """
        return self._locks.acquire(_checked(name), holder, shared=shared)

    def locks_in_use(self, names: Iterable[str]) -> set[str]:
        """Watches the locks within one term; see `storage.Storage`.

        Those of dead holders are free afterwards.
        """
        return self._locks.exclusive_locks(map(_checked, names))

    def _write(
        self, name: str, data: bytes, generation: int | None = None
    ) -> int | None:
        return self._bucket.write(
            name, data, generation, verify=self._locks.verify
        )

    def _delete(self, name: str, generation: int | None = None) -> bool:
        return self._bucket.delete(name, generation, verify=self._locks.verify)

    def _get(
        self, name: str, *, temporary: bool = False
    ) -> bucket_lib.ObjectInfo:
        info = self._bucket.find(_checked(name, temporary=temporary))
        if info is None:
            raise storage.MissingFileError(
                f"{self.where}/{name} does not exist; check the name, or "
                "restore it from a copy of the system"
            )
        return info

    def _check_free(self, name: str) -> None:
        """Verifies that `name` is no folder and lies below no file.

        A bucket would not mind; a copy of it in a local folder would.
        """
        folder = _checked(name).rpartition("/")[0]
        above = folder
        while above and above not in self._folders:
            if self._bucket.find(above) is not None:
                raise errors.StoreError(
                    f"{self.where}/{name} cannot be written: {above} is a "
                    "file where a folder should be; use another name"
                )
            above = above.rpartition("/")[0]
        if any(True for _ in self._bucket.list(f"{name}/", num_max=1)):
            raise errors.StoreError(
                f"{self.where}/{name} cannot be written: it is a folder where "
                "a file should be; use another name"
            )
        while folder:
            self._folders.add(folder)
            folder = folder.rpartition("/")[0]

    def _names(self, start: str) -> Iterator[str]:
        for name, _ in self._bucket.list(start):
            if not _is_hidden(name):
                yield name

    def _tries(self) -> Iterator[None]:
        return storage.pauses(_PAUSE_SECS, _PAUSE_SECS_MAX, self._retry_secs)

    def _restless(self, name: str) -> errors.StoreError:
        return errors.StoreError(
            f"{self.where}/{name} was replaced again and again for "
            f"{self._retry_secs:g} s while it was read; run again"
        )


def _checked(name: str, *, temporary: bool = False) -> str:
    storage.check_name(name, temporary=temporary)
    if _is_hidden(name):
        raise errors.StoreError(
            f"{name!a} belongs to the locks of a bucket; use another name"
        )
    return name


def _is_hidden(name: str) -> bool:
    return name.split("/", 1)[0] == locks.SHARED_DIR
