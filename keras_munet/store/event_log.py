"""The file of lines in which a system's jobs tell what they do.

Invariant: no line of another job is lost, on any medium.
"""

from __future__ import annotations

from keras_munet.store import storage

METRICS_FILE = "metrics.jsonl"
NUM_BYTES_MAX = 1 << 30


def append_lines(files: storage.Storage, name: str, data: bytes) -> None:
    """Adds `data` to the end of a file; see `storage.Storage.append`.

    Raises:
      StoreError: the write failed, or others never stop writing.
    """
    files.append(name, data)


def read_lines(files: storage.Storage, name: str) -> list[bytes]:
    """Returns the lines of a file.

    Raises:
      MissingFileError: there is none.
      StoreError: it is too large or cannot be read.
    """
    return files.read(name, NUM_BYTES_MAX).splitlines()
