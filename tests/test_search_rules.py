"""The rules of the method, one test each, on records alone."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import pytest

from keras_munet.core import seeds
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.search import autotune
from keras_munet.search import cloning
from keras_munet.search import draws as draws_lib
from keras_munet.search import evolution
from keras_munet.search import mutations
from keras_munet.search import plan as plan_lib
from keras_munet.search import population as population_lib
from keras_munet.search import sampling

_NUM_DRAWS = 4000
_HPARAMS = {
    **settings_lib.DEFAULT_HPARAMS,
    "num_layers": 1,
    "ds_image_size": 32,
}


class TinyFamily:
    """Paths of one-parameter components, enough to search over."""

    name = "tiny"

    def layout(self, hparams, num_classes, adapters=frozenset()):
        size = hparams["ds_image_size"]
        places = [("embedding", 3), ("posembed_input", size)]
        for i in range(hparams["num_layers"]):
            if i in adapters:
                places.append((f"residual_adapter_{i}", hparams["adapter_dim"]))
            places.append((f"encoderblock_{i}", 5))
        places += [("encoder_norm", 2), ("head", num_classes)]
        return tuple(
            specs.ComponentSpec(name, "Tiny", {}, (("w", (width,)),))
            for name, width in places
        )

    def can_resample(self, spec):
        return spec.name == "posembed_input"

    def to_json(self):
        return {"family": self.name}


def _refs(layout, tag):
    return tuple(
        specs.ComponentRef(s.name, f"{tag}.{s.name}", s.spec_id, s.num_params)
        for s in layout
    )


def _path(task, parent, born, tag, score=None, hparams=None, components=None):
    hparams = {**_HPARAMS, **(hparams or {})}
    if components is None:
        components = _refs(TinyFamily().layout(hparams, 4), tag)
    path = specs.PathRecord(task, parent, born, hparams, components)
    return (
        path if score is None else path.with_metrics(score=score, quality=score)
    )


def _root(**hparams):
    return _path(specs.NOT_TRAINABLE, None, (-1, 0, 0), "root", None, hparams)


def _settings(**changes):
    values = {
        "seed": 3,
        "task_names": ["a", "b"],
        "num_samples_per_task": 8,
        "children_per_generation": 4,
        "ranges": {"num_layers": [0, 1, 2, 3]},
    }
    values.update(changes)
    return settings_lib.Settings.from_dict(values)


def _iteration(population, task="a", settings=None, **kwargs):
    return evolution.TaskIteration(
        settings or _settings(),
        TinyFamily(),
        population,
        task,
        num_classes=4,
        iteration=kwargs.pop("iteration", 0),
        **kwargs,
    )


def _tell(search, plan, quality):
    """Answers a plan; `quality(child)` is None where nothing improved."""
    results = []
    for child in plan.children:
        value = quality(child)
        refs = (
            ()
            if value is None
            else tuple(
                specs.ComponentRef(
                    p.spec.name,
                    f"{plan.task}{plan.iteration}.{child.index}.{p.spec.name}",
                    p.spec.spec_id,
                    p.spec.num_params,
                )
                if p.is_new
                else p.source
                for p in child.components
            )
        )
        results.append(plan_lib.ChildResult(child.index, value, refs))
    search.tell(results)


def _many_draws(seed, kind="independent"):
    """Yields the numbers of as many children as are counted."""
    rng = np.random.default_rng(seed)
    for position in range(_NUM_DRAWS):
        yield draws_lib.Draws(kind, seed, ("child", "a"), position, rng)


def _share(draws, expected, sigmas=5):
    spread = np.sqrt(expected * (1 - expected) / _NUM_DRAWS)
    assert abs(draws / _NUM_DRAWS - expected) < sigmas * spread


@pytest.mark.parametrize("num_children", [0, 1, 2, 4])
def test_a_path_is_taken_with_half_to_the_power_of_its_children(num_children):
    path = _path("a", None, (0, 0, 0), "x", 0.5)
    rng = np.random.default_rng(1)
    taken = sum(
        sampling.take([path], {path.id: num_children}, rng) is not None
        for _ in range(_NUM_DRAWS)
    )
    if num_children == 0:
        assert taken == _NUM_DRAWS
    else:
        _share(taken, 0.5**num_children)


def test_active_paths_are_walked_from_best_to_worst_newest_first_of_equals():
    paths = [
        _path("a", None, (0, 0, i), f"p{i}", score)
        for i, score in enumerate([0.2, 0.9, 0.9, 0.5])
    ]
    assert [p.born[2] for p in sampling.rank(paths)] == [2, 1, 3, 0]


def test_mu2net_rotates_the_seeds_past_the_one_it_takes():
    seeds_ = [_path(f"t{i}", None, (0, 0, i), f"s{i}", 0.1) for i in range(4)]
    counts = {seeds_[0].id: 60, seeds_[1].id: 60}
    taken, order = sampling.parent(
        [], seeds_, counts, np.random.default_rng(0), walk_seeds=True
    )
    assert taken is seeds_[2]
    assert [p.born[2] for p in order] == [3, 0, 1, 2]


def test_munet_picks_uniformly_among_seeds_and_active_when_none_is_taken():
    active = [_path("a", None, (1, 0, 0), "x", 0.9)]
    others = [_path(f"t{i}", None, (0, 0, i), f"s{i}", 0.1) for i in range(3)]
    rng = np.random.default_rng(2)
    picked = collections.Counter(
        sampling.parent(
            active, others, {active[0].id: 60}, rng, walk_seeds=False
        )[0].id
        for _ in range(_NUM_DRAWS)
    )
    assert len(picked) == 4
    for number in picked.values():
        _share(number, 0.25)


def test_a_step_moves_to_either_neighbour_alike_and_clamps_at_the_ends():
    steps = (1, 2, 3)
    ends = {
        (value, way): mutations.step(value, steps, way)
        for value in steps
        for way in (-1, 1)
    }
    assert ends == {
        (1, -1): 1,
        (1, 1): 2,
        (2, -1): 1,
        (2, 1): 3,
        (3, -1): 2,
        (3, 1): 3,
    }
    values = {**_HPARAMS, "adapter_dim": 2}
    moved = collections.Counter(
        mutations.mutate(
            values, ["adapter_dim"], {"adapter_dim": steps}, 0.2, draws
        )["adapter_dim"]
        for draws in _many_draws(3)
    )
    _share(moved[1], 0.1)
    _share(moved[3], 0.1)


@pytest.mark.parametrize("version", settings_lib.VERSIONS)
def test_every_hyperparameter_mutates_at_the_mutation_probability(version):
    fixed = 0.1 if version == "munet" else None
    table = {
        k: v
        for k, v in autotune.TABLES["v2"].items()
        if k != "mu" and not autotune.is_data(k)
    }
    moved = collections.Counter()
    for draws in _many_draws(4):
        child, prob = mutations.mutate_child(
            _HPARAMS, table, draws, fixed_prob=fixed
        )
        assert prob == (0.1 if fixed else _HPARAMS["mu"])
        moved.update(k for k in table if child[k] != _HPARAMS[k])
    for key, steps in table.items():
        # A clamped step at an end of the range does not show as a move.
        at_end = _HPARAMS[key] in (steps[0], steps[-1])
        shows = 0.5 if at_end else 1.0
        _share(moved[key], prob * shows)


def test_mu_mutates_first_and_rules_the_rest():
    ranges = {"mu": (0.0, 1.0), "opt_lr": (0.005, 0.01, 0.02)}
    # From 1.0, mu always mutates: up stays 1.0 and opt_lr moves, down 0.0
    # and opt_lr stays.
    for draws in _many_draws(5):
        child, prob = mutations.mutate_child(
            {**_HPARAMS, "mu": 1.0}, ranges, draws, fixed_prob=None
        )
        assert prob == child["mu"]
        assert (child["opt_lr"] != 0.01) == (child["mu"] == 1.0)


def test_data_hyperparameters_start_from_the_best_path_and_are_shared():
    best = _path("a", None, (0, 0, 0), "x", 0.9, {"ds_area_range_min": 0.5})
    values = mutations.mutate_data(
        _HPARAMS, best.hparams, {}, 0.0, next(_many_draws(0))
    )
    assert values["ds_area_range_min"] == 0.5
    assert all(autotune.is_data(key) for key in values)
    plan = _iteration(population_lib.Population(_root())).ask()
    for child in plan.children:
        for key, value in plan.data_hparams.items():
            assert child.hparams[key] == value


def test_munet_does_not_mutate_data_until_every_seed_was_tried():
    settings = _settings(search={"version": "munet", "auto_tune": "v1"})
    root = _root()
    others = {
        f"t{i}": _path(f"t{i}", root.id, (i, 0, 0), f"t{i}", 0.5)
        for i in range(5)
    }
    population = population_lib.Population(root, others)
    search = _iteration(population, settings=settings)
    first, expected = (
        search.ask(),
        sorted([root, *others.values()], key=lambda p: p.born, reverse=True),
    )
    assert [c.parent.id for c in first.children] == [p.id for p in expected[:4]]
    for child in first.children:
        assert child.hparams == dict(child.parent.hparams)
        for part in child.components:
            if part.spec.name not in ("head", "encoder_norm"):
                assert part.init == cloning.SHARE


def test_mu2net_shuffles_seeds_by_the_event_alone():
    root = _root()
    others = {
        f"t{i}": _path(f"t{i}", root.id, (i, 0, 0), f"t{i}", 0.5)
        for i in range(8)
    }
    population = population_lib.Population(root, others)
    orders = [
        _iteration(population, iteration=i).to_json()["seeds"]
        for i in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(population.living)


def test_a_private_path_seeds_no_other_task():
    root = _root()
    population = population_lib.Population(
        root,
        {"p": _path("p", root.id, (0, 0, 0), "p", 0.9)},
        private=frozenset({"p"}),
    )
    assert population.seeds("a") == [root]


def _planned(lineage, task="a", layout=None, locked=True, mutates=False):
    parts = cloning.plan_components(
        layout or TinyFamily().layout(lineage[0].hparams, 4),
        lineage,
        task,
        is_locked=lambda c: locked,
        trains=lambda place: mutates or place == "encoder_norm",
        can_resample=TinyFamily().can_resample,
        train_resampled=True,
    )
    return {p.spec.name: p for p in parts}


def test_a_head_comes_only_from_an_ancestor_of_the_same_task():
    root = _root()
    other = _path("b", root.id, (0, 0, 0), "b", 0.5)
    own = _path("a", other.id, (1, 0, 0), "a", 0.5)
    assert _planned([other, root])["head"].init == cloning.FRESH
    assert _planned([own, other, root])["head"].source.id == "a.head"


def test_locked_components_are_shared_unless_drawn_or_forced():
    root = _root()
    parts = _planned([root])
    assert parts["embedding"].init == cloning.SHARE
    assert not parts["embedding"].trainable
    assert parts["encoder_norm"].init == cloning.COPY
    assert parts["encoder_norm"].trainable
    drawn = _planned([root], mutates=True)
    assert drawn["embedding"].init == cloning.COPY


def test_unlocked_components_are_always_cloned_trainable():
    parts = _planned([_path("a", None, (0, 0, 0), "a", 0.5)], locked=False)
    assert all(p.init == cloning.COPY and p.trainable for p in parts.values())


def test_another_shape_sends_the_search_on_to_older_ancestors():
    root = _root()
    resized = _path("b", root.id, (0, 0, 0), "b", 0.5, {"ds_image_size": 64})
    layout = TinyFamily().layout(_HPARAMS, 4)
    parts = _planned([resized, root], layout=layout)
    assert parts["posembed_input"].source.id == "root.posembed_input"
    assert parts["posembed_input"].init == cloning.SHARE


def test_a_position_embedding_of_a_new_grid_is_resampled_from_the_root():
    root = _root()
    layout = TinyFamily().layout({**_HPARAMS, "ds_image_size": 48}, 4)
    part = _planned([root], layout=layout)["posembed_input"]
    assert (part.init, part.trainable) == (cloning.RESAMPLE, True)
    assert part.source.id == "root.posembed_input"


def test_a_new_block_is_initialised_afresh():
    layout = TinyFamily().layout({**_HPARAMS, "num_layers": 2}, 4)
    part = _planned([_root()], layout=layout)["encoderblock_1"]
    assert (part.init, part.source, part.trainable) == (
        cloning.FRESH,
        None,
        True,
    )


def test_adapters_are_inserted_at_the_probability_and_dropped_above_layers():
    inserted = sum(
        0
        in mutations.mutate_adapters(
            set(), 1, 0.2, draws, insert=True, remove=False
        )
        for draws in _many_draws(6)
    )
    _share(inserted, 0.2)
    kept = mutations.mutate_adapters(
        {0, 2}, 2, 1.0, next(_many_draws(6)), insert=False, remove=False
    )
    assert kept == {0}
    gone = mutations.mutate_adapters(
        {0}, 1, 1.0, next(_many_draws(6)), insert=True, remove=True
    )
    assert gone == frozenset()


def test_the_best_so_far_starts_at_the_parents_score_for_the_same_task():
    root = _root()
    own = _path("a", root.id, (0, 0, 0), "a", 0.7)
    population = population_lib.Population(root, {"a": own})
    search = _iteration(population, iteration=1)
    beat = {
        c.parent.task: c.score_to_beat
        for _ in range(4)
        for c in search.ask().children
    }
    assert beat["a"] == 0.7
    if specs.NOT_TRAINABLE in beat:
        assert beat[specs.NOT_TRAINABLE] == -np.inf


def test_the_score_is_quality_times_the_size_penalty():
    population = population_lib.Population(_root())
    settings = _settings(search={"score_base": 0.5})
    child = _iteration(population, settings=settings).ask().children[0]
    ratio = child.accounted_params / population.root.num_params
    assert child.size_factor == pytest.approx(0.5**ratio)


def test_accounted_parameters_sum_to_the_unique_parameters_in_use():
    root = _root()
    shared = root.components[:2]
    paths = {}
    for i, task in enumerate("abc"):
        own = _refs(TinyFamily().layout(_HPARAMS, 4)[2:], task)
        paths[task] = _path(
            task, root.id, (i, 0, 0), task, 0.5, None, shared + own
        )
    population = population_lib.Population(root, paths)
    total = sum(
        population.accounted_params(t, p.components) for t, p in paths.items()
    )
    unique = {c.id: c.num_params for p in paths.values() for c in p.components}
    assert total == pytest.approx(sum(unique.values()))


@pytest.mark.parametrize(("version", "expected"), [("munet", 0), ("mu2net", 7)])
def test_among_equal_scores_the_published_path_is_by_version(version, expected):
    settings = _settings(search={"version": version, "auto_tune": "off"})
    search = _iteration(population_lib.Population(_root()), settings=settings)
    while not search.done:
        _tell(search, search.ask(), lambda child: 0.5)
    assert search.finish().best.born[2] == expected


def test_the_best_path_wins_and_its_lineage_reaches_a_living_path():
    root = _root()
    search = _iteration(population_lib.Population(root))
    qualities = iter(np.random.default_rng(0).permutation(8) / 10)
    while not search.done:
        _tell(search, search.ask(), lambda child: float(next(qualities)))
    outcome = search.finish()
    assert outcome.best.score == 0.7
    after = population_lib.Population(
        root, {"a": outcome.best}, retired=outcome.retired
    )
    assert after.ancestors(outcome.best) == [root]


def test_relinking_follows_a_retired_path_of_another_task():
    root = _root()
    old = _path("a", root.id, (0, 0, 0), "old", 0.5)
    child = _path("b", old.id, (1, 0, 0), "b", 0.5)
    new = _path("a", old.id, (2, 0, 0), "new", 0.6)
    population = population_lib.Population(
        root, {"a": new, "b": child}, retired={old.id: root.id}
    )
    assert population.ancestors(child) == [root]


def test_a_child_without_a_snapshot_is_discarded():
    search = _iteration(population_lib.Population(_root()))
    _tell(search, search.ask(), lambda child: 0.5 if child.index == 2 else None)
    assert [p.born[2] for p in search.active] == [2]


def test_a_resumed_iteration_asks_for_the_same_children():
    def run(interrupt):
        search = _iteration(population_lib.Population(_root()))
        asked = []
        while not search.done:
            if interrupt:
                state = search.to_json()
                search = _iteration(population_lib.Population(_root()))
                search.restore(state)
            plan = search.ask()
            asked.append(plan)
            _tell(search, plan, lambda child: child.index / 10)
        return asked, search.finish().best

    assert run(False) == run(True)


def test_asking_twice_gives_the_same_children():
    search = _iteration(population_lib.Population(_root()))
    assert search.ask() == search.ask()


@pytest.mark.parametrize(("version", "own"), [("munet", 0.5), ("mu2net", 1.0)])
def test_only_munet_counts_the_children_of_other_tasks(version, own):
    root = _root()
    path = _path("a", root.id, (0, 0, 0), "a", 0.7)
    taken = 0
    for seed in range(400):
        search = _iteration(
            population_lib.Population(root, {"a": path}),
            settings=_settings(
                seed=seed,
                search={"version": version, "auto_tune": "off"},
                num_samples_per_task=1,
            ),
            iteration=1,
            num_children_of_others={path.id: 500, root.id: 500},
        )
        search._untried = []
        plan = search.ask()
        taken += plan.children[0].parent.id == path.id
        _tell(search, plan, lambda child: None)
        # What it keeps is its own count alone.
        assert sum(search.to_json()["num_children"].values()) == 1
    assert taken / 400 == pytest.approx(own, abs=0.1)


def test_progress_is_not_restored_after_another_task_published():
    root = _root()
    search = _iteration(population_lib.Population(root))
    _tell(search, search.ask(), lambda child: 0.5)
    state = search.to_json()
    again = _iteration(population_lib.Population(root))
    assert again.can_restore(state)
    other = _path("b", root.id, (1, 0, 0), "b", 0.5)
    changed = _iteration(population_lib.Population(root, {"b": other}))
    assert not changed.can_restore(state)
    assert not _iteration(
        population_lib.Population(root), iteration=1
    ).can_restore(state)


def test_generations_cover_exactly_the_samples():
    settings = _settings(num_samples_per_task=10, children_per_generation=4)
    search = _iteration(population_lib.Population(_root()), settings=settings)
    sizes = []
    while not search.done:
        plan = search.ask()
        sizes.append(len(plan.children))
        _tell(search, plan, lambda child: 0.5)
    assert sizes == [4, 4, 2]


def test_events_have_independent_generators():
    draws = {
        seeds.generator(0, *event).random()
        for event in [("a", 1), ("a", 2), ("b", 1), ("a1",), ("a", "1")]
    }
    assert len(draws) == 5


def test_settings_round_trip_through_json():
    settings = _settings(root={"variant": "B/16"})
    again = settings_lib.Settings.from_dict(settings.to_json())
    assert dataclasses.replace(again, data=settings.data) == settings
