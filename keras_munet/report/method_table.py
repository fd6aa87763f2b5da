"""Sets a system beside the methods of a comparison, on the tasks of both.

Invariant: every number is of the same tasks; one that is not known for all of
them is None and never a part of the whole.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from keras_munet.core import classification_metrics
from keras_munet.report import formatting
from keras_munet.report import summary as summary_lib

COLUMNS = (
    *("method", "seeds", "test accuracy", "95% margin", "parameters"),
    *("training time", "CPU time"),
)
TITLE = "One system beside separate models"
_LEAD = (
    "Means over {tasks}. The margin is that of the number of test pictures, "
    "1.96 standard errors of the mean accuracy; differences between seeds "
    "come on top. Parameters are those of all tasks together, shared ones "
    "counted once. Times are those of the generations, without imports and "
    "loading."
)
# The 97.5% quantile of the normal distribution.
_QUANTILE = 1.96
_LABELS = {
    "finetune_all": "separate fine-tuned models",
    "linear_probe": "linear probes on the root",
    "mu2net": "one system, mu2Net",
    "munet": "one system, muNet",
}


class Row(NamedTuple):
    """The result of a method.

    Attributes:
      name: of the method, plain text.
      num_seeds: runs behind it.
      test: mean test accuracy over tasks and seeds.
      margin: half of its 95% interval; None where the number of test pictures
        of a task is not known.
      num_params: parameters of all tasks together, a mean over seeds.
      secs: wall time of training, seconds; None if unknown.
      cpu_secs: CPU time of training, seconds; None if unknown.
    """

    name: str
    num_seeds: int
    test: float
    margin: float | None
    num_params: float
    secs: float | None
    cpu_secs: float | None

    def cells(self) -> list[str]:
        """Returns a text per column of `COLUMNS`."""
        times = (
            formatting.NONE if s is None else formatting.secs(s)
            for s in (self.secs, self.cpu_secs)
        )
        return [
            self.name,
            formatting.count(self.num_seeds),
            formatting.fraction(self.test),
            formatting.fraction(self.margin),
            formatting.count(self.num_params),
            *times,
        ]


def lead(num_tasks: int) -> str:
    """Returns what the numbers of the table are, over so many tasks."""
    return _LEAD.format(tasks=formatting.number_of(num_tasks, "task"))


def rows(
    summary: summary_lib.Summary, baselines: Mapping[str, Any]
) -> tuple[int, list[Row]]:
    """Returns the number of common tasks and a row per method, ours first.

    Args:
      summary: of the system.
      baselines: what `comparison_points.read_points` returned.
    """
    tasks = {
        formatting.plain(task.name): task
        for task in summary.tasks
        if task.test is not None
    }
    names = [name for name in baselines["tasks"] if name in tasks]
    if not names or not baselines["runs"]:
        return 0, []
    common = [tasks[name] for name in names]
    nums = [
        metrics.num_examples
        # The margin of an average precision is not known.
        if isinstance(
            metrics := task.test_metrics,
            classification_metrics.ClassificationMetrics,
        )
        else None
        for task in common
    ]
    generations = [
        [g for g in summary.history.generations if g.task == task.name]
        for task in common
    ]
    tests = [task.test or 0.0 for task in common]
    table_rows = [
        Row(
            f"this system: {formatting.number_of(len(names), 'task')} in one",
            1,
            statistics.fmean(tests),
            _margin(tests, nums),
            sum(task.accounted_params for task in common),
            _total([g.secs for of_task in generations for g in of_task])
            if all(generations)
            else None,
            _total([g.cpu_secs for of_task in generations for g in of_task])
            if all(generations)
            else None,
        )
    ]
    at = [baselines["tasks"].index(name) for name in names]
    for method in dict.fromkeys(run["method"] for run in baselines["runs"]):
        runs = [run for run in baselines["runs"] if run["method"] == method]
        tests = [statistics.fmean(run["test"][i] for run in runs) for i in at]
        table_rows.append(
            Row(
                _LABELS.get(method, method),
                len(runs),
                statistics.fmean(tests),
                _margin(tests, nums),
                _mean_total(runs, "params", at) or 0.0,
                _mean_total(runs, "secs", at),
                _mean_total(runs, "cpu_secs", at),
            )
        )
    return len(names), table_rows


def _margin(tests: Sequence[float], nums: Sequence[int | None]) -> float | None:
    """Returns 1.96 standard errors of the mean of binomial shares."""
    variance = 0.0
    for test, num in zip(tests, nums, strict=True):
        if num is None:
            return None
        variance += test * (1 - test) / num
    return _QUANTILE * math.sqrt(variance) / len(tests)


def _mean_total(
    runs: Sequence[Mapping[str, Any]], key: str, at: Sequence[int]
) -> float | None:
    """Returns the mean over runs of a sum over tasks; None if one lacks it."""
    totals = [_total([run[key][i] for i in at]) for run in runs]
    total = _total(totals)
    return None if total is None else total / len(totals)


def _total(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) if len(numbers) == len(values) else None
