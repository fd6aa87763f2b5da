"""Paths that lie in the folder of a system, which need not be trusted.

Invariant: what lies below such a folder is reached without a symbolic link;
how the folder itself is reached is its user's own business.
"""

from __future__ import annotations

import os
import stat

from keras_munet import errors

SYSTEM_FILE = "system.json"
COMPARISON_FILE = "comparison.json"


def guarded_folder(path: str | os.PathLike[str]) -> str:
    """Returns the outermost folder of a system or comparison above a path.

    Returns:
      An absolute path; `path` itself if there is none.
    """
    path = os.path.abspath(os.fspath(path))
    folder = above = path
    while above != os.path.dirname(above):
        above = os.path.dirname(above)
        if any(
            os.path.lexists(os.path.join(above, name))
            for name in (SYSTEM_FILE, COMPARISON_FILE)
        ):
            folder = above
    return folder


def refuse_links(
    path: str | os.PathLike[str], folder: str | None = None
) -> None:
    """Does nothing if no link leads out between a folder and a path in it.

    Args:
      path: what is to be read or written; it need not exist.
      folder: above it; None for that of the system that it lies in.

    Raises:
      StoreError: a part of the path is a link.
    """
    path = os.path.abspath(os.fspath(path))
    folder = folder or guarded_folder(path)
    part = folder
    for name in os.path.relpath(path, folder).split(os.sep):
        if name == os.curdir:
            continue
        part = os.path.join(part, name)
        try:
            is_link = stat.S_ISLNK(os.lstat(part).st_mode)
        except OSError:
            # Missing, or reported by its opener.
            return
        if is_link:
            part_text = part if part.isprintable() else ascii(part)
            raise errors.StoreError(
                f"{part_text} is a symbolic link, which could lead out of the "
                "system; put the folder or file itself there"
            )
