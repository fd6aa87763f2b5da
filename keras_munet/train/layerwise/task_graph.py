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


class Future:
    """The future result of a function."""

    def __init__(
        self, flow: TaskGraph, function: Callable[..., Any], order: Order
    ):
        """Is made by `TaskGraph.add`."""
        self.function: Callable[..., Any] | None = function
        self.order = order
        self.needs: Sequence[Future] = ()
        self.num_missing = 0
        self.needed_by: list[Future] = []
        self.is_done = False
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


class TaskGraph:
    """Runs futures on worker threads; drops on exit what has not begun."""

    def __init__(self, num_threads: int):
        """Starts the threads.

        Args:
          num_threads: how many functions run at a time.
        """
        self._changed = threading.Condition()
        self._ready: list[tuple[Order, int, Future]] = []
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

    def __enter__(self) -> TaskGraph:
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
        needs: Sequence[Future] = (),
    ) -> Future:
        """Returns the future of what `function` returns.

        Args:
          function: called with the results of `needs`.
          order: of what could begin, the least begins first.
          needs: futures of these threads.

        Raises:
          RuntimeError: the threads have ended.
        """
        future = Future(self, function, order)
        with self._changed:
            if self._closed:
                raise RuntimeError("the threads have ended")
            future.needs = tuple(needs)
            for need in needs:
                if not need.is_done:
                    future.num_missing += 1
                    need.needed_by.append(future)
            if not future.num_missing:
                self._make_ready(future)
        return future

    def wait(self, future: Future) -> None:
        """Returns when the future is done.

        Raises:
          RuntimeError: it was dropped.
        """
        with self._changed:
            while not future.is_done:
                if self._ended:
                    raise RuntimeError("dropped, as the threads have ended")
                self._changed.wait()

    def _make_ready(self, future: Future) -> None:
        heapq.heappush(self._ready, (future.order, next(self._numbers), future))
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._ready and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                *_, future = heapq.heappop(self._ready)
            self._do(future)
            # While it waits a thread holds nothing.
            del future

    def _do(self, future: Future) -> None:
        value, error = None, None
        failed = next((n.error for n in future.needs if n.error), None)
        try:
            if failed is not None:
                raise failed
            assert future.function is not None, "a future runs once"
            value = future.function(*(need.value for need in future.needs))
        # `result` raises it in the caller's thread.
        except BaseException as e:
            error = e
        with self._changed:
            future.value, future.error, future.is_done = value, error, True
            # What the function was given is freed when it is done.
            future.function, future.needs = None, ()
            for waiting in future.needed_by:
                waiting.num_missing -= 1
                if not waiting.num_missing:
                    self._make_ready(waiting)
            future.needed_by = []
            self._changed.notify_all()
