"""Generations, snapshots, scores and the end of a task iteration (section 2);
see the table of rules in search/test_fidelity.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import search_samples as samples

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs

_WITHOUT_SCORE = -float("inf")


def _experiment(version="mu2net", **search):
    return samples.settings(search={"version": version, **search})


def test_generations_cover_exactly_the_samples():
    settings = samples.settings(
        num_samples_per_task=10, children_per_generation=4
    )
    search = samples.iteration(samples.population(), experiment=settings)
    sizes = []
    while not search.is_done:
        plan = search.ask()
        sizes.append(len(plan.children))
        samples.tell(search, plan, lambda child: 0.5)
    assert sizes == [4, 4, 2]
    assert settings.num_generations == 3


def test_improved_children_become_active_before_the_next_generation():
    search = samples.iteration(samples.population())
    first = search.ask()
    samples.tell(search, first, lambda child: 0.9)
    assert len(search.active) == len(first.children)
    assert {c.parent.task for c in search.ask().children} == {"a"}


def test_a_child_without_a_snapshot_is_discarded():
    search = samples.iteration(samples.population())
    samples.tell(search, search.ask(), lambda c: 0.5 if c.index == 2 else None)
    assert [p.created_in[2] for p in search.active] == [2]


def test_a_task_without_any_snapshot_is_refused():
    search = samples.iteration(samples.population())
    with pytest.raises(errors.ChildError, match="task 'a' reached a finite"):
        samples.finished(search, lambda child: None)


@pytest.mark.parametrize("version", settings_lib.VERSIONS)
def test_the_best_so_far_starts_at_the_parents_score_of_the_same_task(version):
    own = samples.path("a", samples.root().id, score=0.7)
    other = samples.path("b", samples.root().id, score=0.9)
    population = samples.population(own, other)
    search = samples.iteration(
        population, number=1, experiment=_experiment(version)
    )
    seen = {}
    while not search.is_done:
        plan = search.ask()
        seen.update((c.parent.task, c.score_to_beat) for c in plan.children)
        samples.tell(search, plan, lambda child: None)
    assert seen == {
        "a": 0.7,
        "b": _WITHOUT_SCORE,
        specs.NOT_TRAINABLE: _WITHOUT_SCORE,
    }


@pytest.mark.parametrize(
    ("version", "accepts"), [("munet", False), ("mu2net", True)]
)
def test_only_mu2net_takes_a_snapshot_of_an_equal_score(version, accepts):
    search = samples.iteration(
        samples.population(), experiment=_experiment(version)
    )
    assert search.ask().accept_ties == accepts


@pytest.mark.parametrize("base", [0.98, 0.95, 0.90, 0.70, 0.30, 0.02])
def test_the_score_is_quality_times_the_size_penalty(base):
    population = samples.population()
    search = samples.iteration(
        population, experiment=_experiment(score_base=base)
    )
    plan = search.ask()
    num_root_params = population.root.num_params
    for child in plan.children:
        num_params = sum(p.spec.num_params for p in child.components)
        # Alone in the system, the task has nobody to share the root with.
        assert child.accounted_params == num_params
        ratio = num_params / num_root_params
        assert child.size_factor == pytest.approx(base**ratio)
    samples.tell(search, plan, lambda child: 0.8)
    factors = {c.index: c.size_factor for c in plan.children}
    for path in search.active:
        assert path.metrics["quality"] == 0.8
        assert path.score == pytest.approx(0.8 * factors[path.created_in[2]])


def test_a_base_of_one_is_plain_quality():
    assert samples.settings().search.score_base == 1.0
    for child in samples.iteration(samples.population()).ask().children:
        assert child.size_factor == 1.0


def test_the_size_that_counts_as_one_may_be_given():
    search = _experiment(score_base=0.5, score_num_params=10)
    child = (
        samples.iteration(samples.population(), experiment=search)
        .ask()
        .children[0]
    )
    assert child.size_factor == pytest.approx(
        0.5 ** (child.accounted_params / 10)
    )


def test_a_component_counts_by_the_number_of_tasks_that_use_it():
    root = samples.root()
    own = samples.path("a", root.id, score=0.5)
    taker = samples.path(
        "b",
        own.id,
        score=0.5,
        components=(
            root.component("embedding"),
            *own.components[1:3],
            *samples.path("b").components[3:],
        ),
    )
    population = samples.population(own, taker, origin=root)
    # embedding 3, position embedding 32, block 5, norm 2, head 4; the root
    # itself is no task.
    assert population.accounted_params("a", own.components) == pytest.approx(
        3 + (32 + 5) / 2 + 2 + 4
    )
    assert population.accounted_params("b", taker.components) == pytest.approx(
        3 + (32 + 5) / 2 + 2 + 4
    )
    # A third task would share the root's part with b.
    assert population.accounted_params(
        "c", taker.components[:2], num_new_params=7
    ) == pytest.approx(3 / 2 + 32 / 3 + 7)


@pytest.mark.parametrize(("version", "expected"), [("munet", 0), ("mu2net", 7)])
def test_among_equal_scores_mu2net_keeps_the_most_recent(version, expected):
    search = samples.iteration(
        samples.population(), experiment=_experiment(version)
    )
    outcome = samples.finished(search, lambda child: 0.5)
    assert outcome.best.created_in[2] == expected


def test_only_the_best_path_is_kept_and_the_old_one_if_none_is_better():
    old = samples.path("a", samples.root().id, score=0.7)
    population = samples.population(old)
    qualities = np.random.default_rng(0).permutation(8) / 10

    def outcome(scale):
        search = samples.iteration(population, number=1)
        return samples.finished(
            search, lambda child: float(qualities[child.index]) * scale
        )

    assert outcome(1.5).best.score == pytest.approx(1.05)
    assert outcome(0.5).best is old


def test_the_best_path_is_relinked_to_its_nearest_living_ancestor():
    root = samples.root()
    search = samples.iteration(samples.population(origin=root))
    outcome = samples.finished(search, lambda child: 0.1 + child.index / 10)
    assert outcome.best.score == pytest.approx(0.8)
    # It is a grandchild of the root at least.
    assert outcome.best.parent != root.id
    after = samples.population(
        outcome.best, origin=root, retired=outcome.retired
    )
    assert after.ancestors(outcome.best) == [root]


def test_a_replaced_path_relinks_the_paths_that_came_from_it():
    root = samples.root()
    old = samples.path("a", root.id, tag="old", score=0.5)
    child = samples.path("b", old.id, (1, 0, 0), score=0.5)
    before = samples.population(old, child, origin=root)
    assert before.ancestors(child) == [old, root]
    search = samples.iteration(before, number=1)
    outcome = samples.finished(search, lambda child: 0.9)
    assert outcome.retired[old.id] == root.id
    after = samples.population(
        outcome.best, child, origin=root, retired=outcome.retired
    )
    assert after.ancestors(child) == [root]


def test_counts_of_dead_paths_are_dropped():
    old = samples.path("a", samples.root().id, tag="old", score=0.5)
    population = samples.population(old)
    search = samples.iteration(population, number=1, num_children={old.id: 1})
    outcome = samples.finished(search, lambda child: 0.6 + child.index / 100)
    living = {population.root.id, outcome.best.id}
    assert set(outcome.num_children) <= living
    assert old.id not in outcome.num_children
