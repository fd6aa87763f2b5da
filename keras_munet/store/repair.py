"""Repairs a damaged system where that is possible.

Invariant: nothing intact is changed. What is lost and another copy of the
system holds intact comes from there; what can be made again goes; what neither
helps stays as it is and is still reported by `check`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from keras_munet import errors
from keras_munet.store import checksummed_json
from keras_munet.store import codec
from keras_munet.store import layout
from keras_munet.store import leases
from keras_munet.store import objects
from keras_munet.store import references
from keras_munet.store import storage
from keras_munet.store import task_state

# Jobs store what a generation made within seconds.
_QUIET_SECS = 10.0


def repair(
    files: storage.Storage, copy: storage.Storage | None = None
) -> Iterator[str]:
    """Repairs what it can; yields one line per repair.

    Args:
      files: of the system.
      copy: another copy of it, older or of another machine; None for none.

    Raises:
      UsageError: there is no system, a job works on it, or `copy` is of
        another one.
      StoreError: the place cannot be read or written.
    """
    needed = files if copy is None else copy
    if not needed.exists(layout.SYSTEM_FILE) or not any(files.list()):
        raise errors.UsageError(
            f"{files.where} and --source hold no {layout.SYSTEM_FILE}; give "
            "the folder of a system, and of a copy of it"
        )
    with _alone(files):
        if copy is not None:
            yield from _records(files, copy)
        intact = _Intact(files)
        used, all_readable = _published_ids(files)
        if copy is not None:
            yield from _objects(files, copy, used, intact)
        yield from _progress(files, copy, intact)
        for name, lease in list(leases.all_leases(files)):
            if lease is None:
                files.delete(name)
                yield f"{name} was damaged: removed"
        if not all_readable:
            # A record that cannot be read may name what seems unused.
            return
        for name in list(files.list(codec.OBJECTS_DIR)):
            object_id = codec.id_of_file(name)
            if object_id is None or object_id in used:
                continue
            if not intact(object_id):
                files.delete(name)
                yield f"{name} was damaged and in no path: removed"


class _Intact:
    """Tests whether objects match their names; reads each once."""

    def __init__(self, files: storage.Storage):
        self._files = files
        self._is_intact: dict[str, bool] = {}

    def __call__(self, object_id: str) -> bool:
        if object_id not in self._is_intact:
            self._is_intact[object_id] = (
                _read(self._files, object_id) is not None
            )
        return self._is_intact[object_id]

    def forget(self, object_id: str) -> None:
        """Forgets an object, so that its next use reads it again."""
        self._is_intact.pop(object_id, None)


@contextlib.contextmanager
def _alone(files: storage.Storage) -> Iterator[None]:
    """Keeps jobs from starting and storing in a block.

    Raises:
      UsageError: a job works on the system.
    """
    busy = errors.UsageError(
        f"a job is working on {files.where}; end it before a repair"
    )
    try:
        lock = storage.wait_for_lock(
            lambda: files.lock(layout.OBJECTS_LOCK, str(os.getpid())),
            _QUIET_SECS,
        )
    except storage.NotInTimeError as error:
        raise busy from error
    try:
        if any(leases.list_jobs(files).values()):
            raise busy
        yield
    finally:
        lock.release()


def _records(files: storage.Storage, copy: storage.Storage) -> Iterator[str]:
    """Takes damaged and lost records from a copy of the system."""
    theirs = layout.read_system(copy)
    root_ids = [ref.id for ref in theirs.root.components]
    stranger = errors.UsageError(
        f"{copy.where} is no copy of {files.where}: it grew from another "
        "root; give a copy"
    )
    try:
        if layout.read_system(files).root.id != theirs.root.id:
            raise stranger
    except (checksummed_json.DamagedError, storage.MissingFileError):
        # What lies there still tells which system it was.
        if not any(files.exists(codec.file_name(i)) for i in root_ids):
            raise stranger from None
        data = copy.read(layout.SYSTEM_FILE, checksummed_json.NUM_BYTES_MAX)
        files.write_atomic(layout.SYSTEM_FILE, data)
        yield f"{layout.SYSTEM_FILE} was taken from {copy.where}"
    for name in layout.record_files(copy, layout.TASKS_DIR):
        if _is_lost(files, name):
            data = copy.read(name, checksummed_json.NUM_BYTES_MAX)
            layout.parse_task(data, name)
            files.write_atomic(name, data)
            yield f"{name} was taken, as it is there, from {copy.where}"


def _is_lost(files: storage.Storage, name: str) -> bool:
    try:
        layout.read_task(files, name)
    except (checksummed_json.DamagedError, storage.MissingFileError):
        return True
    except errors.StoreError:
        # Intact, but of a newer program or moved here: nothing to undo.
        return False
    return False


def _published_ids(files: storage.Storage) -> tuple[set[str], bool]:
    """Returns the ids that records name, and whether all could be read."""
    used: set[str] = set()
    all_readable = True
    try:
        system = layout.read_system(files)
        used.update(ref.id for ref in system.root.components)
    except errors.StoreError:
        all_readable = False
    for name in layout.record_files(files, layout.TASKS_DIR):
        try:
            state = layout.read_task(files, name)
        except errors.StoreError as error:
            if not isinstance(error, layout.MisnamedError) or not error.is_copy(
                files
            ):
                all_readable = False
            continue
        if isinstance(state, task_state.TaskState):
            used.update(ref.id for ref in state.published.components)
    return used, all_readable


def _objects(
    files: storage.Storage,
    copy: storage.Storage,
    object_ids: set[str],
    intact: _Intact,
) -> Iterator[str]:
    """Takes the objects that are damaged or lost from a copy."""
    for object_id in sorted(object_ids):
        if intact(object_id):
            continue
        data = _read(copy, object_id)
        if data is not None:
            name = codec.file_name(object_id)
            files.write_atomic(name, data)
            intact.forget(object_id)
            yield f"{name} was taken from {copy.where}"


def _progress(
    files: storage.Storage, copy: storage.Storage | None, intact: _Intact
) -> Iterator[str]:
    """Removes progress that cannot be continued: it is made again."""
    for folder in (layout.PROGRESS_DIR, layout.PREVIOUS_DIR):
        for name in list(layout.record_files(files, folder)):
            try:
                progress = layout.read_progress(files, name)
            except checksummed_json.DamagedError:
                files.delete(name)
                yield f"{name} was damaged: removed, as it can be made again"
                continue
            except errors.StoreError:
                # Of a newer program: not ours to judge.
                continue
            refs = references.component_refs(progress.payload)
            used = {ref.id for ref in refs}
            if copy is not None:
                yield from _objects(files, copy, used, intact)
            if not all(map(intact, used)):
                files.delete(name)
                yield (
                    f"{name} needs objects that are damaged or lost: removed, "
                    "as it can be made again"
                )


def _read(files: storage.Storage, object_id: str) -> bytes | None:
    """Returns an object's bytes, or None if it is damaged or missing."""
    try:
        data = files.read(
            codec.file_name(object_id), objects.OBJECT_NUM_BYTES_MAX
        )
        codec.decode(data, object_id)
    except errors.StoreError:
        return None
    return data
