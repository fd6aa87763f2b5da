"""The folders of a machine that hold prepared data.

Invariant: all of them are read, in order; only the first is ever written to,
and what is being written lies in a folder of its own until it is whole.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import shutil
import socket
import time
import uuid

from etils import epath

from keras_munet.core import unfinished as unfinished_lib

# A colon is part of gs:// already.
SEPARATOR = ","
# TensorFlow Datasets' own default, so that what it prepared is found.
_VARIABLE = "TFDS_DATA_DIR"
_UNFINISHED = ".preparing_"
# Of Linux: names are those of the working folder, and change places.
_AT_FDCWD = -100
_EXCHANGE = 2
_DEFAULT = os.path.join("~", "tensorflow_datasets")


def folders(data_dir: str) -> list[str]:
    """Returns the folders that `data_dir` names, at least one.

    Args:
      data_dir: folders, local or gs://, with a comma between; empty for the
        default of TensorFlow Datasets.
    """
    named = [d.strip() for d in data_dir.split(SEPARATOR) if d.strip()]
    named = named or [os.environ.get(_VARIABLE, _DEFAULT)]
    return [os.path.expanduser(d) for d in named]


def is_remote(folder: str) -> bool:
    """Returns whether a folder lies in a bucket, e.g. gs://, not on a disk."""
    return "://" in folder


def unfinished(folder: epath.Path) -> epath.Path:
    """Returns where to write what will be renamed into `folder`.

    What processes of this machine that were killed left there long ago is
    removed.
    """
    host = socket.gethostname().replace("_", "-")
    if folder.is_dir():
        for entry in folder.iterdir():
            mine, _, rest = entry.name.partition(f"{_UNFINISHED}{host}_")
            pid = rest.partition("_")[0]
            if (
                not mine
                and pid.isdigit()
                and not unfinished_lib.is_running(int(pid))
                and not _is_young(entry)
            ):
                # Another process may remove it as well.
                shutil.rmtree(entry, ignore_errors=True)
    name = f"{_UNFINISHED}{host}_{os.getpid()}_{uuid.uuid4().hex}"
    return folder / name


def rename(part: epath.Path, folder: epath.Path) -> None:
    """Gives a folder its final name, which no other may have.

    Raises:
      OSError: another folder has it, with `errno` on a disk, or it cannot be
        renamed.
    """
    if is_remote(os.fspath(folder)):
        part.rename(folder)
    else:
        os.rename(part, folder)


def exchange(part: epath.Path, folder: epath.Path) -> None:
    """Puts one folder in the place of another, which takes the first's.

    Where the system can, no other process finds neither meanwhile.

    Raises:
      OSError: they cannot be renamed.
    """
    if not is_remote(os.fspath(folder)):
        rename = getattr(ctypes.CDLL(None), "renameat2", None)
        if rename is not None:
            names = os.fsencode(part), os.fsencode(folder)
            if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE) == 0:
                return
    old = part.with_name(f"{part.name}_old")
    folder.rename(old)
    part.rename(folder)
    old.rename(part)


def _is_young(folder: epath.Path) -> bool:
    """Returns whether something in a folder was written lately.

    A process of another container looks as if it had ended.
    """
    newest = 0.0
    for path in (folder, *pathlib.Path(folder).rglob("*")):
        with contextlib.suppress(OSError):
            newest = max(newest, os.stat(path).st_mtime)
    return time.time() - newest < unfinished_lib.YOUNG_SECS
