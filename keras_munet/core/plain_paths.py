"""Makes the path of a folder a name for libraries that read patterns.

Invariant: TensorFlow and its data sets never see a path in which a character
stands for others, so a folder `exp[1-3]` is the folder of that name.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import tempfile

from keras_munet import errors

_PATTERN = re.compile(r"[*?\[\]\\]")


def refuse_pattern(path: str | os.PathLike[str], flag: str) -> None:
    """Refuses a path that TensorFlow would take for a pattern.

    Args:
      path: of a folder, local or remote.
      flag: what names it, for the message.

    Raises:
      UsageError: it has such a character.
    """
    text = os.fspath(path)
    local = "://" not in text
    match = _PATTERN.search(os.path.abspath(text) if local else text)
    if match:
        raise errors.UsageError(
            f"{flag} {text!a} has the character {match[0]!r} in its path, "
            "which TensorFlow takes for a pattern of names; choose a folder "
            "without brackets, * ? and \\ in its whole path"
        )


def without_patterns(folder: str) -> str:
    """Returns a path of a folder in which no character is a pattern.

    A local folder whose path has such characters gets a link elsewhere, which
    lasts as long as the process.

    Raises:
      UsageError: the folder is remote and has such characters.
    """
    if "://" in folder:
        refuse_pattern(folder, "folder")
        return folder
    path = os.path.abspath(folder)
    return _link_to(path) if _PATTERN.search(path) else folder


@functools.cache
def _link_to(path: str) -> str:
    folder = tempfile.mkdtemp(prefix="keras_munet_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    link = os.path.join(folder, _PATTERN.sub("_", os.path.basename(path)))
    os.symlink(path, link, target_is_directory=True)
    return link
