"""Decides what each batch trains: factors of all tasks, or of one.

Invariant: what a step trains follows from its number alone, so that training
goes on after an interruption as it would have gone on without.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from keras_munet import errors


@dataclasses.dataclass(frozen=True)
class Phase:
    """The factors that one batch trains.

    Attributes:
      shared: whether what serves several tasks, or has no factors, is trained
        with the combined losses.
      task: whose own factors are trained with its own loss; None for no task.
    """

    shared: bool
    task: str | None


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Divides batches among the shared factors and those of tasks.

    Attributes:
      shared_steps: batches in a row for the shared variables.
      task_steps: batches in a row for the factors of each task after them.
      together: whether each batch trains the shared variables and, in turn,
        the factors of one task; the two numbers above are then not used.
    """

    shared_steps: int = 1
    task_steps: int = 1
    together: bool = False

    def __post_init__(self) -> None:
        for name in ("shared_steps", "task_steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise errors.UsageError(
                    f"{name} is {value!r}; give an integer of 1 or more"
                )
            if value < 1:
                raise errors.UsageError(
                    f"{name} is {value}; give an integer of 1 or more"
                )

    def phase(self, step: int, tasks: Sequence[str]) -> Phase:
        """Returns what the batch of a step trains.

        Args:
          step: counted from 0.
          tasks: those that have factors; where there are none, every batch
            trains the shared variables.
        """
        if not tasks:
            return Phase(True, None)
        if self.together:
            return Phase(True, tasks[step % len(tasks)])
        own = self.task_steps * len(tasks)
        position = step % (self.shared_steps + own) - self.shared_steps
        if position < 0:
            return Phase(True, None)
        return Phase(False, tasks[position // self.task_steps])

    def phases(self, tasks: Sequence[str]) -> list[Phase]:
        """Returns each phase that there is, once, in the order of steps."""
        num_steps = self.shared_steps + self.task_steps * len(tasks)
        steps = range(max(num_steps, len(tasks)))
        return list(dict.fromkeys(self.phase(s, tasks) for s in steps))
