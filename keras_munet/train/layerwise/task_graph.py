"""A few threads for work of which some must wait for other work.

Invariant: work begins when all that it needs is done; of what could begin, the
first in order does. What it returns depends on what it needs, not on the
thread nor the time.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

Order = tuple[float, ...]


class Promise:
    """What a function will return."""

    def __init__(
        self, flow: Dataflow, function: Callable[..., Any], order: Order
    ):
        """Is made by `Dataflow.add`."""
        self.function: Callable[..., Any] | None = function
        self.order = order
        self.needs: Sequence[Promise] = ()
        self.num_missing = 0
        self.needed_by: list[Promise] = []
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self._flow = flow

    def result(self) -> Any:
        """Waits for the function and returns what it did.

        Raises:
          Exception: what the function raised, or that of one that it needs.
        """
        self._flow.wait(self)
        if self.error is not None:
            raise self.error
        return self.value


class Dataflow:
    """Threads that keep promises; on leaving, what has not begun is dropped."""

    def __init__(self, num_threads: int):
        """Starts the threads.

        Args:
          num_threads: how many functions run at a time.
        """
        self._changed = threading.Condition()
        self._ready: list[tuple[Order, int, Promise]] = []
        self._numbers = itertools.count()
        self._closed = self._ended = False
        self._threads = [
            threading.Thread(
                target=self._work, name=f"dataflow-{n}", daemon=True
            )
            for n in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Dataflow:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def add(
        self,
        function: Callable[..., Any],
        order: Order,
        needs: Sequence[Promise] = (),
    ) -> Promise:
        """Returns the promise of what `function` returns.

        Args:
          function: called with the results of `needs`.
          order: of what could begin, the least begins first.
          needs: promises of these threads.

        Raises:
          RuntimeError: the threads have ended.
        """
        promise = Promise(self, function, order)
        with self._changed:
            if self._closed:
                raise RuntimeError("the threads have ended")
            promise.needs = tuple(needs)
            for need in needs:
                if not need.done:
                    promise.num_missing += 1
                    need.needed_by.append(promise)
            if not promise.num_missing:
                self._make_ready(promise)
        return promise

    def wait(self, promise: Promise) -> None:
        """Returns when the promise is kept.

        Raises:
          RuntimeError: it was dropped.
        """
        with self._changed:
            while not promise.done:
                if self._ended:
                    raise RuntimeError("dropped, as the threads have ended")
                self._changed.wait()

    def _make_ready(self, promise: Promise) -> None:
        heapq.heappush(
            self._ready, (promise.order, next(self._numbers), promise)
        )
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._ready and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                *_, promise = heapq.heappop(self._ready)
            self._do(promise)
            # While it waits a thread holds nothing.
            del promise

    def _do(self, promise: Promise) -> None:
        value, error = None, None
        failed = next((n.error for n in promise.needs if n.error), None)
        try:
            if failed is not None:
                raise failed
            assert promise.function is not None, "a promise is kept once"
            value = promise.function(*(need.value for need in promise.needs))
        # Whoever asks for the result is told, in its own thread.
        except BaseException as e:
            error = e
        with self._changed:
            promise.value, promise.error, promise.done = value, error, True
            # What the function was given is freed when it is done.
            promise.function, promise.needs = None, ()
            for waiting in promise.needed_by:
                waiting.num_missing -= 1
                if not waiting.num_missing:
                    self._make_ready(waiting)
            promise.needed_by = []
            self._changed.notify_all()
