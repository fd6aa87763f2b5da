"""Names files and folders that are being written, and tells the abandoned ones.

Invariant: no two writers share a name, also of two containers that have one
host name and one set of process ids; and what a writer may still be writing
never counts as abandoned.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
import re
import secrets
import socket

# No single write takes that long; a writer elsewhere cannot be looked at.
YOUNG_SECS = 3600.0
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_PROCESS_IDS = "/proc/self/ns/pid"
_NUM_HOST_CHARS = 60
_WRITER = re.compile(r"([A-Za-z0-9+]+)-([0-9]{1,10})-[0-9a-f]{12}(\.part)?\Z")


def new_writer_id() -> str:
    """Returns a new text that names one write: host, process, random bits."""
    return f"{_host()}-{os.getpid()}-{secrets.token_hex(6)}"


def is_abandoned(name: str, age_secs: float) -> bool:
    """Returns whether no writer will finish the file or folder of this name.

    Args:
      name: ends with a text of `new_writer_id` and maybe `.part`; other names
        are judged by their age alone.
      age_secs: since its last write.
    """
    match = _WRITER.search(name)
    if match and match[1] == _host():
        return not is_running(int(match[2]))
    return age_secs >= YOUNG_SECS


@functools.cache
def _host() -> str:
    """Returns the host's name and which set of process ids this one sees."""
    host = socket.gethostname()
    boot, ids = "", ""
    try:
        boot = pathlib.Path(_BOOT_ID).read_text(encoding="ascii")
        ids = os.readlink(_PROCESS_IDS)
    except OSError:
        # Another system than Linux: its processes share one set of ids.
        pass
    digest = hashlib.sha256(f"{host} {boot} {ids}".encode()).hexdigest()
    host_text = re.sub(r"[^A-Za-z0-9]", "+", host)[:_NUM_HOST_CHARS]
    return f"{host_text}+{digest[:8]}"


def is_running(pid: int) -> bool:
    """Returns whether a process of this set of process ids has not ended."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
