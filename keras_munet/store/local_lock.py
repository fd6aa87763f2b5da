"""A lock on a file that the kernel frees when its process ends.

Invariant: the file stays where it is. Were it deleted, two jobs could each lock
a file of its name.
"""

from __future__ import annotations

import fcntl
import os

from keras_munet.core import guarded_file
from keras_munet.store import os_errors
from keras_munet.store import storage

_NUM_HOLDER_BYTES = 200


def acquire_lock(path: str, holder: str, *, shared: bool) -> storage.Lock:
    """Returns the lock on a file, which is made if it does not exist.

    Args:
      path: of the file, in a folder that exists.
      holder: one line about the holder, for those who are refused.
      shared: whether others may share it, who ask for that too.

    Raises:
      LockHeldError: another holder has it.
      OSError: the operating system refused.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(path, flags | os.O_NONBLOCK, 0o666)
    try:
        guarded_file.check_regular(handle, path)
        operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(handle, operation | fcntl.LOCK_NB)
        if not shared:
            os.ftruncate(handle, 0)
            os.pwrite(handle, holder.encode(), 0)
    except BlockingIOError:
        text = os.pread(handle, _NUM_HOLDER_BYTES, 0).decode(errors="replace")
        os.close(handle)
        raise storage.LockHeldError(
            f"{os_errors.show(path)} is held by {text!a}; wait until it is "
            "released",
            text,
        ) from None
    except BaseException:
        os.close(handle)
        raise
    return _LocalLock(handle)


class _LocalLock(storage.Lock):
    def __init__(self, handle: int):
        self._handle: int | None = handle

    def release(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            # Closing frees it.
            os.close(handle)
