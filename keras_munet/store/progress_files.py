"""The state inside a running task iteration, and the one before it.

Invariant: what was kept last stays readable until what replaces it is durable,
and what is loaded names only objects whose every byte was verified. So one
damaged file costs at most the newest generation, which is made again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from keras_munet import errors
from keras_munet.store import checksummed_json
from keras_munet.store import layout
from keras_munet.store import objects
from keras_munet.store import references
from keras_munet.store import storage

_WARNING_LEVEL = 4


def encode_progress(
    files: storage.Storage, task: str, payload: Mapping[str, Any]
) -> bytes:
    """Returns the bytes that `save` writes.

    Raises:
      StoreError: `payload` is not plain JSON, or the task's record is
        damaged.
    """
    base = layout.base_of(files, task)
    progress = layout.ProgressRecord(task, base, dict(payload))
    return checksummed_json.seal(progress.to_json(), layout.progress_file(task))


def save(files: storage.Storage, task: str, data: bytes) -> None:
    """Keeps what `encode_progress` returned, and what was kept before it.

    Args:
      files: of the system, fenced by the lease of the task.
      task: the task.
      data: what `encode_progress` returned.

    Raises:
      LeaseLostError: another job has taken the task over.
      StoreError: the write failed; what was kept last is still there.
    """
    name = layout.progress_file(task)
    try:
        before = files.read(name, checksummed_json.NUM_BYTES_MAX)
        is_current = _follows(files, layout.parse_progress(before, name))
    except errors.StoreError:
        # None, or damaged: an older one that is whole is worth more.
        is_current = False
    if is_current:
        files.write_atomic(layout.previous_file(task), before)
    files.write_atomic(name, data)


def load_progress(
    files: storage.Storage, store: objects.ObjectStore, task: str
) -> dict[str, Any] | None:
    """Returns the newest payload that is whole, or None.

    Progress that the task was published after counts as absent: a job that is
    killed between publishing and clearing leaves it. One that is damaged, or
    names an object that is, costs a warning.
    """
    names = layout.progress_file(task), layout.previous_file(task)
    for name in names:
        try:
            progress = layout.read_progress(files, name)
            if not _follows(files, progress):
                continue
            for ref in references.component_refs(progress.payload):
                store.get(ref)
        except storage.MissingFileError as error:
            if files.exists(name):
                _warn(name, error)
        except errors.StoreError as error:
            _warn(name, error)
        else:
            return progress.payload
    return None


def clear(files: storage.Storage, task: str) -> None:
    """Forgets what was kept of a task's iteration.

    Args:
      files: of the system, fenced by the lease of the task.
      task: the task.

    Raises:
      LeaseLostError: another job has taken the task over.
    """
    # The older one first: alone, it would be taken for the newest.
    files.delete(layout.previous_file(task))
    files.delete(layout.progress_file(task))


def used_object_ids(
    files: storage.Storage,
    find_record: Callable[[str], layout.Record | None],
    suspects: Collection[str] | None = None,
) -> Iterator[str]:
    """Yields the ids of all objects that running iterations may rely on.

    Progress whose bytes are damaged counts as absent, with a warning.

    Args:
      files: of the system.
      find_record: returns the record of a task as it is now.
      suspects: the only objects that matter; None for all.

    Raises:
      StoreError: one is newer than this program, or cannot be read.
    """
    for name, progress in _all(files, suspects):
        if isinstance(progress, checksummed_json.DamagedError):
            _warn(name, progress)
        elif progress.follows == layout.base_of_record(
            find_record(progress.task)
        ):
            yield from references.object_ids(progress.payload)


def remove_stale(files: storage.Storage) -> None:
    """Removes progress that no job continues, as its task was published."""
    for name, progress in _all(files):
        if isinstance(progress, checksummed_json.DamagedError):
            continue
        # A job that lives publishes and clears in one `naming` block.
        if not _follows(files, progress):
            data = checksummed_json.seal(progress.to_json(), name)
            files.compare_and_swap(name, data, None)


def _all(
    files: storage.Storage, suspects: Collection[str] | None = None
) -> Iterator[
    tuple[str, layout.ProgressRecord | checksummed_json.DamagedError]
]:
    for folder in (layout.PREVIOUS_DIR, layout.PROGRESS_DIR):
        for name in list(layout.record_files(files, folder)):
            try:
                data = files.read(name, checksummed_json.NUM_BYTES_MAX)
                if suspects is None or references.may_name(data, suspects):
                    yield name, layout.parse_progress(data, name)
            except storage.MissingFileError:
                # Published since it was listed; its job still holds the lock
                # under which all this runs, so only `clear` does that.
                continue
            except checksummed_json.DamagedError as error:
                yield name, error
            except layout.MisnamedError as error:
                if not error.is_copy(files):
                    raise


def _follows(files: storage.Storage, progress: layout.ProgressRecord) -> bool:
    return progress.follows == layout.base_of(files, progress.task)


def _warn(name: str, error: errors.StoreError) -> None:
    warnings.warn(
        f"the running task iteration in {name} is lost; it starts again from "
        f"the last one that is whole: {error}",
        RuntimeWarning,
        stacklevel=_WARNING_LEVEL,
    )
