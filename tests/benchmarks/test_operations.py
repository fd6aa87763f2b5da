"""The operations that benchmarks hold times against are the least there are."""

from __future__ import annotations

import importlib
import pathlib

import numpy as np
import pytest

from keras_munet.models.vit import flops
from keras_munet.roots import root as root_lib
from keras_munet.train import child_job

_FOLDER = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def operations(monkeypatch):
    monkeypatch.syspath_prepend(str(_FOLDER))
    return importlib.import_module("operations")


@pytest.fixture
def root():
    return root_lib.random("mu", num_layers=3, image_size=32, num_classes=10)


def _child(root, trained, own=()):
    """A child that trains some places and has frozen copies of others."""
    parts = tuple(
        child_job.JobComponent(
            c.spec,
            lambda: None,
            None if c.spec.name in (*trained, *own) else c.spec.name,
            c.spec.name in trained,
        )
        for c in root.components
    )
    return child_job.ChildJob(0, parts, {})


def test_a_path_counts_in_full_what_multiply_adds_counts(operations):
    family = root_lib.random("Ti/16", num_layers=2, image_size=48).family
    hparams = {"num_layers": 2, "ds_image_size": 48, "adapter_dim": 16}
    layout = list(family.layout(hparams, 7, frozenset([1])))
    found = operations.of_path(layout, class_token_only=False)
    assert [cost.forward for cost in found] == list(
        flops.forward_costs(layout).values()
    )


def test_the_top_block_counts_the_class_token_alone(operations, root):
    layout = [c.spec for c in root.components]
    whole = operations.of_path(layout, class_token_only=False)
    read = operations.of_path(layout)
    places = [spec.name for spec in layout]
    less = [
        name
        for name, a, b in zip(places, whole, read, strict=True)
        if b.forward < a.forward
    ]
    assert less == ["encoderblock_2"]


def test_training_all_costs_three_times_the_forward_pass_less_the_image(
    operations, root
):
    places = [c.spec.name for c in root.components]
    costs = operations.of_path([c.spec for c in root.components])
    total = operations.of_generation([_child(root, places)])
    # No gradient of the images is computed.
    assert total == 3 * sum(c.forward for c in costs) - costs[0].reading


def test_a_shared_prefix_counts_once(operations, root):
    child = _child(root, ["encoder_norm", "head"])
    one = operations.of_generation([child])
    two = operations.of_generation([child, child])
    head = 3 * operations.of_path([c.spec for c in root.components])[-1].forward
    assert two - one == head
    assert one > 10 * head


def test_what_stands_above_a_trained_component_is_never_shared(
    operations, root
):
    low = _child(root, ["encoderblock_0", "head"])
    one = operations.of_generation([low])
    below = operations.of_path([c.spec for c in root.components])[0].forward
    assert operations.of_generation([low, low]) == 2 * one - below


def test_below_the_lowest_trained_component_nothing_has_a_gradient(
    operations, root
):
    costs = dict(
        zip(
            (c.spec.name for c in root.components),
            operations.of_path([c.spec for c in root.components]),
            strict=True,
        )
    )
    total = operations.of_generation([_child(root, ["encoderblock_1", "head"])])
    forward = sum(cost.forward for cost in costs.values())
    block, top = costs["encoderblock_1"], costs["encoderblock_2"]
    trained = block.reading + 2 * (block.inner + block.attention)
    above = top.reading + top.inner + 2 * top.attention
    assert total == forward + trained + above + 2 * costs["head"].forward


def test_a_frozen_component_of_its_own_is_not_shared(operations, root):
    shared = _child(root, ["head"])
    own = _child(root, ["head"], own=["encoderblock_0"])
    both = operations.of_generation([shared, own])
    embedding = operations.of_path([c.spec for c in root.components])[0]
    alone = operations.of_generation([own])
    assert both == alone + operations.of_generation([shared]) - (
        embedding.forward
    )


def test_sampled_generations_are_the_searchs_own(monkeypatch):
    monkeypatch.syspath_prepend(str(_FOLDER))
    samples = importlib.import_module("samples")
    search = samples.Search(2, 0.3, num_children=4, num_generations=2)
    first, second = search.task("a")
    assert len(first) == len(second) == 4
    for child in first:
        trained = {p.spec.name for p in child.components if p.trainable}
        assert {"encoder_norm", "head"} <= trained
        for part in child.components:
            assert part.trainable == (part.shared_id is None)
            values = part.load().weights
            shapes = {n: np.shape(v) for n, v in values.items()}
            assert shapes == dict(part.spec.weights)
    # Parents of the second are of the task: they hand on what is their own.
    assert max(_num_trained(c) for c in second) >= max(
        _num_trained(c) for c in first
    )


def _num_trained(child) -> int:
    return sum(part.trainable for part in child.components)
