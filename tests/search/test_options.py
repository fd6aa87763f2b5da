"""Options of the search that the published method has not; off by default."""

from __future__ import annotations

import dataclasses

import pytest
import search_samples as samples

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.search import baselines
from keras_munet.search import cloning
from keras_munet.search import evolution
from keras_munet.search import plan as plan_lib
from keras_munet.search import plugins
from keras_munet.system import duplicates


def _first_data(**search):
    """Returns the data hyperparameters of the first two generations."""
    search_of = samples.iteration(
        samples.population(),
        experiment=samples.settings(
            search=search, hparams={"mu": 1.0}, ranges={"mu": [1.0]}
        ),
    )
    plans = []
    for _ in range(2):
        plan = search_of.ask()
        plans.append(plan.data_hparams)
        search_of.tell(
            [
                plan_lib.ChildResult(child.index, None, ())
                for child in plan.children
            ]
        )
    return plans


def test_the_first_generation_may_have_the_configs_data_hyperparameters():
    own = settings_lib.Settings().hparams
    first, second = _first_data(first_data="config")
    assert all(first[k] == v for k, v in own.items() if k.startswith("ds_"))
    assert any(second[k] != v for k, v in own.items() if k in second)
    first, _ = _first_data()
    assert any(first[k] != v for k, v in own.items() if k in first)


def test_data_may_have_a_mutation_probability_of_their_own():
    own = settings_lib.Settings().hparams
    for plan in _first_data(data_mu=0.0):
        assert all(plan[k] == v for k, v in own.items() if k in plan)


_PLACES = ["cls", "encoderblock_0", "encoderblock_1", "encoder_norm", "head"]


@pytest.mark.parametrize(
    ("patterns", "forced"),
    [
        (["*"], _PLACES),
        (["encoder_norm"], ["encoder_norm"]),
        (["encoder"], []),
        (["encoderblock_[02]", "cls"], ["cls", "encoderblock_0"]),
        (["upper_half"], ["encoder_norm", "head"]),
        (["upper_half", "cls"], ["cls", "encoder_norm", "head"]),
        (["upper_third"], ["encoder_norm", "head"]),
        ([], []),
    ],
)
def test_places_are_forced_by_patterns_of_their_names(patterns, forced):
    search = settings_lib.SearchSettings(force_finetune_components=patterns)
    assert [p for p in _PLACES if search.forces(p, _PLACES)] == forced


@pytest.mark.parametrize(("limit", "trains_all"), [(0.6, True), (0.3, False)])
def test_every_component_is_trained_where_no_path_suits_the_task(
    limit, trains_all
):
    search = {
        "rank_parents": "probe",
        "finetune_all_below": limit,
        "force_finetune_components": ["upper_half"],
        "mutation_prob": 0.0,
    }
    iteration, plan = _first_plan(
        samples.population(),
        search,
        ranking={"NOT_TRAINABLE": 0.5},
        hparams={"mu": 0.0},
        ranges={"mu": [0.0]},
    )
    assert iteration.finetunes_all == trains_all
    for child in plan.children:
        shared = [part for part in child.components if not part.trainable]
        assert bool(shared) != trains_all
    # A resumed iteration knows.
    _told(iteration, plan, None)
    again = samples.iteration(
        samples.population(), experiment=samples.settings(search=search)
    )
    again.restore(iteration.to_json())
    assert again.finetunes_all == trains_all


@pytest.mark.parametrize(
    ("num_classes", "accuracy", "trains_all"),
    [(2, 0.96, True), (10, 0.91, False), (10, 0.89, True), (33, 0.86, False)],
)
def test_how_well_a_path_must_suit_follows_from_the_number_of_classes(
    num_classes, accuracy, trains_all
):
    settings = samples.settings(
        search={"rank_parents": "probe", "finetune_all_below": 0.9}
    )
    search = samples.iteration(
        samples.population(), experiment=settings, num_classes=num_classes
    )
    search.rank({path.id: accuracy for path in search.unranked})
    assert search.finetunes_all == trains_all


# As if of ten classes: 0.32, 0.92 and 0.97.
@pytest.mark.parametrize(
    ("accuracy", "pattern"),
    [(0.5, "*"), (0.95, "upper_half"), (0.98, "upper_third")],
)
def test_the_better_a_path_suits_the_less_is_trained(accuracy, pattern):
    search = {
        "rank_parents": "probe",
        "finetune_all_below": 0.9,
        "finetune_third_above": 0.96,
        "force_finetune_components": ["upper_half"],
        "mutation_prob": 0.0,
    }
    unmutated = {"hparams": {"mu": 0.0}, "ranges": {"mu": [0.0]}}
    iteration, plan = _first_plan(
        samples.population(),
        search,
        ranking={"NOT_TRAINABLE": accuracy},
        **unmutated,
    )
    assert iteration.finetunes_all == (pattern == "*")
    assert iteration.finetunes_third == (pattern == "upper_third")
    always = {"force_finetune_components": [pattern], "mutation_prob": 0.0}
    _, expected = _first_plan(samples.population(), always, **unmutated)
    assert [child.components for child in plan.children] == [
        child.components for child in expected.children
    ]


def test_the_root_alone_is_ranked_where_something_follows_from_it():
    of_root = {"rank_parents": "probe", "finetune_all_below": 0.5}
    search, _ = _first_plan(samples.population(), of_root)
    assert [path.task for path in search.unranked] == ["NOT_TRAINABLE"]
    sampled = {"finetune_all_below": 0.5}
    search, plan = _first_plan(
        samples.neighbours(2), sampled, ranking={"NOT_TRAINABLE": 0.4}
    )
    assert search.finetunes_all
    # Parents are those of a search that ranks nothing.
    _, without = _first_plan(samples.neighbours(2), {})
    assert [child.parent.id for child in plan.children] == [
        child.parent.id for child in without.children
    ]


@pytest.mark.parametrize("pattern", ["(", "a" * 300])
def test_a_pattern_that_is_none_is_refused(pattern):
    with pytest.raises(errors.UsageError, match="force_finetune_components"):
        settings_lib.SearchSettings(force_finetune_components=[pattern])


def _scored(qualities, **search):
    """Runs generations of one child whose validation accuracies are given.

    Returns:
      How many were run, and why no more.
    """
    search_of = samples.iteration(
        samples.population(),
        experiment=samples.settings(
            search=search,
            num_samples_per_task=len(qualities),
            children_per_generation=1,
        ),
        num_validation_examples=100,
    )
    while not search_of.is_done:
        quality = qualities[search_of.generation]
        samples.tell(search_of, search_of.ask(), lambda _, q=quality: q)
    return search_of.generation, search_of.stop_reason


def test_patience_counts_generations_without_a_better_score():
    qualities = [0.5, 0.6, 0.6, 0.6, 0.7, 0.7]
    assert _scored(qualities) == (6, None)
    num, reason = _scored(qualities, stop_patience=2)
    assert num == 4
    assert "2 generations" in reason
    # A better score starts the count anew.
    assert _scored(qualities, stop_patience=3) == (6, None)


def test_a_task_is_solved_with_at_most_one_error():
    assert _scored([0.9, 0.98, 0.99, 1.0], stop_when_solved=True)[0] == 3
    assert _scored([0.9, 0.98, 0.98, 0.98], stop_when_solved=True)[0] == 4
    assert _scored([1.0, 1.0])[0] == 2


def test_generations_without_any_score_do_not_end_a_task():
    assert _scored([None, None, 0.5, 0.5], stop_patience=1)[0] == 4


def test_halves_of_a_generation_may_have_data_draws_of_their_own():
    def plan(**search):
        return samples.iteration(
            samples.population(),
            experiment=samples.settings(
                search=search, hparams={"mu": 0.5}, ranges={"mu": [0.5]}
            ),
        ).ask()

    shared = plan()
    assert shared.parts() == (shared,)
    halves = plan(data_draws="half")
    first, second = halves.parts()
    # The first half keeps the draws that the whole generation has.
    assert first.data_hparams == shared.data_hparams
    assert first.data_hparams != second.data_hparams
    assert [c.index for c in first.children] == [0, 1]
    assert [c.index for c in second.children] == [2, 3]
    for part in (first, second):
        for child in part.children:
            own = {key: child.hparams[key] for key in part.data_hparams}
            assert own == part.data_hparams
    # Equal draws are trained together.
    (whole,) = plan(data_draws="half", data_mu=0.0).parts()
    assert whole.children == plan(data_mu=0.0).children


def test_children_of_unlike_halves_are_no_duplicates():
    search_of = samples.iteration(
        samples.population(),
        experiment=samples.settings(
            search={"data_draws": "half"},
            hparams={"mu": 0.5},
            ranges={"mu": [0.5]},
        ),
    )
    plan = search_of.ask()
    first = plan.children[0]
    # A fresh component is drawn for its child, so no other has it.
    known = tuple(
        part for part in first.components if part.init != cloning.FRESH
    )
    child = dataclasses.replace(first, components=known)
    same = dataclasses.replace(child, index=1)
    unlike = dataclasses.replace(
        child,
        index=2,
        hparams={**child.hparams, "ds_crop": not child.hparams["ds_crop"]},
    )
    trio = dataclasses.replace(plan, children=(child, same, unlike))
    assert duplicates.first_indices(trio) == {0: 0, 1: 0, 2: 2}


def _first_plan(population, search, number=0, ranking=None, **changes):
    of = samples.iteration(
        population,
        experiment=samples.settings(search=search, **changes),
        number=number,
    )
    if ranking is not None:
        of.rank({p.id: ranking[p.task] for p in of.unranked})
    return of, of.ask()


def _told(of, plan, quality=0.5):
    samples.tell(of, plan, lambda child: quality)


@pytest.mark.parametrize("version", settings_lib.VERSIONS)
def test_one_more_child_of_the_first_generation_may_have_a_solved_head(version):
    population = samples.neighbours(2)
    _, without = _first_plan(population, {"version": version})
    search, plan = _first_plan(
        population, {"version": version, "probe_child": True}
    )
    # The children that are trained are those of a search without it.
    assert plan.children[:-1] == without.children
    solved = plan.children[-1]
    assert solved.index == 8 and solved.is_solved
    assert solved.parent == population.root
    *below, head = solved.components
    assert {part.init for part in below} == {"share"}
    assert (head.init, head.source, head.trainable) == ("solved", None, False)
    assert not any(part.trainable for part in solved.components)
    assert solved.record.num_by_init["solved"] == 1
    _told(search, plan)
    assert not any(child.is_solved for child in search.ask().children)


def test_a_solved_child_reads_pictures_of_its_parents_size():
    _, plan = _first_plan(
        samples.population(origin=samples.root(ds_image_size=48)),
        {"version": "munet", "probe_child": True, "first_data": "mutated"},
        ranges={"ds_image_size": [16, 32]},
        hparams={"ds_crop": False},
    )
    solved = plan.children[-1]
    assert solved.hparams["ds_image_size"] == 48
    assert solved.components[1].init == "share"


def test_a_solved_child_is_the_parent_of_children_with_its_head():
    search, plan = _first_plan(samples.neighbours(1), {"probe_child": True})
    samples.tell(search, plan, lambda child: 1.0 if child.is_solved else None)
    (only,) = search.active
    child = search.ask().children[0]
    assert child.parent == only
    assert child.components[-1].init == "copy"
    assert child.score_to_beat == 1.0


def test_children_start_mostly_from_the_path_that_ranks_first():
    ranking = {"t0": 0.2, "t1": 0.9, "t2": 0.6, "NOT_TRAINABLE": 0.5}
    search, plan = _first_plan(
        samples.neighbours(3),
        {"rank_parents": "probe", "probe_child": True},
        ranking=ranking,
        num_samples_per_task=400,
        children_per_generation=400,
    )
    tasks = [child.parent.task for child in plan.children[:-1]]
    counts = [tasks.count(t) for t in ("t1", "t2", "NOT_TRAINABLE", "t0")]
    assert 270 < counts[0] < 330
    assert counts == sorted(counts, reverse=True) and counts[2] > 0
    assert plan.children[-1].is_solved
    assert plan.children[-1].parent.task == "t1"
    assert search.unranked == ()


@pytest.mark.parametrize("seed", range(8))
def test_the_first_child_of_a_task_starts_from_the_path_that_ranks_first(seed):
    _, plan = _first_plan(
        samples.neighbours(2),
        {"rank_parents": "probe"},
        ranking={"t0": 0.2, "t1": 0.9, "NOT_TRAINABLE": 0.5},
        seed=seed,
    )
    assert plan.children[0].parent.task == "t1"


def test_of_paths_that_suit_equally_the_root_comes_first():
    ranking = {"t0": 0.2, "t1": 0.9, "t2": 0.9, "NOT_TRAINABLE": 0.9}
    for seed in range(5):
        search, _ = _first_plan(
            samples.neighbours(3),
            {"rank_parents": "probe"},
            ranking=ranking,
            seed=seed,
        )
        assert search.seeds[0].is_root
        assert search.seeds[-1].task == "t0"


def test_a_ranking_is_saved_and_outlives_what_others_publish():
    ranking = {"t0": 0.2, "t1": 0.9, "NOT_TRAINABLE": 0.5}
    search, plan = _first_plan(
        samples.neighbours(2), {"rank_parents": "probe"}, ranking=ranking
    )
    _told(search, plan, None)
    state = search.to_json()
    again = samples.iteration(
        samples.neighbours(2),
        experiment=samples.settings(search={"rank_parents": "probe"}),
    )
    again.restore(state)
    assert again.ask() == search.ask()
    again.renew(samples.neighbours(3))
    assert [p.task for p in again.seeds] == ["t1", "NOT_TRAINABLE", "t0", "t2"]
    assert again.unranked == ()


def test_nothing_is_ranked_where_there_is_no_choice_or_nobody_wants_it():
    search, _ = _first_plan(samples.population(), {"rank_parents": "probe"})
    assert search.unranked == ()
    search, _ = _first_plan(samples.neighbours(3), {})
    assert search.unranked == ()


def test_of_many_paths_some_are_ranked_and_always_the_root():
    population = samples.neighbours(40)
    search, _ = _first_plan(population, {"rank_parents": "probe"})
    chosen = [path.id for path in search.unranked]
    assert len(set(chosen)) == len(chosen) == evolution.NUM_RANKED_MAX + 1
    assert population.root.id in chosen
    later, _ = _first_plan(population, {"rank_parents": "probe"}, number=1)
    assert {p.id for p in later.unranked} != set(chosen)


@pytest.mark.parametrize(
    "search",
    [
        {"rank_parents": "best"},
        {"rank_parents": "probe", "version": "munet"},
        {"rank_parents": "probe", "parent_policy": "mine"},
    ],
)
def test_a_ranking_that_cannot_be_is_refused(search):
    with pytest.raises(errors.UsageError, match=r"search\.rank_parents"):
        samples.settings(search=search)


def test_a_baseline_has_neither_option():
    settings = samples.settings(
        search={
            "policy": "finetune_all",
            "probe_child": True,
            "rank_parents": "probe",
        }
    )
    budgeted = baselines.budgeted(settings).search
    assert (budgeted.probe_child, budgeted.rank_parents) == (False, "sampled")


def test_the_first_child_of_a_task_may_be_an_unmutated_clone():
    population = samples.population(origin=samples.root(mu=1.0))
    changes = {"hparams": {"mu": 1.0}, "ranges": {"mu": [1.0]}}
    search = {"first_child": "config", "force_finetune_components": ["head"]}
    of, plan = _first_plan(population, search, **changes)
    first, second = plan.children[:2]
    own = population.root.hparams
    assert all(first.hparams[k] == own[k] for k in own if k[:3] != "ds_")
    assert any(second.hparams[k] != own[k] for k in own if k[:3] != "ds_")
    assert [p.spec.name for p in first.components if p.trainable] == ["head"]
    _told(of, plan)
    assert any(
        child.hparams[k] != child.parent.hparams[k]
        for child in of.ask().children[:1]
        for k in own
        if k[:3] != "ds_"
    )
    # Another round continues from the task's own path, mutated.
    _, plan = _first_plan(population, search, number=1, **changes)
    child = plan.children[0]
    assert any(child.hparams[k] != own[k] for k in own if k[:3] != "ds_")


def _adds_layers(proposal, parent, prob, draws):
    hparams = {**proposal.hparams, "num_layers": 3}
    return dataclasses.replace(proposal, hparams=hparams)


def _places_cloned(order, monkeypatch):
    """Returns the names that `upper_half` clones after the mutations ran."""
    monkeypatch.setattr(
        plugins.MUTATIONS, "_loaded", {"adds_layers": _adds_layers}
    )
    family = samples.TinyFamily()
    proposal = samples.proposal(
        {**samples.HPARAMS, "num_layers": 1, "mu": 0.0},
        mutations=order,
        force_finetune_components=["upper_half"],
    )
    space = dataclasses.replace(
        proposal.space,
        place_names=lambda hparams, adapters: [
            spec.name for spec in family.layout(hparams, 2, adapters)
        ],
    )
    (draws,) = samples.many_draws(6, num_draws=1)
    child = plugins.apply_mutations(
        dataclasses.replace(proposal, space=space), samples.root(), draws
    )
    places = space.place_names(child.hparams, child.adapters)
    return [place for place in places if child.clones(place)]


def test_the_order_of_mutations_is_a_setting(monkeypatch):
    plugin_last = ["adds_layers"]
    assert plugins.ordered_mutations(plugin_last) == [
        *plugins.METHOD_MUTATIONS,
        "adds_layers",
    ]
    # Of three blocks the last belongs to the upper half.
    assert _places_cloned(plugin_last, monkeypatch) == ["encoder_norm", "head"]
    assert _places_cloned(["adds_layers", "clones"], monkeypatch) == [
        "encoderblock_2",
        "encoder_norm",
        "head",
    ]


def test_the_methods_order_named_in_full_is_the_default():
    plans = [
        samples.iteration(
            samples.population(),
            experiment=samples.settings(
                search={"mutations": names, "mutate_adapters": True}
            ),
        ).ask()
        for names in ((), plugins.METHOD_MUTATIONS)
    ]
    assert plans[0] == plans[1]
