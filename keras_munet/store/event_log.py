"""A file of lines that grows, where a medium can only replace whole files.

Invariant: no line of another job is lost: what was read is replaced only if it
is still there.
"""

from __future__ import annotations

from keras_munet import errors
from keras_munet.store import interface

# What a system's jobs tell of what they do.
METRICS_FILE = "metrics.jsonl"
NUM_BYTES_MAX = 1 << 30
# Eight agents that tell something at once are done within some seconds.
APPEND_SECS = 120.0
_PAUSE_SECS = 0.2
_PAUSE_SECS_MAX = 5.0


def append(files: interface.Files, name: str, data: bytes) -> None:
    """Adds `data` to the end of a file, which is made if there is none.

    The whole file is written again: this is for files of some megabytes.

    Raises:
      StoreError: the write failed, or others never stop writing.
    """
    for _ in interface.pauses(_PAUSE_SECS, _PAUSE_SECS_MAX, APPEND_SECS):
        try:
            before = files.read(name, NUM_BYTES_MAX)
        except interface.MissingFileError:
            before = None
        if files.write_if(name, before, (before or b"") + data):
            return
    raise errors.StoreError(
        f"{files.where}/{name} was changed by others again and again for "
        f"{APPEND_SECS:g} s while a line was added; run again"
    )


def lines(files: interface.Files, name: str) -> list[bytes]:
    """Returns the lines of a file.

    Raises:
      MissingFileError: there is none.
    """
    return files.read(name, NUM_BYTES_MAX).splitlines()
