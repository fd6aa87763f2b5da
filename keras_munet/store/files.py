"""The local folder that keeps a system.

Invariant: `write_atomic` is temp file, fsync, rename, fsync
of the folder, in this order, so that a power loss at any moment leaves the old
or the new file; and nothing is read or written through a symbolic link.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import stat
import time
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence

from keras_munet import errors
from keras_munet.core import guarded_file
from keras_munet.core import system_paths
from keras_munet.core import unfinished
from keras_munet.store import local_lock
from keras_munet.store import os_errors
from keras_munet.store import publication_journal
from keras_munet.store import storage
from keras_munet.store.gcs import files as gcs_files

# Locks under which files are compared and written: few, so that a new task
# needs no new one.
GUARDS_DIR = "locks"
_NUM_GUARDS = 32
_GUARD_SECS = 30.0
# File systems' clocks tick: two changes within one tick look alike.
_TICK_SECS = 0.02
_COARSE_TICK_SECS = 2.5

_NUM_FOLDERS_MAX = 20

# A local folder, or files.
Location = str | os.PathLike[str] | storage.Storage


class LocalStorage(storage.Storage):
    """Files below a local folder, which is made by the first write.

    Args:
      folder: the root.
      durable: whether writes wait for the disk. False is for tests and
        measurements: a power loss may then lose what was written.
    """

    can_append = True

    def __init__(self, folder: str | os.PathLike[str], *, durable: bool = True):
        self._root = os.path.abspath(os.fspath(folder))
        self._durable = durable
        # The root may be a folder of another system, as its report is.
        self._guarded = system_paths.guarded_folder(self._root)
        # Folders whose own entries are known to be on the disk.
        self._synced_folders: set[str] = set()

    @property
    def where(self) -> str:
        """The absolute path of the root."""
        return os_errors.show(self._root)

    @property
    def location(self) -> str:
        """The absolute path of the root."""
        return self._root

    def read(self, name: str, num_bytes_max: int) -> bytes:
        """Returns a whole file; see `storage.Storage`."""
        path = self._path(name)
        with os_errors.as_store_errors(path, "read"):
            return guarded_file.read_file(path, num_bytes_max)

    def read_part(self, name: str, start: int, num_bytes: int) -> bytes:
        """Returns a part of a file; see `storage.Storage`."""
        path = self._path(name)
        with (
            os_errors.as_store_errors(path, "read"),
            guarded_file.open_regular(path) as handle,
        ):
            os.lseek(handle, start, os.SEEK_SET)
            return guarded_file.read_up_to(handle, num_bytes)

    def append(self, name: str, data: bytes) -> None:
        """Adds to the end of a file; see `storage.Storage`."""
        path = self._path(name)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        flags |= os.O_NONBLOCK | os.O_CLOEXEC
        with os_errors.as_store_errors(path, "written"):
            handle = os.open(path, flags, 0o666)
            try:
                guarded_file.check_regular(handle, path)
                _write_all(handle, data)
            finally:
                os.close(handle)

    def read_head(self, name: str, num_bytes: int) -> bytes:
        """Returns the first bytes; see `storage.Storage`."""
        path = self._path(name)
        with (
            os_errors.as_store_errors(path, "read"),
            guarded_file.open_regular(path) as handle,
        ):
            return guarded_file.read_up_to(handle, num_bytes)

    def write_atomic(self, name: str, data: bytes) -> None:
        """Replaces a file in one step; see `storage.Storage`."""
        self._replace(name, data, self._durable)

    def compare_and_swap(
        self,
        name: str,
        expected: bytes | None,
        data: bytes | None,
        *,
        durable: bool = True,
    ) -> bool:
        """Replaces a file that holds `expected`; see `storage.Storage`."""
        guard = self._guard(name)
        try:
            if not self._holds(name, expected):
                return False
            if data is None:
                self.delete(name)
            elif durable:
                self.write_atomic(name, data)
            else:
                self._replace(name, data, False)
            return True
        finally:
            guard.release()

    def publish(self, name: str, expected: bytes | None, data: bytes) -> bool:
        """Replaces a record and journals it; see `storage.Storage`.

        What takes long, the writing, is done before the lock is taken.
        """
        path = self._path(name)
        folder = os.path.dirname(path)
        # Not beside the record: its folder's time shall tell publications.
        temporary = self._temporary(name, self._path(f"{GUARDS_DIR}/any"))
        with os_errors.as_store_errors(path, "written"):
            self._make_folder(folder)
            self._make_folder(os.path.dirname(temporary))
            try:
                self._write_new(temporary, data, self._durable)
                with self._publishing(name):
                    if not self._holds(name, expected):
                        os.unlink(temporary)
                        return False
                    if self._fence is not None:
                        self._fence()
                    with self._journal(folder).publication(name, path):
                        os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            if self._durable:
                self._sync_folder(folder)
        return True

    def position(self, folder: str) -> object:
        """Returns a position in the journal; see `storage.Storage`."""
        return self._journal_of(folder).position()

    def changes(
        self, folder: str, since: object
    ) -> tuple[object, Sequence[str] | None]:
        """Returns what the journal tells; see `storage.Storage`."""
        assert since is None or isinstance(since, publication_journal.Position)
        return self._journal_of(folder).changes(since)

    def journal_problem(self, folder: str) -> str | None:
        """Returns what is wrong with the journal of `folder`, or None."""
        return self._journal_of(folder).problem()

    def _journal_of(self, folder: str) -> publication_journal.Journal:
        return self._journal(os.path.dirname(self._path(f"{folder}/any")))

    def _journal(self, folder: str) -> publication_journal.Journal:
        path = self._path(publication_journal.JOURNAL_FILE)
        return publication_journal.Journal(folder, path)

    @contextlib.contextmanager
    def _publishing(self, name: str) -> Iterator[None]:
        """Holds the locks under which one record is replaced at a time."""
        lock = storage.wait_for_lock(
            lambda: self.lock(
                publication_journal.PUBLISHING_LOCK, str(os.getpid())
            ),
            _GUARD_SECS,
        )
        try:
            guard = self._guard(name)
            try:
                yield
            finally:
                guard.release()
        finally:
            lock.release()

    def _holds(self, name: str, expected: bytes | None) -> bool:
        """Returns whether a file holds `expected`; None for no file."""
        num_bytes = len(expected or b"")
        try:
            current = self.read(name, num_bytes)
        except storage.MissingFileError:
            current = None
        except errors.StoreError:
            # Longer than what is expected: it holds something else.
            if not self.exists(name) or self.num_bytes(name) <= num_bytes:
                raise
            return False
        return current == expected

    def _guard(self, name: str) -> storage.Lock:
        """Waits for the lock under which `name` is compared and written."""
        digest = hashlib.sha256(name.encode()).digest()
        guard = f"{GUARDS_DIR}/{digest[0] % _NUM_GUARDS:02}"
        return storage.wait_for_lock(
            lambda: self.lock(guard, str(os.getpid())), _GUARD_SECS
        )

    def _replace(self, name: str, data: bytes, durable: bool) -> None:
        path = self._path(name)
        folder = os.path.dirname(path)
        temporary = self._temporary(name, path)
        with os_errors.as_store_errors(path, "written"):
            self._make_folder(folder)
            try:
                self._write_new(temporary, data, durable)
                if self._fence is not None:
                    self._fence()
                try:
                    os.replace(temporary, path)
                except FileNotFoundError:
                    if self._fence is None:
                        raise
                    raise self._revoked(name) from None
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            if durable:
                self._sync_folder(folder)

    def revoke(self, name: str) -> None:
        """Makes begun changes miss their file; see `storage.Storage`.

        A write misses its temporary, a delete the file that it looked at.
        """
        path = self._path(name)
        with (
            contextlib.suppress(storage.MissingFileError),
            os_errors.as_store_errors(path, "written"),
        ):
            before = os.lstat(path)
            changed = max(time.time_ns(), before.st_mtime_ns + 1)
            times = before.st_atime_ns, changed
            os.utime(path, ns=times, follow_symlinks=False)
        folder, start = os.path.split(_temporaries_of(name, path))
        try:
            with os_errors.as_store_errors(folder, "listed"):
                begun = [n for n in os.listdir(folder) if n.startswith(start)]
        except storage.MissingFileError:
            return
        for entry in begun:
            with (
                contextlib.suppress(storage.MissingFileError),
                os_errors.as_store_errors(path, "written"),
            ):
                os.unlink(os.path.join(folder, entry))

    def _temporary(self, name: str, path: str) -> str:
        """Returns a new path for what shall become, or was, the file."""
        return _temporaries_of(name, path) + unfinished.new_writer_id()

    def folder_version(self, folder: str) -> object:
        """Returns the time of the folder's last change, once it is past."""
        path = os.path.dirname(self._path(f"{folder}/any"))
        try:
            with os_errors.as_store_errors(path, "looked up"):
                status = os.lstat(path)
        except storage.MissingFileError:
            return None
        return _version(status)

    def versions(self, folder: str) -> dict[str, object]:
        """Returns the version of every file; see `storage.Storage`."""
        path = os.path.dirname(self._path(f"{folder}/any"))
        try:
            with (
                os_errors.as_store_errors(path, "listed"),
                os.scandir(path) as entries,
            ):
                return {
                    f"{folder}/{e.name}": _version(
                        e.stat(follow_symlinks=False)
                    )
                    for e in entries
                    if not storage.is_temporary(e.name)
                }
        except storage.MissingFileError:
            return {}

    def version(self, name: str) -> object:
        """Returns the version of one file; see `storage.Storage`."""
        try:
            return _version(os.lstat(self._path(name)))
        except OSError:
            return None

    def sync(self, name: str) -> None:
        """Makes a file durable; see `storage.Storage`."""
        path = self._path(name)
        with os_errors.as_store_errors(path, "synced"):
            with guarded_file.open_regular(path) as handle:
                self._sync_handle(handle)
            folder = os.path.dirname(path)
            self._make_folder(folder)
            self._sync_folder(folder)

    def list(self, folder: str = "") -> Iterator[str]:
        """Yields names; see `storage.Storage`."""
        for name in self._walk(folder):
            if not storage.is_temporary(name):
                yield name

    def temporaries(self) -> Iterator[str]:
        """Yields unfinished writes; see `storage.Storage`."""
        for name in self._walk(""):
            if storage.is_temporary(name) and storage.is_name(
                name, temporary=True
            ):
                yield name

    def exists(self, name: str) -> bool:
        """Returns whether there is such a file; see `storage.Storage`."""
        path = self._path(name)
        try:
            with os_errors.as_store_errors(path, "looked up"):
                return stat.S_ISREG(os.lstat(path).st_mode)
        except storage.MissingFileError:
            return False
        except errors.StoreError as error:
            if isinstance(error.__cause__, NotADirectoryError):
                return False
            raise

    def num_bytes(self, name: str) -> int:
        """Returns a size; see `storage.Storage`."""
        path = self._path(name)
        with os_errors.as_store_errors(path, "looked up"):
            return os.lstat(path).st_size

    def age_secs(self, name: str) -> float:
        """Returns the time since the last write; see `storage.Storage`."""
        path = self._path(name, temporary=True)
        with os_errors.as_store_errors(path, "looked up"):
            return time.time() - os.lstat(path).st_mtime

    def delete(self, name: str) -> None:
        """Removes a file; see `storage.Storage`."""
        path = self._path(name, temporary=True)
        with (
            contextlib.suppress(storage.MissingFileError),
            os_errors.as_store_errors(path, "deleted"),
        ):
            if self._fence is None:
                os.unlink(path)
            else:
                self._unlink_fenced(name, path)

    def _unlink_fenced(self, name: str, path: str) -> None:
        """Removes a file unless it is replaced after the fence was passed."""
        before = _identity(os.lstat(path))
        assert self._fence is not None
        self._fence()
        # No system call removes a file only if it is a certain one.
        aside = self._temporary(name, path)
        os.rename(path, aside)
        try:
            if _identity(os.lstat(aside)) != before:
                # Another process's newer file: back, unless one newer still
                # is there.
                with contextlib.suppress(FileExistsError):
                    os.link(aside, path)
            os.unlink(aside)
        except OSError:
            # As it was before, for the next try.
            with contextlib.suppress(OSError):
                os.link(aside, path)
            with contextlib.suppress(OSError):
                os.unlink(aside)
            raise

    def lock(
        self, name: str, holder: str, *, shared: bool = False
    ) -> storage.Lock:
        """Takes a lock that the kernel frees when the process dies."""
        path = self._path(name)
        with os_errors.as_store_errors(path, "locked"):
            self._make_folder(os.path.dirname(path))
            return local_lock.acquire_lock(path, holder, shared=shared)

    def require_locks(self) -> None:
        """Tries the locks with a child process; see `storage.Storage`."""
        path = self._path(f"{GUARDS_DIR}/probe")
        with os_errors.as_store_errors(path, "locked"):
            self._make_folder(os.path.dirname(path))
            local_lock.require_exclusion(path)

    def locks_in_use(self, names: Iterable[str]) -> set[str]:
        """Tries each lock; see `storage.Storage`."""
        locked_names = set()
        for name in names:
            if not self.exists(name):
                continue
            try:
                # Shared, so that two who ask at once do not take each other
                # for the holder.
                self.lock(name, "", shared=True).release()
            except storage.LockHeldError:
                locked_names.add(name)
        return locked_names

    def _path(self, name: str, *, temporary: bool = False) -> str:
        storage.check_name(name, temporary=temporary)
        path = os.path.join(self._root, name)
        # A link inside could lead out: the folders above the file are looked
        # at here, the file itself is opened with O_NOFOLLOW.
        system_paths.refuse_links(os.path.dirname(path), self._guarded)
        return path

    def _write_new(self, path: str, data: bytes, durable: bool) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        handle = os.open(path, flags, 0o666)
        try:
            _write_all(handle, data)
            if durable:
                self._sync_handle(handle)
        finally:
            os.close(handle)

    def _make_folder(self, folder: str) -> None:
        """Makes `folder` and those above it, each entry on the disk."""
        if folder in self._synced_folders:
            return
        above = os.path.dirname(folder)
        inside = folder != self._root
        if inside:
            self._make_folder(above)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
        else:
            pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        try:
            # Also for a folder that was there: its maker may have been
            # killed before this step.
            self._sync_folder(above)
        except PermissionError:
            # The folder above the root may belong to another user.
            if inside:
                raise
        self._synced_folders.add(folder)

    def _sync_folder(self, folder: str) -> None:
        if not self._durable:
            return
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._sync_handle(handle)
        finally:
            os.close(handle)

    def _sync_handle(self, handle: int) -> None:
        if self._durable:
            os.fsync(handle)

    def _walk(self, folder: str) -> Iterator[str]:
        """Yields every file below `folder` in the order of full names."""
        if not folder:
            self._path("any")
            yield from _files_below(self._root, "")
            return
        # `_path` looks at the folders above a file: here, at `folder` itself.
        path = os.path.dirname(self._path(f"{folder}/any"))
        yield from _files_below(path, f"{folder}/")


def open_storage(directory: Location) -> storage.Storage:
    """Returns the files at a place: a folder, or files as they are.

    Args:
      directory: a local folder, `gs://bucket/folder`, or files.

    Raises:
      UsageError: the place is empty or on a medium that is not supported.
    """
    if isinstance(directory, storage.Storage):
        return directory
    text = os.fspath(directory)
    if is_remote(text):
        return gcs_files.GcsStorage(text)
    if not text or "\0" in text or "://" in text:
        raise errors.UsageError(
            f"{text!a} is no folder that can hold a system; give the path "
            "of a local folder, or gs://BUCKET/FOLDER"
        )
    return LocalStorage(text)


def is_remote(directory: str | os.PathLike[str]) -> bool:
    """Returns whether a place is no folder of this machine."""
    return os.fspath(directory).startswith("gs://")


def require_local(directory: str | os.PathLike[str], what: str) -> None:
    """Refuses a bucket, or another URL, for what needs a local folder.

    Raises:
      UsageError: `directory` is a URL.
    """
    if "://" in os.fspath(directory):
        raise errors.UsageError(
            f"{what} cannot be at {os.fspath(directory)}: it is for a local "
            "folder; give one, and copy it to the bucket afterwards"
        )


def _temporaries_of(name: str, path: str) -> str:
    """Returns the beginning of the paths of a file's temporaries."""
    tag = hashlib.sha256(name.encode()).hexdigest()[:8]
    start = f"{storage.TEMPORARY_PREFIX}{tag}-"
    return os.path.join(os.path.dirname(path), start)


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    """Returns what no two files share that were written one after another."""
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _version(status: os.stat_result) -> object:
    """Returns what changes with a file or folder; None if it is too fresh."""
    changed = status.st_mtime_ns
    is_coarse = changed % 1_000_000_000 == 0
    tick_secs = _COARSE_TICK_SECS if is_coarse else _TICK_SECS
    if time.time() - changed / 1e9 < tick_secs:
        return None
    return changed, status.st_size, status.st_ino


def _files_below(path: str, above: str) -> Iterator[str]:
    # A list instead of recursion: folders of others may be nested deeply.
    folders = [""]
    while folders:
        name = folders.pop()
        if name and not name.endswith("/"):
            yield above + name
            continue
        if name.count("/") > _NUM_FOLDERS_MAX:
            # Nothing of a system lies that deep; its path may be too long.
            yield above + name[:-1]
            continue
        folder = os.path.join(path, name[:-1]) if name else path
        with (
            contextlib.suppress(storage.MissingFileError),
            os_errors.as_store_errors(folder, "listed"),
            os.scandir(folder) as entries,
        ):
            folders += sorted(
                (
                    name + e.name + "/" * e.is_dir(follow_symlinks=False)
                    for e in entries
                ),
                reverse=True,
            )


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]
