"""A comparison of methods over seeds, as records.

Invariant: every (method, seed) that was requested is either in `runs` or in
`missing_runs`, never in both; a run holds every task of the experiment.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping
from typing import Any

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """The result of a run for one task.

    Attributes:
      task: the task's bare name.
      test: accuracy in [0, 1] of the published path.
      validation: accuracy in [0, 1] that the path was chosen by.
      num_params: parameters of the path, shared or not.
      accounted_params: each parameter divided by the tasks that use it.
      num_layers: transformer blocks of the path; None if it does not say.
      image_multiply_adds: multiply-adds of one image through the path; None
        if they are not known for its kind of components.
      train_multiply_adds: multiply-adds of all training for the task; None
        likewise, or if `metrics.jsonl` does not tell of all of it.
      train_secs: wall time of the generations, seconds; None if
        `metrics.jsonl` does not tell of all of them.
      cpu_secs: CPU time of all their threads, seconds; None likewise.
    """

    task: str
    test: float
    validation: float
    num_params: int
    accounted_params: float
    num_layers: int | None
    image_multiply_adds: int | None
    train_multiply_adds: int | None
    train_secs: float | None
    cpu_secs: float | None


@dataclasses.dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
      method: as it was requested, e.g. `adapters:16`.
      seed: the root seed.
      tasks: in the order of the experiment.
    """

    method: str
    seed: int
    tasks: tuple[TaskResult, ...]

    @property
    def mean_test(self) -> float:
        """Mean test accuracy over the tasks."""
        return statistics.fmean(task.test for task in self.tasks)

    @property
    def mean_accounted_params(self) -> float:
        """Mean accounted parameters per task."""
        return statistics.fmean(task.accounted_params for task in self.tasks)

    def mean_of(self, key: str) -> float | None:
        """Returns the mean of an attribute over tasks; None if one lacks it."""
        values = [getattr(task, key) for task in self.tasks]
        return None if None in values else statistics.fmean(values)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Methods that ran the same experiment under the same seeds.

    Attributes:
      name: how a report calls it.
      methods: those that were requested, in this order.
      seeds: likewise.
      task_names: bare names, in the order of the experiment.
      settings: the experiment; each run sets its own seed and method.
      num_train_examples: task -> examples of its train split.
      runs: the finished ones.
      missing_runs: (method, seed) -> why it is not there, the end of a sentence
        that begins with the run.
    """

    name: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    task_names: tuple[str, ...]
    settings: Mapping[str, Any]
    num_train_examples: Mapping[str, int]
    runs: tuple[Run, ...]
    missing_runs: Mapping[tuple[str, int], str]

    def runs_of(self, method: str) -> list[Run]:
        """Returns the finished runs of a method in the order of the seeds."""
        own_runs = [run for run in self.runs if run.method == method]
        return sorted(own_runs, key=lambda run: self.seeds.index(run.seed))

    def run(self, method: str, seed: int) -> Run | None:
        """Returns one run, or None if it is missing."""
        matches = (r for r in self.runs_of(method) if r.seed == seed)
        return next(matches, None)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "methods": list(self.methods),
            "seeds": list(self.seeds),
            "task_names": list(self.task_names),
            "settings": dict(self.settings),
            "num_train_examples": dict(self.num_train_examples),
            "runs": [dataclasses.asdict(run) for run in self.runs],
            "missing": [
                {"method": method, "seed": seed, "reason": reason}
                for (method, seed), reason in self.missing_runs.items()
            ],
        }
