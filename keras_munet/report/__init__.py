"""What became of a system, for people: a text and one HTML page.

Invariant: a report only reads a system, works while a job evolves it, and
needs no TensorFlow. Equal systems give equal bytes.
"""

from __future__ import annotations

import os

from keras_munet import errors
from keras_munet.report import page
from keras_munet.report import plain_text
from keras_munet.report import summary
from keras_munet.store import files as files_lib
from keras_munet.store import interface

HTML_FILE = "report.html"
TEXT_FILE = "report.txt"

PathLike = str | os.PathLike[str]


def text(workdir: PathLike) -> str:
    """Returns the report of a system as plain text, at most 100 columns wide.

    Args:
      workdir: the system's directory.

    Raises:
      UsageError: there is no system.
      StoreError: it is damaged or of a newer format.
    """
    return plain_text.render(summary.read(workdir))


def write(workdir: PathLike, out: PathLike) -> list[str]:
    """Writes `report.html` and `report.txt` into a folder.

    Each file is replaced in one step; other files of the folder stay.

    Args:
      workdir: the system's directory.
      out: the folder; it is made if it does not exist.

    Returns:
      The paths of the files, the page first.

    Raises:
      UsageError: there is no system, or `out` cannot name a folder.
      StoreError: the system is damaged, or `out` cannot be written.
    """
    files = files_lib.at(out)
    read = summary.read(workdir)
    written = {
        HTML_FILE: page.render(read),
        TEXT_FILE: plain_text.render(read) + "\n",
    }
    for name, content in written.items():
        try:
            files.write_atomic(name, content.encode())
        except interface.MissingFileError as error:
            # The store's own advice is about files of a system.
            raise errors.StoreError(
                f"{files.where} cannot be made or is gone; choose another "
                "folder for the report"
            ) from error
    return [os.path.join(os.fspath(out), name) for name in written]


__all__ = ["HTML_FILE", "TEXT_FILE", "text", "write"]
