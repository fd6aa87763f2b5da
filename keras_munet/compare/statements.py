"""Rows and sentences that the text and the page of a comparison share.

Invariant: both say the same; a value that is not known is shown as missing
and never as a number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from keras_munet.compare import significance
from keras_munet.report import comparison_records
from keras_munet.report import formatting

MISSING = "missing"
SIGNIFICANT_P = 0.05
COLUMNS = (
    *("method", "runs", "test accuracy", "sd", "min", "max", "validation"),
    *("accounted parameters", "multiply-adds per image"),
    *("multiply-adds of training", "time", "CPU time"),
)
VERSUS_COLUMNS = (
    *("against", "mean difference", "95% interval"),
    *("better / equal / worse", "n", "seeds", "p", "parameters", "verdict"),
)
SUMMARY = (
    "Test accuracy: mean over the tasks of a run; its mean, standard deviation "
    "(sd), min and max are over the seeds. The rest are means per task."
)
COMPUTE = (
    "Accounted parameters: each parameter divided by the tasks that use it. "
    "Multiply-adds of training: of every child, examples times the sum over "
    "its components of c times the multiply-adds of the component's forward "
    "pass; c is 3 for a trained component, 2 for a frozen one above a trained "
    "one, 1 for others. Children count as if each was trained alone; a linear "
    "probe reads each example once. Time is wall time, CPU time that of all "
    "threads of one process; both are those of the generations, without "
    "imports and loading, and depend on the machine and its load."
)
PAIRS = (
    "Differences of test accuracy over n pairs of one seed and one task that "
    "both methods finished. Seeds: those in which the mean over tasks is "
    "higher. Parameters: accounted ones per task, as a share "
    "of the other method's. p: share of all ways to flip the signs "
    "of the pairs' differences that give a mean as far from 0 (two-sided); "
    "interval: 95%, bootstrap over pairs. Tasks of one seed share a system "
    "and seeds share the data, so pairs are less independent than either "
    "assumes: read both as a guide."
)


@dataclasses.dataclass(frozen=True)
class MethodSummary:
    """One method over its finished runs.

    Attributes:
      method: its name.
      num_runs: finished runs.
      num_asked: runs that were requested.
      test: over seeds, of the mean test accuracy of a run; None without runs.
      accounted: over seeds, of the accounted parameters per task.
      means: key of a task's result -> mean over tasks and seeds; None where
        a run does not tell.
    """

    method: str
    num_runs: int
    num_asked: int
    test: significance.Spread | None
    accounted: significance.Spread | None
    means: dict[str, float | None]


@dataclasses.dataclass(frozen=True)
class Versus:
    """The reference against one other method.

    Attributes:
      method: the other.
      paired: their differences, the reference minus the other; None if they
        have no pair.
      adjusted_p: p after Holm's correction for all comparisons.
      seeds_higher: in how many of their common seeds the reference's mean
        test accuracy is higher, a text.
      params_share: the reference's accounted parameters per task as a share
        of the other's, a text.
    """

    method: str
    paired: significance.Paired | None
    adjusted_p: float | None
    seeds_higher: str
    params_share: str


def summaries(comparison: comparison_records.Comparison) -> list[MethodSummary]:
    """Returns a summary per method, in the order of the comparison."""
    return [_summary(comparison, method) for method in comparison.methods]


def cells(summary: MethodSummary) -> list[str]:
    """Returns a text per column of COLUMNS after the first."""
    test, means = summary.test, summary.means
    runs = f"{summary.num_runs} of {summary.num_asked}"
    if test is None:
        return [runs, MISSING, *[formatting.NONE] * (len(COLUMNS) - 3)]
    return [
        runs,
        formatting.fraction(test.mean),
        formatting.fraction(test.sd),
        formatting.fraction(test.low),
        formatting.fraction(test.high),
        formatting.fraction(means["validation"]),
        formatting.count(means["accounted_params"]),
        large(means["image_multiply_adds"]),
        large(means["train_multiply_adds"]),
        _secs(means["train_secs"]),
        _secs(means["cpu_secs"]),
    ]


def reference(comparison: comparison_records.Comparison) -> str:
    """Returns the method that the others are compared with."""
    methods = comparison.methods
    return "mu2net" if "mu2net" in methods else methods[0]


def versus(comparison: comparison_records.Comparison) -> list[Versus]:
    """Returns the reference against every other method."""
    ours = reference(comparison)
    other_methods = [m for m in comparison.methods if m != ours]
    pairs = {m: _paired(comparison, ours, m) for m in other_methods}
    complete_pairs = {m: pair for m, pair in pairs.items() if pair is not None}
    adjusted = dict(
        zip(
            complete_pairs,
            significance.holm([pair.p for pair in complete_pairs.values()]),
            strict=True,
        )
    )
    accounted = {s.method: s.accounted for s in summaries(comparison)}
    return [
        Versus(
            method,
            pairs[method],
            adjusted.get(method),
            _seeds_higher(comparison, ours, method),
            _share(accounted[ours], accounted[method]),
        )
        for method in other_methods
    ]


def verdict(item: Versus, num_comparisons: int) -> str:
    """Returns what may be said of a comparison, no more.

    Args:
      item: the comparison.
      num_comparisons: how many were made beside it, itself included.
    """
    pair = item.paired
    if pair is None or item.adjusted_p is None:
        return "no pair yet"
    if pair.num_pairs < significance.NUM_PAIRS_MIN:
        return f"too few pairs to tell: p cannot be below {_p(pair.smallest_p)}"
    if pair.p >= SIGNIFICANT_P:
        return "no difference shown"
    side = "higher" if pair.mean > 0 else "lower"
    if item.adjusted_p >= SIGNIFICANT_P:
        return (
            f"{side}, but not after correction for {num_comparisons} "
            f"comparisons (p = {_p(item.adjusted_p)})"
        )
    return side


def versus_cells(item: Versus, num_comparisons: int) -> list[str]:
    """Returns a text per column of VERSUS_COLUMNS after the first."""
    pair, verdict_text = item.paired, verdict(item, num_comparisons)
    if pair is None:
        return [*[formatting.NONE] * (len(VERSUS_COLUMNS) - 2), verdict_text]
    interval = formatting.NONE
    if pair.low is not None and pair.high is not None:
        interval = f"{pair.low:+.4f} to {pair.high:+.4f}"
    num_equal = pair.num_pairs - pair.num_better - pair.num_worse
    return [
        f"{pair.mean:+.4f}",
        interval,
        f"{pair.num_better} / {num_equal} / {pair.num_worse}",
        str(pair.num_pairs),
        item.seeds_higher,
        _p(pair.p),
        item.params_share,
        verdict_text,
    ]


def task_cell(
    comparison: comparison_records.Comparison, method: str, task: str
) -> tuple[str, str]:
    """Returns mean test accuracy over seeds and its sd as texts."""
    values = [
        result.test
        for run in comparison.runs_of(method)
        for result in run.tasks
        if result.task == task
    ]
    spread = significance.spread(values)
    if spread is None:
        return MISSING, ""
    sd = "" if spread.sd is None else f"±{spread.sd:.4f}"
    return formatting.fraction(spread.mean), sd


def run_cell(
    comparison: comparison_records.Comparison, method: str, seed: int
) -> str:
    """Returns the mean test accuracy of one run as text."""
    run = comparison.run(method, seed)
    return MISSING if run is None else formatting.fraction(run.mean_test)


def missing_notes(comparison: comparison_records.Comparison) -> list[str]:
    """Returns one line per reason: which runs are not there."""
    by_reason: dict[str, list[str]] = {}
    for (method, seed), reason in comparison.missing_runs.items():
        run_name = f"{method} seed {seed}"
        by_reason.setdefault(reason, []).append(run_name)
    return [
        f"{formatting.number_of(len(runs), 'run')} missing, {reason}: "
        f"{', '.join(runs)}"
        for reason, runs in by_reason.items()
    ]


def large(value: float | None) -> str:
    """Returns a large number with a power of a thousand: `12.3 G`."""
    if value is None:
        return formatting.NONE
    units = ["", " k", " M", " G", " T", " P", " E"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000.0
        units.pop(0)
    return f"{value:.3g}{units[0]}"


def _summary(
    comparison: comparison_records.Comparison, method: str
) -> MethodSummary:
    runs = comparison.runs_of(method)
    keys = (
        *("validation", "accounted_params", "image_multiply_adds"),
        *("train_multiply_adds", "train_secs", "cpu_secs"),
    )
    return MethodSummary(
        method=method,
        num_runs=len(runs),
        num_asked=len(comparison.seeds),
        test=significance.spread([run.mean_test for run in runs]),
        accounted=significance.spread(
            [run.mean_accounted_params for run in runs]
        ),
        means={key: _mean([run.mean_of(key) for run in runs]) for key in keys},
    )


def _paired(
    comparison: comparison_records.Comparison, ours: str, other: str
) -> significance.Paired | None:
    first, second = [], []
    for run, against in _common(comparison, ours, other):
        first += [task.test for task in run.tasks]
        second += [task.test for task in against.tasks]
    return significance.paired(first, second)


def _seeds_higher(
    comparison: comparison_records.Comparison, ours: str, other: str
) -> str:
    common = _common(comparison, ours, other)
    num = sum(run.mean_test > against.mean_test for run, against in common)
    return f"{num} of {len(common)}"


def _common(
    comparison: comparison_records.Comparison, ours: str, other: str
) -> list[tuple[comparison_records.Run, comparison_records.Run]]:
    """Returns the runs of two methods under the seeds that both finished."""
    pairs = [
        (comparison.run(ours, seed), comparison.run(other, seed))
        for seed in comparison.seeds
    ]
    return [(a, b) for a, b in pairs if a is not None and b is not None]


def _share(
    part: significance.Spread | None, whole: significance.Spread | None
) -> str:
    if part is None or whole is None:
        return formatting.NONE
    return formatting.percent(part.mean, whole.mean)


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(values):
        return None
    return sum(numbers) / len(numbers)


def _secs(value: float | None) -> str:
    return formatting.NONE if value is None else formatting.secs(value)


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"
