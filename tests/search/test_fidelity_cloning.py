"""Where a child's components come from (section 2, "Cloning and mutation", 2
and 3); see the table of rules in search/test_fidelity.py.
"""

from __future__ import annotations

import collections

import pytest
import search_samples as samples

from keras_munet.core import settings as settings_lib
from keras_munet.search import cloning
from keras_munet.search import mutations

_FAMILY = samples.TinyFamily()


def _planned(
    lineage, *, task="a", layout=None, locked=True, drawn=(), version="mu2net"
):
    """Plans a child of `lineage[0]`; returns its components by place."""
    parts = cloning.plan_components(
        layout or _FAMILY.layout(lineage[0].hparams, samples.NUM_CLASSES),
        lineage,
        task,
        is_locked=lambda c: locked,
        trains=lambda place: place in (*drawn, "encoder_norm"),
        can_resample=_FAMILY.can_resample,
        train_resampled=version == "mu2net",
    )
    return {p.spec.name: p for p in parts}


def _layout(adapters=frozenset(), **hparams):
    hparams = {**samples.HPARAMS, **hparams}
    return _FAMILY.layout(hparams, samples.NUM_CLASSES, adapters)


def _children(version, number=samples.NUM_DRAWS, origin=None, **search):
    """The children of one generation of a system that has only a root."""
    settings = samples.settings(
        search={"version": version, **search},
        ranges={"num_layers": [1, 2]},
        num_samples_per_task=number,
        children_per_generation=number,
    )
    population = samples.population(origin=origin)
    return samples.iteration(population, experiment=settings).ask().children


@pytest.fixture(scope="module", params=settings_lib.VERSIONS)
def of_root(request):
    """(version, mutation probability, children of a one-layer root)."""
    prob = {"munet": 0.1, "mu2net": 0.2}[request.param]
    return request.param, prob, _children(request.param, mutate_adapters=True)


def test_locked_components_are_cloned_at_the_mutation_probability(of_root):
    _, prob, children = of_root
    cloned = collections.Counter(
        part.spec.name
        for child in children
        for part in child.components
        if part.init == cloning.COPY
    )
    assert set(cloned) == {
        "embedding",
        "posembed_input",
        "encoderblock_0",
        "encoder_norm",
    }
    for place in ("embedding", "posembed_input", "encoderblock_0"):
        samples.check_share(cloned[place], prob)


def test_forced_components_are_always_cloned(of_root):
    _, _, children = of_root
    for child in children:
        norm = next(
            p for p in child.components if p.spec.name == "encoder_norm"
        )
        assert (norm.init, norm.trainable) == (cloning.COPY, True)


def test_which_components_are_forced_is_a_setting():
    # The first child of munet mutates nothing.
    child = _children("munet", 1, force_finetune_components=["embedding"])[0]
    inits = {p.spec.name: p.init for p in child.components}
    assert inits["embedding"] == cloning.COPY
    assert inits["encoder_norm"] == cloning.SHARE


def test_every_component_of_the_root_is_locked():
    population = samples.population()
    assert all(population.locks(c.id) for c in population.root.components)
    for task in ("a", "b"):
        for component in population.root.components:
            assert population.locks(component.id, without=task)


def test_what_another_task_uses_is_locked_and_its_own_lock_is_off():
    root = samples.root()
    own = samples.path("a", root.id, score=0.5)
    taker = samples.path(
        "b",
        own.id,
        score=0.5,
        components=own.components[:2] + samples.path("b").components[2:],
    )
    population = samples.population(own, taker, origin=root)
    locked = {
        c.name: bool(population.locks(c.id, without="a"))
        for c in own.components
    }
    assert locked == {
        "embedding": True,
        "posembed_input": True,
        "encoderblock_0": False,
        "encoder_norm": False,
        "head": False,
    }


def test_a_locked_component_is_shared_frozen_unless_drawn_or_forced():
    root = samples.root()
    parts = _planned([root])
    assert parts["embedding"].init == cloning.SHARE
    assert parts["embedding"].source == root.component("embedding")
    assert not parts["embedding"].trainable
    drawn = _planned([root], drawn=["embedding"])["embedding"]
    assert (drawn.init, drawn.trainable) == (cloning.COPY, True)


def test_an_unlocked_component_is_always_cloned_trainable():
    parts = _planned([samples.path("a")], locked=False)
    assert all(p.init == cloning.COPY and p.trainable for p in parts.values())


def test_components_are_looked_up_in_the_nearest_ancestor_first():
    root = samples.root(num_layers=2)
    middle = samples.path("b", root.id, num_layers=2)
    near = samples.path("c", middle.id, num_layers=1)
    parts = _planned([near, middle, root], layout=_layout(num_layers=3))
    sources = {
        place: part.source.id for place, part in parts.items() if part.source
    }
    assert sources == {
        "embedding": "c.embedding",
        "posembed_input": "c.posembed_input",
        "encoderblock_0": "c.encoderblock_0",
        "encoderblock_1": "b.encoderblock_1",
        "encoder_norm": "c.encoder_norm",
    }


def test_a_head_comes_only_from_an_ancestor_of_the_same_task():
    root = samples.root()
    other = samples.path("b", root.id)
    own = samples.path("a", other.id)
    further = samples.path("c", own.id)
    assert _planned([other, root])["head"].init == cloning.FRESH
    assert _planned([own, other, root])["head"].source.id == "a.head"
    found = _planned([further, own, other, root])["head"]
    assert found.source.id == "a.head"


def test_another_shape_sends_the_search_on_to_older_ancestors():
    root = samples.root()
    resized = samples.path("b", root.id, ds_image_size=64)
    part = _planned([resized, root], layout=_layout())["posembed_input"]
    assert part.source.id == "root.posembed_input"
    assert part.init == cloning.SHARE
    one = frozenset({0})
    narrow = samples.path("b", root.id, adapters=one, adapter_dim=8)
    wide = samples.path("c", narrow.id, adapters=one, adapter_dim=16)
    again = _planned([wide, narrow, root], layout=_layout(one, adapter_dim=8))
    assert again["residual_adapter_0"].source.id == "b.residual_adapter_0"
    new = _planned([wide, narrow, root], layout=_layout(one, adapter_dim=64))
    assert new["residual_adapter_0"].init == cloning.FRESH


@pytest.mark.parametrize(
    ("version", "drawn", "trains"),
    [
        ("mu2net", (), True),
        ("munet", (), False),
        ("munet", ("posembed_input",), True),
    ],
)
def test_a_position_embedding_of_a_new_grid_is_resampled_from_the_root(
    version, drawn, trains
):
    root = samples.root()
    other = samples.path("b", root.id, ds_image_size=64)
    layout = _layout(ds_image_size=48)
    part = _planned([other, root], layout=layout, drawn=drawn, version=version)[
        "posembed_input"
    ]
    assert (part.init, part.trainable) == (cloning.RESAMPLE, trains)
    assert part.source.id == "root.posembed_input"
    # An object of its own: the root's is of another shape.
    assert part.is_new


@pytest.mark.parametrize(
    ("layout", "place"),
    [
        (_layout(num_layers=2), "encoderblock_1"),
        (_layout(frozenset({0})), "residual_adapter_0"),
        (_layout(), "head"),
    ],
)
def test_what_is_not_found_is_initialised_afresh(layout, place):
    part = _planned([samples.root()], layout=layout)[place]
    assert (part.init, part.source) == (cloning.FRESH, None)
    assert part.trainable


def test_adapters_are_inserted_at_the_mutation_probability(of_root):
    version, prob, children = of_root
    inserted = collections.Counter(
        part.spec.name
        for child in children
        for part in child.components
        if part.spec.name.startswith("residual_adapter_")
    )
    samples.check_share(inserted["residual_adapter_0"], prob)
    if version == "mu2net":
        deeper = sum(c.hparams["num_layers"] == 2 for c in children)
        samples.check_share(inserted["residual_adapter_1"], prob, deeper)


def test_adapters_stay_unless_they_may_mutate():
    for child in _children("mu2net", 100):
        assert not any("adapter" in p.spec.name for p in child.components)


@pytest.mark.parametrize("remove", [False, True])
def test_adapters_are_removed_at_the_probability_only_where_asked(remove):
    children = _children(
        "mu2net",
        origin=samples.root(adapters=frozenset({0})),
        mutate_adapters=True,
        remove_adapters=remove,
    )
    gone = sum(
        not any(p.spec.name == "residual_adapter_0" for p in c.components)
        for c in children
    )
    samples.check_share(gone, 0.2 if remove else 0.0)


def test_adapters_above_a_lowered_number_of_layers_are_dropped():
    (draws,) = samples.many_draws(6, num_draws=1)
    proposal = samples.proposal({"num_layers": 2}, adapters={0, 2})
    child = mutations.mutate_adapters(proposal, samples.root(), 0.0, draws)
    assert child.adapters == {0}


def test_lowering_the_number_of_layers_drops_adapters_above():
    proposal = samples.proposal(
        {"num_layers": 2, "mu": 1.0},
        adapters={0, 1},
        prob=1.0,
        ranges={"num_layers": (1, 2)},
    )
    # A step up ends at 2 and a step down at 1: take the one that goes down.
    draws = next(
        d
        for d in samples.many_draws(6, num_draws=50)
        if d.uniform("num_layers") >= 0.5
    )
    child = mutations.mutate_hyperparameters(
        proposal, samples.root(), 1.0, draws
    )
    assert (child.hparams["num_layers"], child.adapters) == (1, {0})


def test_every_path_is_at_most_as_deep_as_the_search_may_make_it():
    for child in _children("mu2net", 100, mutate_adapters=True):
        blocks = [p for p in child.components if "block" in p.spec.name]
        assert len(blocks) == child.hparams["num_layers"] <= 2
