"""Opens files that a stranger may have put into a folder.

Invariant: only regular files are opened, no link is followed, and no more
bytes are read than the caller allows.
"""

from __future__ import annotations

import errno
import os
import pathlib
import stat
from typing import IO
from typing import Any

from etils import epath

from keras_munet.core import guarded_json
from keras_munet.data import folders

JSON_BYTES_MAX = 64 * 2**20


def open_regular(path: epath.Path | pathlib.Path) -> IO[bytes]:
    """Returns a regular file, opened to be read.

    Raises:
      OSError: it is something else, or cannot be opened.
    """
    if folders.is_remote(os.fspath(path)):
        return epath.Path(path).open("rb")
    # Not to wait for the other end of a pipe.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(path, flags)
    except OSError as e:
        if e.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, f"{path.name} is a link") from None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, f"{path.name} is not a regular file")
    return os.fdopen(handle, "rb")


def read_json(path: epath.Path | pathlib.Path) -> Any:
    """Returns the value that a JSON file of limited size holds.

    Raises:
      OSError: it cannot be read.
      ValueError: it is too large, too deep or no JSON.
    """
    with open_regular(path) as file:
        content = file.read(JSON_BYTES_MAX + 1)
    if len(content) > JSON_BYTES_MAX:
        raise ValueError(f"{path.name} has more than {JSON_BYTES_MAX:,} bytes")
    return guarded_json.loads(content)


def refuse_link(path: epath.Path | pathlib.Path) -> None:
    """Refuses a link to another folder or file.

    Raises:
      OSError: the path is one.
    """
    if not folders.is_remote(os.fspath(path)) and os.path.islink(path):
        raise OSError(errno.ELOOP, f"{path.name} is a link")
