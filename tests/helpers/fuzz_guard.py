"""Watches what this process does while it reads what nobody vouches for.

Invariant: a guard is never taken away; it watches between `watch` and `rest`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Iterator

_WRITES = (
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.truncate",
    "os.chmod",
    "os.listdir",
    "os.scandir",
)
# Nothing that is read may start, import, run or unpickle anything.
_NEVER = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "socket.connect",
    "socket.getaddrinfo",
    "ctypes.dlopen",
    "pickle.find_class",
    "marshal.loads",
    "import",
    "compile",
    "exec",
)


class Hang(BaseException):
    """A case took too long."""


class Guard:
    """Watches this process.

    Args:
      inside: the only folder that may be touched.

    Attributes:
      violations: what was done all the same.
    """

    def __init__(self, inside: str | os.PathLike[str]):
        self._inside = os.path.realpath(inside)
        self._watching = False
        self.violations: list[str] = []
        sys.addaudithook(self._seen)
        signal.signal(signal.SIGALRM, _hang)

    @contextlib.contextmanager
    def watch(self, num_secs_max: float) -> Iterator[None]:
        """Watches a block.

        Raises:
          Hang: it takes longer.
        """
        self._watching = True
        try:
            # It may ring at once.
            signal.setitimer(signal.ITIMER_REAL, num_secs_max)
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._watching = False

    def _seen(self, event: str, args: tuple) -> None:
        if not self._watching:
            return
        if event in _NEVER:
            self.violations.append(f"{event} {args!r:.200}")
        elif event == "open" or event in _WRITES:
            for path in args[:2] if event == "os.rename" else args[:1]:
                self._touched(event, path)

    def _touched(self, event: str, path: object) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        full = os.path.abspath(os.fsdecode(path))
        if full != self._inside and not full.startswith(f"{self._inside}/"):
            self.violations.append(f"{event} {full!a}")


def _hang(number, frame):
    raise Hang


def limit_memory(num_bytes: int) -> None:
    """Lets this process have so much more memory than now, and no more."""
    with open("/proc/self/statm", encoding="ascii") as file:
        num_pages = int(file.read().split()[0])
    limit = num_pages * resource.getpagesize() + num_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def peak_num_bytes() -> int:
    """Returns the most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
