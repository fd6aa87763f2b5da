"""Seeds and parents (section 2, "Parent sampling"); see the table of rules in
search/test_fidelity.py.
"""

from __future__ import annotations

import collections

import numpy as np
import pytest
import search_samples as samples

from keras_munet.core import settings as settings_lib
from keras_munet.search import cloning
from keras_munet.search import sampling


def _parent(active, seeds, counts, rng, version):
    return sampling.sample_parent(
        active, seeds, counts, rng, walk_seeds=version == "mu2net"
    )


def _seeds(number):
    return [
        samples.path(f"t{i}", created_in=(0, 0, i), score=0.1)
        for i in range(number)
    ]


def test_seeds_are_the_root_and_the_paths_of_all_other_tasks():
    population = samples.neighbours(3)
    seeds = population.seeds("t1")
    assert {p.id for p in seeds} == {
        population.root.id,
        population.published["t0"].id,
        population.published["t2"].id,
    }


def test_a_private_path_seeds_no_other_task():
    root = samples.root()
    mine = samples.path("p", root.id, score=0.9)
    population = samples.population(mine, origin=root, private=frozenset({"p"}))
    assert population.seeds("a") == [root]
    # It still has the system's knowledge, and continues its own path.
    search = samples.iteration(population, "p", number=1)
    assert search.active == (mine,)


def test_munet_orders_seeds_newest_first():
    population = samples.neighbours(4)
    search = samples.iteration(
        population,
        experiment=samples.settings(search={"version": "munet"}),
    )
    assert [p.id for p in search.seeds] == [
        *(population.published[t].id for t in ("t3", "t2", "t1", "t0")),
        population.root.id,
    ]


def test_mu2net_shuffles_seeds_evenly_and_by_the_event_alone():
    population = samples.neighbours(3)

    def order(seed, number=0):
        search = samples.iteration(
            population, number=number, experiment=samples.settings(seed=seed)
        )
        return [p.id for p in search.seeds]

    assert order(0) == order(0)
    assert order(0) != order(0, 1) or order(1) != order(1, 1)
    num_orders = 2000
    places = collections.Counter(
        (place, path_id)
        for seed in range(num_orders)
        for place, path_id in enumerate(order(seed))
    )
    assert len(places) == 16
    for number in places.values():
        samples.check_share(number, 1 / 4, num_orders)


def test_active_paths_are_walked_from_best_to_worst():
    paths = [
        samples.path("a", created_in=(0, 0, i), tag=f"p{i}", score=score)
        for i, score in enumerate([0.2, 0.9, 0.9, 0.5])
    ]
    # Of equals the newest first.
    assert [p.created_in[2] for p in sampling.rank_paths(paths)] == [2, 1, 3, 0]
    rng = np.random.default_rng(0)
    taken, _ = _parent(paths, [], {}, rng, "mu2net")
    assert taken is paths[2]


@pytest.mark.parametrize("num_children", [0, 1, 2, 4])
def test_a_path_is_taken_with_half_to_the_power_of_its_children(num_children):
    path = samples.path("a", score=0.5)
    rng = np.random.default_rng(1)
    taken = sum(
        sampling.first_passing([path], {path.id: num_children}, rng) is not None
        for _ in range(samples.NUM_DRAWS)
    )
    samples.check_share(taken, 0.5**num_children)


def test_a_worse_path_is_taken_only_where_all_better_ones_were_not():
    paths = [samples.path("a", tag=f"p{i}", score=0.9 - i) for i in range(3)]
    counts = {paths[0].id: 1, paths[1].id: 2, paths[2].id: 3}
    rng = np.random.default_rng(2)
    taken = collections.Counter(
        sampling.first_passing(paths, counts, rng)
        for _ in range(samples.NUM_DRAWS)
    )
    samples.check_share(taken[0], 1 / 2)
    samples.check_share(taken[1], 1 / 2 * 1 / 4)
    samples.check_share(taken[2], 1 / 2 * 3 / 4 * 1 / 8)
    samples.check_share(taken[None], 1 / 2 * 3 / 4 * 7 / 8)


@pytest.mark.parametrize(("version", "share"), [("munet", 0.5), ("mu2net", 1)])
def test_munet_counts_children_of_all_tasks_and_mu2net_of_this_one(
    version, share
):
    population = samples.population(samples.path("a", score=0.7))
    own = population.published["a"]
    many = {own.id: 500, population.root.id: 500}
    num_draws = 400
    taken = 0
    for seed in range(num_draws):
        search = samples.iteration(
            population,
            number=1,
            experiment=samples.settings(
                seed=seed,
                search={"version": version},
                num_samples_per_task=1,
            ),
            num_children_of_others=many,
        )
        search.restore({**search.to_json(), "num_untried": 0})
        plan = search.ask()
        taken += plan.children[0].parent.id == own.id
        samples.tell(search, plan, lambda child: None)
        # What it keeps is its own count alone.
        assert sum(search.to_json()["num_children"].values()) == 1
    # Where all decayed, munet picks one of two alike.
    samples.check_share(taken, share, num_draws)


@pytest.mark.parametrize("version", settings_lib.VERSIONS)
def test_children_of_the_same_generation_and_iteration_count(version):
    population = samples.population(samples.path("a", score=0.7))
    search = samples.iteration(
        population,
        number=1,
        experiment=samples.settings(
            search={"version": version},
            num_samples_per_task=64,
            children_per_generation=32,
        ),
    )
    own = population.published["a"].id
    parents = collections.Counter()
    while not search.is_done:
        plan = search.ask()
        parents.update(c.parent.id for c in plan.children)
        samples.tell(search, plan, lambda child: None)
        assert search.to_json()["num_children"] == dict(parents)
    # Without decay the walk would never go past the one active path.
    assert 8 < parents[own] < 56


def test_munet_picks_uniformly_among_seeds_and_active_when_none_is_taken():
    active = [samples.path("a", created_in=(1, 0, 0), score=0.9)]
    rng = np.random.default_rng(2)
    picked = collections.Counter(
        _parent(active, _seeds(3), {active[0].id: 60}, rng, "munet")[0].id
        for _ in range(samples.NUM_DRAWS)
    )
    assert len(picked) == 4
    for number in picked.values():
        samples.check_share(number, 1 / 4)


def test_mu2net_walks_the_seeds_by_their_decay_before_it_picks_uniformly():
    active = [samples.path("a", created_in=(1, 0, 0), score=0.9)]
    seeds = _seeds(2)
    counts = {active[0].id: 60, seeds[0].id: 1, seeds[1].id: 2}
    rng = np.random.default_rng(3)
    picked = collections.Counter(
        _parent(active, seeds, counts, rng, "mu2net")[0].id
        for _ in range(samples.NUM_DRAWS)
    )
    uniform = 1 / 2 * 3 / 4 / 3
    samples.check_share(picked[seeds[0].id], 1 / 2 + uniform)
    samples.check_share(picked[seeds[1].id], 1 / 2 * 1 / 4 + uniform)
    samples.check_share(picked[active[0].id], uniform)


def test_mu2net_rotates_the_seeds_past_the_one_it_takes():
    seeds = _seeds(4)
    counts = {seeds[0].id: 60, seeds[1].id: 60}
    rng = np.random.default_rng(0)
    taken, order = _parent([], seeds, counts, rng, "mu2net")
    assert taken is seeds[2]
    assert [p.created_in[2] for p in order] == [3, 0, 1, 2]


def test_mu2net_tries_every_seed_before_any_twice():
    # Each has no child yet, so the walk takes the next one with certainty.
    population = samples.neighbours(7)
    search = samples.iteration(population)
    order = [p.id for p in search.seeds]
    parents = []
    while not search.is_done:
        plan = search.ask()
        parents += [c.parent.id for c in plan.children]
        samples.tell(search, plan, lambda child: None)
    assert parents == order


def test_munet_begins_by_cloning_every_seed_once_unmutated():
    population = samples.neighbours(5)
    search = samples.iteration(
        population,
        experiment=samples.settings(
            search={"version": "munet", "mutation_prob": 1.0}
        ),
    )
    order = [p.id for p in search.seeds]
    children = []
    while not search.is_done:
        plan = search.ask()
        children += plan.children
        samples.tell(search, plan, lambda child: None)
    assert [c.parent.id for c in children[: len(order)]] == order
    for child in children[: len(order)]:
        own = {
            key: value
            for key, value in child.hparams.items()
            if not key.startswith("ds_")
        }
        assert own.items() <= child.parent.hparams.items()
        for part in child.components:
            always = part.spec.name in ("head", "encoder_norm")
            assert always or part.init == cloning.SHARE
    mutated = children[len(order)]
    assert any(
        part.init == cloning.COPY
        for part in mutated.components
        if part.spec.name == "embedding"
    )
