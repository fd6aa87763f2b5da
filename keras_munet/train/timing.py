"""Counts the seconds of training by kind of work.

Invariant: every second is counted once, in the thread that waits for all
others, so no entry is negative and their sum is at most the time that passed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

_COMPILE = "compile"
# A wait for input stays one while other threads compile.
_INPUT = "input"


class Clock(dict[str, float]):
    """Maps a kind of work, with `_secs` behind it, to seconds.

    One thread turns it. A second belongs to the innermost block of `measure`
    that is open, and to none where no block is.
    """

    def __init__(self) -> None:
        """Starts without any entry."""
        super().__init__()
        self._kinds: list[str] = []
        self._last = 0.0
        self._compiled: Callable[[], float] | None = None
        self._last_compiled = 0.0

    def __missing__(self, key: str) -> float:
        """Returns no seconds for a kind of work without an entry."""
        return 0.0

    @contextlib.contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Counts the seconds within, less those of the blocks inside.

        Args:
          phase: of work, e.g. `train`.
        """
        self._count()
        self._kinds.append(phase)
        try:
            yield
        finally:
            self._count()
            self._kinds.pop()

    @contextlib.contextmanager
    def compiling(self, compiled: Callable[[], float]) -> Iterator[None]:
        """Counts what other threads compile within as compiling.

        Args:
          compiled: returns the seconds in which at least one thread compiled,
            up to now; it never decreases.
        """
        self._count()
        self._compiled, self._last_compiled = compiled, compiled()
        try:
            yield
        finally:
            self._count()
            self._compiled = None

    def move(self, phase: str, to: str, secs: float) -> None:
        """Counts seconds of one kind as another: at most those it has."""
        secs = min(max(secs, 0.0), self[f"{phase}_secs"])
        if secs:
            self[f"{phase}_secs"] -= secs
            self[f"{to}_secs"] += secs

    def _count(self) -> None:
        """Counts the seconds since the last call as the innermost kind."""
        now = time.perf_counter()
        secs, self._last = now - self._last, now
        compile_secs = 0.0
        if self._compiled is not None:
            compiled = self._compiled()
            compile_secs = min(max(compiled - self._last_compiled, 0.0), secs)
            self._last_compiled = compiled
        if not self._kinds:
            return
        phase = self._kinds[-1]
        self[f"{phase}_secs"] += secs
        if phase != _INPUT:
            self.move(phase, _COMPILE, compile_secs)


class Calls:
    """Counts the calls of one function, of which the first may compile.

    By how much it took longer than the mean of the later ones is compiling:
    TensorFlow prepares a function's graph and builds its kernels within the
    first call. Of a function that was compiled before, nothing is.
    """

    def __init__(self, clock: Clock, phase: str):
        """Counts in `clock`, as work of `phase`."""
        self._clock = clock
        self._phase = phase
        self._secs: list[float] = []

    @property
    def begun(self) -> bool:
        """Returns whether there was a call."""
        return bool(self._secs)

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        """Returns `function(*args)`."""
        with self._clock.measure(self._phase):
            started = time.perf_counter()
            result = function(*args)
            self._secs.append(time.perf_counter() - started)
        return result

    def end(self) -> None:
        """Counts what the first call took longer as compiling.

        Of a function that was called once it is not known, and nothing is.
        """
        if len(self._secs) < 2:
            return
        first, *later = self._secs
        secs = first - sum(later) / len(later)
        self._clock.move(self._phase, _COMPILE, secs)
