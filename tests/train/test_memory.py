"""Generations that do not fit in memory are divided, not changed."""

from __future__ import annotations

import numpy as np
import pytest
import training_samples as samples

from keras_munet import errors
from keras_munet.train import memory

_TRUNK = ("embedding", "cls", "posembed_input", "encoderblock_0")


def test_what_fits_is_trained_in_one_pass():
    needs = [memory.MemoryNeed(100, 10)] * 3
    found = memory.divide_into_passes(needs, 16, num_bytes_max=780)
    assert found == memory.Passes(((0, 1, 2),), 1)


def test_children_that_do_not_fit_together_are_trained_in_order():
    needs = [memory.MemoryNeed(fixed, 10) for fixed in (100, 300, 100, 500)]
    found = memory.divide_into_passes(needs, 16, num_bytes_max=720)
    assert found == memory.Passes(((0, 1), (2,), (3,)), 1)


@pytest.mark.parametrize(
    ("limit", "num_parts"), [(259, 2), (140, 4), (110, 16)]
)
def test_a_batch_has_as_few_parts_as_the_largest_child_needs(limit, num_parts):
    needs = [memory.MemoryNeed(10, 1), memory.MemoryNeed(100, 10)]
    found = memory.divide_into_passes(needs, 16, num_bytes_max=limit)
    assert found.num_parts == num_parts
    assert sorted(i for group in found.groups for i in group) == [0, 1]


def test_what_never_fits_is_refused_with_its_size():
    with pytest.raises(errors.UsageError, match=r"takes 2\.00 GiB .* 1\.00"):
        memory.divide_into_passes(
            [memory.MemoryNeed(2**31, 10)], 16, num_bytes_max=2**30
        )


def test_a_deeper_and_less_frozen_child_takes_more():
    light = memory.child_need(samples.job(0, 2, _TRUNK), 16)
    trained = memory.child_need(samples.job(0, 2), 16)
    deep = memory.child_need(samples.job(0, 4), 16)
    assert light.per_example < trained.per_example < deep.per_example
    assert light.fixed < trained.fixed < deep.fixed


def test_free_memory_is_that_of_the_control_group(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("1073741824\n")
    (tmp_path / "memory.current").write_text("73741824\n")
    monkeypatch.setattr(memory, "_CONTROL_GROUP", tmp_path)
    assert memory.free_bytes("CPU") == 900_000_000 - 384 * 2**20
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes("CPU") > 0
    assert memory.free_bytes("GPU") is None


@pytest.mark.slow
def test_passes_and_parts_change_children_by_rounding_alone():
    children = [
        samples.job(0, 2),
        samples.job(1, 1, _TRUNK),
        samples.job(2, 2, _TRUNK),
    ]
    whole = samples.trainer()
    assert whole.passes(children, 16).groups == ((0, 1, 2),)
    largest = max(
        memory.child_need(child, 16).bytes_at(8) for child in children
    )
    divided = samples.trainer(num_bytes_max=largest)
    found = divided.passes(children, 16)
    assert found.num_parts == 2
    assert len(found.groups) > 1
    for one, other in zip(
        samples.train(children, whole),
        samples.train(children, divided),
        strict=True,
    ):
        assert one.index == other.index
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5)
        assert one.scores == other.scores
        samples.assert_close(one, other)


def test_children_that_are_not_in_a_step_at_one_time_fit_together():
    needs = [
        memory.MemoryNeed(100, 10),
        memory.MemoryNeed(100, 30),
        memory.MemoryNeed(100, 20),
    ]
    assert memory.joint_bytes(needs, 16) == 300 + 60 * 16
    assert memory.joint_bytes(needs, 16, 1) == 300 + 30 * 16
    assert memory.joint_bytes(needs, 16, 2) == 300 + 50 * 16
    one_at_a_time = memory.divide_into_passes(needs, 16, 780, num_at_a_time=1)
    assert one_at_a_time == memory.Passes(((0, 1, 2),), 1)
    assert len(memory.divide_into_passes(needs, 16, 780).groups) > 1
