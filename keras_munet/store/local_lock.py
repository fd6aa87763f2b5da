"""A lock on a file that the kernel frees when its process ends.

Invariant: the file stays where it is. Were it deleted, two jobs could each lock
a file of its name.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys

from keras_munet import errors
from keras_munet.core import guarded_file
from keras_munet.store import os_errors
from keras_munet.store import storage

_NUM_HOLDER_BYTES = 200
_CHILD_SECS = 30.0
_HAS_LOCK = 7
_TRY_LOCK = f"""
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    sys.exit(0)
sys.exit({_HAS_LOCK})
"""


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


def require_exclusion(path: str) -> None:
    """Refuses a file system whose locks exclude no other process.

    A child process tries a lock that this one holds: some network file systems
    grant every lock, and two locks of one process prove nothing.

    Args:
      path: of a file for this, in a folder that exists.

    Raises:
      UsageError: both processes had the lock.
      OSError: the operating system refused.
    """
    try:
        lock = acquire_lock(path, "", shared=False)
    except storage.LockHeldError:
        # Another process tries the same, and this one is excluded.
        return
    try:
        child = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _TRY_LOCK, path],
            check=False,
            capture_output=True,
            timeout=_CHILD_SECS,
        )
    except (subprocess.TimeoutExpired, OSError):
        # A child that waits is excluded; without one, nothing is proved.
        return
    finally:
        lock.release()
    if child.returncode == _HAS_LOCK:
        folder = os_errors.show(os.path.dirname(os.path.dirname(path)))
        raise errors.UsageError(
            f"the locks of the file system of {folder} exclude no other "
            "process (flock does nothing there), so two jobs would publish "
            "over each other; use a local disk, a network file system that "
            "has locks (NFS 4, mounted without nolock), or a bucket"
        )


class _LocalLock(storage.Lock):
    def __init__(self, handle: int):
        self._handle: int | None = handle

    def release(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            # Closing frees it.
            os.close(handle)
