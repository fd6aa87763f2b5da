"""Files of others, opened so that nothing but their bytes is read.

Invariant: only regular files are read, and no memory is taken before a file's
size was bounded: no pipe is waited for, no device is read without end.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from keras_munet import errors


@contextlib.contextmanager
def open_regular(
    path: str | os.PathLike[str], *, follow: bool = False
) -> Iterator[int]:
    """Yields the handle of a regular file that is open for reading.

    Args:
      path: of the file.
      follow: whether it may be a link, as the user named it.

    Raises:
      StoreError: it is no regular file.
      OSError: it cannot be opened.
    """
    # O_NONBLOCK: opening a named pipe must not wait for a writer.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags if follow else flags | os.O_NOFOLLOW)
    try:
        check_regular(handle, path)
        yield handle
    finally:
        os.close(handle)


def check_regular(handle: int, path: str | os.PathLike[str]) -> None:
    """Does nothing if an open file is a regular one.

    Raises:
      StoreError: it is not.
    """
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise errors.StoreError(
            f"{show(path)} is no regular file; put a file there"
        )


def read_file(
    path: str | os.PathLike[str], num_bytes_max: int, *, follow: bool = False
) -> bytes:
    """Returns a whole file.

    Args:
      path: of the file.
      num_bytes_max: the largest size that is read.
      follow: whether it may be a link, as the user named it.

    Raises:
      StoreError: it is no regular file, or larger.
      OSError: it cannot be read.
    """
    with open_regular(path, follow=follow) as handle:
        num_bytes = os.fstat(handle).st_size
        if num_bytes > num_bytes_max:
            raise errors.StoreError(
                f"{show(path)} has {num_bytes} bytes; at most "
                f"{num_bytes_max} are allowed: it is not what its name says"
            )
        return read_up_to(handle, num_bytes)


def read_up_to(handle: int, num_bytes: int) -> bytes:
    """Returns at most `num_bytes`, in one buffer, after any number of reads."""
    data = os.read(handle, num_bytes)
    if len(data) == num_bytes:
        return data
    pieces = [data]
    while data and num_bytes > 0:
        num_bytes -= len(data)
        data = os.read(handle, num_bytes)
        pieces.append(data)
    return b"".join(pieces)


def show(path: str | os.PathLike[str]) -> str:
    """Returns a path for a message: as it is, unless it breaks the line."""
    text = os.fspath(path)
    return text if text.isprintable() else ascii(text)
