"""The folders of a machine that hold prepared data.

Invariant: all of them are read, in order; only the first is ever written to,
and what is being written lies in a folder of its own until it is whole.
"""

from __future__ import annotations

import os
import socket
import uuid

from etils import epath

# A colon is part of gs:// already.
SEPARATOR = ","
# TensorFlow Datasets' own default, so that what it prepared is found.
_VARIABLE = "TFDS_DATA_DIR"
_UNFINISHED = ".preparing_"
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
    """Whether a folder lies in a bucket, e.g. of gs://, not on a disk."""
    return "://" in folder


def unfinished(folder: epath.Path) -> epath.Path:
    """Returns where to write what will be renamed into `folder`.

    What processes of this machine that were killed left there is removed.
    """
    host = socket.gethostname().replace("_", "-")
    if folder.is_dir():
        for left in folder.iterdir():
            mine, _, rest = left.name.partition(f"{_UNFINISHED}{host}_")
            pid = rest.partition("_")[0]
            if not mine and pid.isdigit() and not _is_running(int(pid)):
                left.rmtree()
    name = f"{_UNFINISHED}{host}_{os.getpid()}_{uuid.uuid4().hex}"
    return folder / name


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
