"""Decides what each batch trains: factors of all tasks, or of one.

Invariant: what a step trains follows from its number alone, so that training
goes on after an interruption as it would have gone on without.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from keras_munet.overparam import validation


@dataclasses.dataclass(frozen=True)
class Phase:
    """Names what one batch trains.

    Attributes:
      task: whose own factors are trained with its own loss; None for what
        serves several tasks, or has no factors, with the losses of all.
    """

    task: str | None


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Divides batches among the shared factors and those of tasks.

    Attributes:
      shared_steps: batches in a row for the shared variables.
      task_steps: batches in a row for the factors of each task after them.
    """

    shared_steps: int = 1
    task_steps: int = 1

    def __post_init__(self) -> None:
        for name in ("shared_steps", "task_steps"):
            validation.positive(name, getattr(self, name))

    def phase(self, step: int, tasks: Sequence[str]) -> Phase:
        """Returns what the batch of a step trains.

        Args:
          step: counted from 0.
          tasks: those that have factors; where there are none, every batch
            trains the shared variables.

        Example:
          >>> [Schedule(2, 1).phase(step, "ab").task for step in range(5)]
          [None, None, 'a', 'b', None]
        """
        if not tasks:
            return Phase(None)
        own = self.task_steps * len(tasks)
        position = step % (self.shared_steps + own) - self.shared_steps
        if position < 0:
            return Phase(None)
        return Phase(tasks[position // self.task_steps])
