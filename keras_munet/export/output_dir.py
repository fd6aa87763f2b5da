"""Writes an export's folder whole or not at all.

Invariant: a reader sees a finished folder or none; a version's number is never
used twice while the version is there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import shutil
import time
from collections.abc import Iterator

from keras_munet import errors
from keras_munet.core import system_paths
from keras_munet.core import unfinished

# Files that may stand beside the versions.
SERVING_FILES = ("models.config", "batching.config")


def refuse_used(folder: pathlib.Path) -> None:
    """Refuses a folder that is not absent or empty.

    Raises:
      UsageError: it is in use.
    """
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise errors.UsageError(
            f"{folder} is in use; give --out a folder that does not exist "
            "yet, or an empty one, or add a version to it with --versioned"
        )


def versions(base: pathlib.Path) -> list[pathlib.Path]:
    """Returns the versions in a folder, oldest first."""
    if not base.is_dir():
        return []
    folders = [p for p in base.iterdir() if p.name.isdecimal() and p.is_dir()]
    return sorted(folders, key=lambda path: int(path.name))


def next_version(base: pathlib.Path) -> pathlib.Path:
    """Returns the folder of the version after the last.

    Raises:
      UsageError: `base` holds something else than versions.
    """
    if base.exists() and not base.is_dir():
        raise errors.UsageError(
            f"{base} is a file; give --out a folder for the versions"
        )
    existing = versions(base)
    names = {path.name for path in existing} | set(SERVING_FILES)
    other = sorted(
        path.name
        for path in (base.iterdir() if base.is_dir() else ())
        if path.name not in names and not _is_part(path.name)
    )
    if other:
        raise errors.UsageError(
            f"{base} holds {other[0]!r}, which is no version; give --out a "
            "folder of versions 1, 2, ... or a new one"
        )
    return base / str(int(existing[-1].name) + 1 if existing else 1)


@contextlib.contextmanager
def written_whole(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a folder to write to, which becomes `folder` at the end.

    Several may write at once, each to a folder of its own; the first to end
    is published. What killed exports left beside it is removed.

    Raises:
      StoreError: it cannot be written, or another export was faster.
    """
    system_paths.refuse_links(folder)
    start = f".{folder.name}."
    part = folder.with_name(f"{start}{unfinished.new_writer_id()}.part")
    try:
        part.mkdir(parents=True)
        for other in folder.parent.iterdir():
            if other.name.startswith(start) and _is_part(other.name):
                _remove_abandoned(other)
        yield part
        for path in part.rglob("*"):
            _sync(path)
        if folder.exists():
            folder.rmdir()
        os.rename(part, folder)
        _sync(folder.parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise errors.StoreError(
                f"another export wrote {folder} meanwhile; run the same "
                "command again for the next version, or choose another folder"
            ) from error
        raise errors.StoreError(
            f"cannot write the export {folder}: "
            f"{error.strerror or ' '.join(str(error).split())}; free space or "
            "choose another folder"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _is_part(name: str) -> bool:
    return name.startswith(".") and name.endswith(".part")


def _remove_abandoned(part: pathlib.Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        age_secs = time.time() - part.lstat().st_mtime
        if unfinished.is_abandoned(part.name, age_secs):
            shutil.rmtree(part, ignore_errors=True)


def _sync(path: pathlib.Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
