"""The lock of the one job that may create a system in a place.

Invariant: it ends with its process, however that ends, so that a killed job
never has to be cleaned up after.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from keras_munet import errors
from keras_munet.store import interface
from keras_munet.store import layout


def take(files: interface.Files) -> interface.Lock:
    """Takes the lock of the system in `files`.

    Raises:
      UsageError: another job (or this process, a second time) has it.
      StoreError: the place cannot be written.
    """
    try:
        return files.lock(layout.LOCK_FILE, str(os.getpid()))
    except interface.LockHeldError as error:
        held_by = error.holder if error.holder.isdecimal() else "unknown"
        raise errors.UsageError(
            f"another job (pid {held_by}) is creating a system in "
            f"{files.where}; wait until it ends, or use another folder"
        ) from error


@contextlib.contextmanager
def held(files: interface.Files) -> Iterator[None]:
    """Holds the lock for a `with` block; see `take`."""
    lock = take(files)
    try:
        yield
    finally:
        lock.release()
