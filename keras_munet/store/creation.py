"""Creates a system in a directory.

Invariant: `system.json` is written last and only where nothing else lies, so a
creation that was interrupted leaves no system, and can be made again. The
lock of the job that creates ends with its process, however that ends.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.store import checksummed_json
from keras_munet.store import codec
from keras_munet.store import layout
from keras_munet.store import objects
from keras_munet.store import storage

ROOT_CREATED_IN = (-1, 0, 0)


def create_system(
    files: storage.Storage,
    *,
    experiment: Mapping[str, Any],
    family: Mapping[str, Any],
    root_components: Sequence[specs.Component],
    root_hparams: Mapping[str, Any],
    root_source: str,
) -> None:
    """Writes a new system; see `SystemDir.create`.

    Raises:
      UsageError: the place holds a system or something else, another job is
        making a system there, or the root has no components.
      StoreError: it cannot be written.
    """
    check_free(files)
    places = [component.spec.name for component in root_components]
    if not places or len(set(places)) < len(places):
        raise errors.UsageError(
            f"a root cannot have the components {places!a}; give at least "
            "one, each with a name of its own"
        )

    def sealed_record(refs: tuple[specs.ComponentRef, ...]) -> bytes:
        root = specs.PathRecord(
            task=specs.NOT_TRAINABLE,
            parent=None,
            created_in=ROOT_CREATED_IN,
            hparams=dict(root_hparams),
            components=refs,
        )
        record = layout.SystemRecord(
            dict(experiment), dict(family), root, root_source
        )
        return checksummed_json.seal(record.to_json(), layout.SYSTEM_FILE)

    # Before the first write: settings that cannot be stored leave nothing.
    sealed_record(())
    with creation_lock(files):
        check_free(files)
        store = objects.ObjectStore(files)
        data = sealed_record(tuple(map(store.put, root_components)))
        files.write_atomic(layout.SYSTEM_FILE, data)


@contextlib.contextmanager
def creation_lock(files: storage.Storage) -> Iterator[None]:
    """Holds the lock of the one job that may create a system in `files`.

    Raises:
      UsageError: another job (or this process, a second time) has it.
      StoreError: the place cannot be written.
    """
    try:
        lock = files.lock(layout.LOCK_FILE, str(os.getpid()))
    except storage.LockHeldError as error:
        held_by = error.holder if error.holder.isdecimal() else "unknown"
        raise errors.UsageError(
            f"another job (pid {held_by}) is creating a system in "
            f"{files.where}; wait until it ends, or use another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def check_free(files: storage.Storage) -> None:
    """Verifies that a system can be created in `files`.

    Raises:
      UsageError: there is one, or something else.
    """
    if files.exists(layout.SYSTEM_FILE):
        raise errors.UsageError(
            f"{files.where} already holds a system; open it, or use another "
            "folder"
        )
    for name in files.list():
        # What a creation that was interrupted leaves behind.
        if name != layout.LOCK_FILE and codec.id_of_file(name) is None:
            raise errors.UsageError(
                f"{files.where} is not empty (it has {name!a}) and holds no "
                "system; use a new or empty folder"
            )
