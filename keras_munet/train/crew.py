"""A few threads for work of which some must wait for other work.

Invariant: a task begins when all that it needs is done; of those that could
begin, the one that stands first in order does. What a task returns depends on
what it needs and not on the thread nor the time.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

Order = tuple[float, ...]


class Task:
    """Something to be done once, with what other tasks return."""

    def __init__(self, crew: Crew, function: Callable[..., Any], order: Order):
        """Is made by `Crew.add`."""
        self.function: Callable[..., Any] | None = function
        self.order = order
        self.needs: Sequence[Task] = ()
        self.num_missing = 0
        self.needed_by: list[Task] = []
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self._crew = crew

    def result(self) -> Any:
        """Waits for the task and returns what its function did.

        Raises:
          Exception: what the function, or one of a task that it needs, raised.
        """
        self._crew.wait(self)
        if self.error is not None:
            raise self.error
        return self.value


class Crew:
    """Threads that do tasks; on leaving, what has not begun is dropped."""

    def __init__(self, num_threads: int):
        """Starts the threads.

        Args:
          num_threads: how many tasks are done at a time.
        """
        self._changed = threading.Condition()
        self._ready: list[tuple[Order, int, Task]] = []
        self._numbers = itertools.count()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"crew-{n}", daemon=True)
            for n in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def add(
        self,
        function: Callable[..., Any],
        order: Order,
        needs: Sequence[Task] = (),
    ) -> Task:
        """Returns a new task.

        Args:
          function: called with what the tasks in `needs` returned.
          order: among what could be done, the least is done first.
          needs: tasks of this crew.
        """
        task = Task(self, function, order)
        with self._changed:
            task.needs = tuple(needs)
            for need in needs:
                if not need.done:
                    task.num_missing += 1
                    need.needed_by.append(task)
            if not task.num_missing:
                self._make_ready(task)
        return task

    def wait(self, task: Task) -> None:
        """Returns when the task is done."""
        with self._changed:
            while not task.done:
                self._changed.wait()

    def _make_ready(self, task: Task) -> None:
        heapq.heappush(self._ready, (task.order, next(self._numbers), task))
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._ready and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                *_, task = heapq.heappop(self._ready)
            self._do(task)

    def _do(self, task: Task) -> None:
        value, error = None, None
        failed = next((n.error for n in task.needs if n.error), None)
        try:
            if failed is not None:
                raise failed
            assert task.function is not None, "a task is done once"
            value = task.function(*(need.value for need in task.needs))
        # Whoever asks for the result is told, in its own thread.
        except BaseException as e:
            error = e
        with self._changed:
            task.value, task.error, task.done = value, error, True
            # What a task was made of is freed when it is done.
            task.function, task.needs = None, ()
            for waiting in task.needed_by:
                waiting.num_missing -= 1
                if not waiting.num_missing:
                    self._make_ready(waiting)
            task.needed_by = []
            self._changed.notify_all()
