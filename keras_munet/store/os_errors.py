"""Turns errors of the operating system into one line that helps.

Invariant: no OSError leaves the store; each becomes a StoreError that names
the path, the reason and what to do.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from keras_munet import errors
from keras_munet.core import guarded_file
from keras_munet.store import storage

_FULL = ("no space is left", "free some space and run again")
_DENIED = (
    "permission is denied",
    "give this user the right, or use another folder",
)
_NO_FOLDER = (
    "a part of the path is a file where a folder should be",
    "use another folder",
)
_REASONS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: ("the disk quota is used up", "free some space"),
    errno.EROFS: (
        "the file system is read-only",
        "mount it writable, or use another folder",
    ),
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.ENOTDIR: _NO_FOLDER,
    errno.EEXIST: _NO_FOLDER,
    errno.EISDIR: (
        "it is a folder where a file should be",
        "move that folder away",
    ),
    errno.ELOOP: (
        "it is a symbolic link, which could lead out of the system",
        "put the file itself there",
    ),
    errno.ENAMETOOLONG: ("the path is too long", "use a shorter folder name"),
    errno.EIO: ("the disk reports an error", "check the disk"),
    errno.EMFILE: ("too many files are open", "raise `ulimit -n`"),
    errno.ENOLCK: ("it has no locks", "use a local disk"),
    errno.ENOTSUP: ("the file system cannot do this", "use a local disk"),
}


@contextlib.contextmanager
def as_store_errors(path: str, action: str) -> Iterator[None]:
    """Turns an OSError in its block into a StoreError.

    Args:
      path: what the block works on.
      action: what is being done to it, as in "cannot be `read`".

    Raises:
      MissingFileError: the path does not exist.
      StoreError: anything else that the operating system refused.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise storage.MissingFileError(
            f"{show(path)} cannot be {action}: it does not exist; check the "
            "name, or restore it from a copy of the system"
        ) from error
    except OSError as error:
        reason, advice = _REASONS.get(
            error.errno or 0,
            (
                " ".join((error.strerror or repr(error)).split()),
                "check the disk and run again",
            ),
        )
        code = errno.errorcode.get(error.errno or 0, "unknown error")
        raise errors.StoreError(
            f"{show(path)} cannot be {action}: {reason} ({code}); {advice}"
        ) from error


show = guarded_file.show
