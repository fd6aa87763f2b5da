"""Spread over seeds, and whether paired differences could be chance.

Invariant: the same numbers give the same statement: what is drawn is drawn
from fixed seeds.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

import numpy as np

from keras_munet.core import seeds as seeds_lib

# With fewer pairs no outcome of the sign-flip test is below 0.05 (2 / 2^n).
NUM_PAIRS_MIN = 6
# Up to here every pattern of signs is tried, 2^(n - 1) sums.
_NUM_PAIRS_EXACT_MAX = 20
_NUM_DRAWS = 100_000
_NUM_RESAMPLES = 10_000
# Sums that differ by rounding alone are equal.
_TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True)
class Spread:
    """Some values, summed up.

    Attributes:
      mean: their mean.
      sd: their standard deviation with n - 1; None for a single value.
      low: the smallest.
      high: the largest.
    """

    mean: float
    sd: float | None
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Paired:
    """The difference of two methods over pairs.

    Attributes:
      num_pairs: n.
      num_better: pairs in which the first is above the second.
      num_worse: pairs in which it is below.
      mean: mean difference, the first minus the second.
      low: lower end of the 95% bootstrap interval of `mean`; None below
        NUM_PAIRS_MIN pairs, where it would be far too narrow.
      high: its upper end.
      p: two-sided, of the sign-flip permutation test.
      smallest_p: what n pairs could give at best.
    """

    num_pairs: int
    num_better: int
    num_worse: int
    mean: float
    low: float | None
    high: float | None
    p: float
    smallest_p: float


def spread(values: Sequence[float]) -> Spread | None:
    """Returns the summary of values; None of none."""
    if not values:
        return None
    return Spread(
        mean=statistics.fmean(values),
        sd=statistics.stdev(values) if len(values) > 1 else None,
        low=min(values),
        high=max(values),
    )


def paired(first: Sequence[float], second: Sequence[float]) -> Paired | None:
    """Returns how paired values differ; None without pairs.

    Args:
      first: one value per pair.
      second: the values that they are compared with, in the same order.
    """
    if not first:
        return None
    differences = np.subtract(first, second).astype(np.float64)
    num = len(differences)
    low, high = _interval(differences) if num >= NUM_PAIRS_MIN else (None, None)
    return Paired(
        num_pairs=num,
        num_better=int(np.sum(differences > _TOLERANCE)),
        num_worse=int(np.sum(differences < -_TOLERANCE)),
        mean=float(differences.mean()),
        low=low,
        high=high,
        p=sign_flip_p(differences),
        smallest_p=2.0 / 2**num,
    )


def sign_flip_p(differences: np.ndarray) -> float:
    """Returns the two-sided p of the sign-flip permutation test.

    If the methods did not differ, each difference would be as likely with the
    other sign; p is the share of sign patterns whose sum is as far from 0 as
    the one seen: all of them up to 20 pairs, 100,000 drawn ones beyond.

    Args:
      differences: `[n] float64`, at least one.
    """
    observed = abs(differences.sum()) - _TOLERANCE
    if len(differences) <= _NUM_PAIRS_EXACT_MAX:
        # Flipping every sign changes no distance: the first may stay.
        sums = differences[:1]
        for value in differences[1:]:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= observed))
    rng = seeds_lib.generator(0, "sign flips", len(differences))
    signs = rng.integers(0, 2, (_NUM_DRAWS, len(differences)), np.int8)
    num = np.sum(np.abs((2.0 * signs - 1.0) @ differences) >= observed)
    # The pattern that was seen is one of them.
    return float((num + 1) / (_NUM_DRAWS + 1))


def holm(values: Sequence[float]) -> list[float]:
    """Returns p values adjusted for their number by Holm's method.

    Args:
      values: one p per comparison.
    """
    order = np.argsort(values, kind="stable")
    adjusted = [0.0] * len(values)
    largest = 0.0
    for rank, index in enumerate(order):
        factor = len(values) - rank
        largest = max(largest, min(1.0, factor * values[index]))
        adjusted[index] = largest
    return adjusted


def _interval(differences: np.ndarray) -> tuple[float, float]:
    """Returns the 95% percentile bootstrap interval of the mean."""
    num = len(differences)
    rng = seeds_lib.generator(0, "bootstrap", num)
    means = differences[rng.integers(0, num, (_NUM_RESAMPLES, num))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
