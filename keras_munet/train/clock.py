"""What the seconds of training went into.

Invariant: every second of a cycle is counted once, in the thread that waits for
all others. What compiling takes beyond tracing is seen from outside: TensorFlow
prepares a function's graph and builds its kernels within the first call.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

# Kind of work, with `_secs` behind it -> seconds.
Clock = dict[str, float]


@contextlib.contextmanager
def spent(clock: Clock, kind: str) -> Iterator[None]:
    """Counts the seconds within, less what is counted there already.

    Args:
      clock: takes them; zero where it has no such key.
      kind: of work, e.g. `train`.
    """
    started, before = time.perf_counter(), sum(clock.values())
    try:
        yield
    finally:
        others = sum(clock.values()) - before
        clock[f"{kind}_secs"] += time.perf_counter() - started - others


class Calls:
    """Counts the calls of one function, of which the first may compile.

    By how much it took longer than the mean of the later ones is compiling;
    of a function that was compiled before, nothing is.
    """

    def __init__(self, clock: Clock, kind: str):
        """Counts in `clock`, as work of `kind`."""
        self._clock = clock
        self._key = f"{kind}_secs"
        self._secs: list[float] = []

    @property
    def begun(self) -> bool:
        """Whether there was a call."""
        return bool(self._secs)

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        """Returns `function(*args)`."""
        started = time.perf_counter()
        result = function(*args)
        self._secs.append(time.perf_counter() - started)
        self._clock[self._key] += self._secs[-1]
        return result

    def end(self) -> None:
        """Counts what the first call took longer as compiling.

        Of a function that was called once it is not known, and nothing is.
        """
        if len(self._secs) < 2:
            return
        first, *later = self._secs
        secs = max(first - sum(later) / len(later), 0.0)
        self._clock[self._key] -= secs
        self._clock["compile_secs"] += secs
