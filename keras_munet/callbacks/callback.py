"""Defines what may follow a job: one base class, one registry.

Invariant: a callback observes. It changes no result, and one that fails costs a
warning and its own output, never the job.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_munet import errors
from keras_munet.core import plugins
from keras_munet.core import registry
from keras_munet.core import settings as settings_lib
from keras_munet.search import plan as plan_lib

CALLBACKS = registry.Registry(
    "callback",
    "keras_munet.callbacks",
    builtin={
        "mlflow": "keras_munet.callbacks.mlflow_callback:MLflow",
        "wandb": "keras_munet.callbacks.wandb_callback:WeightsAndBiases",
    },
)


@dataclasses.dataclass(frozen=True)
class Run:
    """Describes a job to its callbacks.

    Attributes:
      workdir: folder of the system.
      settings: the experiment.
      num_generations: over all task iterations that are left.
      num_task_iterations: that are left.
    """

    workdir: str
    settings: settings_lib.Settings
    num_generations: int
    num_task_iterations: int


@dataclasses.dataclass(frozen=True)
class TaskStart:
    """Describes a task iteration that begins or is resumed.

    Attributes:
      task: the task's name.
      num_generations: of the task iteration.
      num_generations_done: by earlier jobs.
      num_children: of the task iteration.
    """

    task: str
    num_generations: int
    num_generations_done: int
    num_children: int


class Callback:
    """Follows a job; each method does nothing unless a subclass overrides it.

    An event is one line of the job's log: a mapping of JSON values with at
    least `event`, `format_version`, `job_secs` (seconds since the job began)
    and `time` (seconds since 1970); every duration is in seconds and its name
    ends in `_secs`.

    Example:
      >>> class Scores(Callback):
      ...     def on_generation_end(self, event):
      ...         print(event["task"], event["best_score"])
      >>> Scores().on_generation_end({"task": "digits", "best_score": 0.97})
      digits 0.97
    """

    # Whether it prints for a reader; without one, the job ends.
    is_display = False

    def on_run_begin(self, run: Run) -> None:
        """Follows the checks of a job, before its first task iteration."""

    def on_task_begin(self, start: TaskStart) -> None:
        """Precedes the first generation of a task iteration, or a resumed one.

        Args:
          start: the task, and what there is to do.
        """

    def on_generation_begin(self, plan: plan_lib.GenerationPlan) -> None:
        """Precedes the training of a generation."""

    def on_cycle_end(self, num_children: int, num_cycles: int) -> None:
        """Follows a validation.

        Args:
          num_children: how many children were validated.
          num_cycles: validations that each child has.
        """

    def on_child_end(
        self, event: Mapping[str, Any], child: Mapping[str, Any]
    ) -> None:
        """Follows a generation, once for each of its children.

        Args:
          event: the event `generation`.
          child: the child's entry in `event["children"]`: `index`, `score`,
            `scores` and `losses` of its cycles, `hparams` and more.
        """

    def on_generation_end(self, event: Mapping[str, Any]) -> None:
        """Follows a generation with its event `generation`."""

    def on_task_end(self, event: Mapping[str, Any]) -> None:
        """Follows the publication of a task's path: its event `published`."""

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Receives every event, before the method for its type."""

    def on_message(self, text: str, job_secs: float) -> None:
        """Receives a line for people.

        Args:
          text: one line without control characters.
          job_secs: seconds since the job began.
        """

    def on_run_end(self) -> None:
        """Follows the job, also one that failed or was interrupted."""


def make(name: str) -> Callback:
    """Returns a callback by its name.

    Args:
      name: `mlflow`, `wandb`, or that of an entry point in group
        `keras_munet.callbacks`, which names a function or class that returns
        a `Callback` without arguments.

    Raises:
      UsageError: there is none of that name, or it makes no `Callback`.
    """
    factory = CALLBACKS.get(name)
    with plugins.name_errors("callback", name):
        callback = factory()
    if not isinstance(callback, Callback):
        raise errors.UsageError(
            f"callback {name!r} made {type(callback).__name__}; it must be a "
            "keras_munet.callbacks.Callback; fix the plug-in"
        )
    return callback
