"""The numbers that decide mutations: uniform, apart, and evenly spread."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from keras_munet.core import settings as settings_lib
from keras_munet.search import random_draws

_BLOCK = 64
_NAMES = ("opt_lr", "clone embedding", "insert residual_adapter_0")


def _draws(kind, seed, position, task="a"):
    return random_draws.RandomDraws(kind, seed, ("child", task), position)


def _numbers(kind, seed, num_positions=_BLOCK, names=_NAMES, task="a"):
    """Returns `[num_positions, len(names)]` numbers."""
    return np.array(
        [
            list(map(_draws(kind, seed, i, task).uniform, names))
            for i in range(num_positions)
        ]
    )


@pytest.mark.parametrize("kind", settings_lib.DRAWS)
def test_every_single_number_is_uniform(kind):
    num_seeds = 3000
    for position in (0, 1, 7, 63, 64):
        found = np.array(
            [_draws(kind, s, position).uniform("x") for s in range(num_seeds)]
        )
        counts = np.histogram(found, bins=20, range=(0, 1))[0]
        expected = num_seeds / 20
        # 19 degrees of freedom: 50 happens once in 10,000 times.
        assert ((counts - expected) ** 2 / expected).sum() < 50


@pytest.mark.parametrize("num_in_run", [2, 4, 8, 16, 32, 64])
def test_every_aligned_run_has_one_number_in_each_equal_part(num_in_run):
    numbers = _numbers("stratified", 5, 3 * _BLOCK)
    for first in range(0, len(numbers), num_in_run):
        run = numbers[first : first + num_in_run]
        parts = np.sort((run * num_in_run).astype(int), axis=0)
        np.testing.assert_array_equal(
            parts, np.arange(num_in_run)[:, None].repeat(len(_NAMES), 1)
        )


def test_a_mutation_of_a_tenth_falls_on_six_or_seven_of_64_children():
    for seed in range(50):
        numbers = _numbers("stratified", seed, names=_NAMES)
        assert set((numbers < 0.1).sum(0)) <= {6, 7}
    spread = {
        int((_numbers("independent", seed) < 0.1)[:, 0].sum())
        for seed in range(50)
    }
    assert min(spread) < 5
    assert max(spread) > 8


@pytest.mark.parametrize("kind", settings_lib.DRAWS)
def test_names_are_independent_of_each_other(kind):
    numbers = np.concatenate([_numbers(kind, seed) for seed in range(80)])
    for left, right in itertools.combinations(range(len(_NAMES)), 2):
        pair = numbers[:, [left, right]]
        assert abs(np.corrcoef(pair.T)[0, 1]) < 0.05
        counts = np.histogram2d(*pair.T, bins=4, range=[(0, 1)] * 2)[0]
        expected = len(pair) / counts.size
        assert abs(counts / expected - 1).max() < 0.3


@pytest.mark.parametrize("kind", settings_lib.DRAWS)
def test_names_are_independent_within_each_block_of_64_children(kind):
    # Two mutations of probability 0.2 meet in about 2.6 of 64 children, with
    # a variance of 2.4 (independent) or 1.7 (12.8 of 64 each, exactly).
    names = tuple(f"name {i}" for i in range(8))
    met = []
    for seed in range(60):
        mutated = (_numbers(kind, seed, names=names) < 0.2).astype(int)
        counts = mutated.T @ mutated
        met += counts[np.triu_indices(len(names), 1)].tolist()
    assert np.mean(met) == pytest.approx(0.04 * _BLOCK, abs=0.3)
    assert np.var(met) < 4


@pytest.mark.parametrize("kind", settings_lib.DRAWS)
@pytest.mark.parametrize("lag", [1, 2, 4, 8, 16, 32])
def test_children_of_different_generations_mutate_apart(kind, lag):
    # A child whose number repeats its predecessor's would try what was tried.
    both, num_pairs = 0, 0
    for seed in range(150):
        mutated = _numbers(kind, seed) < 0.2
        pairs = mutated[lag:] & mutated[:-lag]
        both += pairs.sum()
        num_pairs += pairs.size
    assert both / num_pairs < 1.35 * 0.2**2


@pytest.mark.parametrize("kind", settings_lib.DRAWS)
def test_children_try_many_different_sets_of_mutations(kind):
    names = tuple(f"name {i}" for i in range(12))
    sets = {tuple(row) for row in _numbers(kind, 7, names=names) < 0.2}
    # 64 independent children have 52 on average.
    assert len(sets) > 40


@pytest.mark.parametrize("kind", settings_lib.DRAWS)
def test_a_number_depends_on_seed_task_name_and_position_alone(kind):
    def number(seed=1, task="a", name="x", position=9, before=()):
        draws = _draws(kind, seed, position, task)
        for other in before:
            draws.uniform(other)
        return draws.uniform(name)

    assert number() == number()
    others = [
        number(seed=2),
        number(name="y"),
        number(position=10),
        number(task="b") if kind == "stratified" else 0.5,
    ]
    assert number() not in others
    # What else the child was asked does not matter.
    assert number(before=("y", "z")) == number()


@pytest.mark.parametrize("kind", settings_lib.DRAWS)
@pytest.mark.parametrize("prob", [0.1, 0.2, 0.3])
def test_both_kinds_keep_the_mutation_probability(kind, prob):
    numbers = _numbers(kind, 11, 32 * _BLOCK)
    spread = 5 * np.sqrt(prob * (1 - prob) / len(numbers))
    for share in (numbers < prob).mean(0):
        assert share == pytest.approx(prob, abs=spread)
    for share in (numbers < prob / 2).mean(0):
        assert share == pytest.approx(prob / 2, abs=spread)
