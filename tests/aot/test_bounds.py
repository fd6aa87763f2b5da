"""Bounds by published peaks, and what is tried where memory is short."""

from __future__ import annotations

import pytest

from keras_munet import errors
from keras_munet.aot import bounds
from keras_munet.aot import chips
from keras_munet.aot import compiler
from keras_munet.aot import proposals
from keras_munet.train.devices import topology

_GIB = 2**30


def _slice(name: str, num_cores: int | None = None) -> compiler.Slice:
    return compiler.Slice(name, topology.named_topology(name).cores[:num_cores])


def _figures(**given) -> compiler.Figures:
    return compiler.Figures(
        **{"peak_bytes": 1, "limit_bytes": 2, "fits": True, **given}
    )


def test_a_core_of_two_has_half_of_its_chips_peak():
    figures = _figures(flops=61.5e12, accessed_bytes=45e9)
    bound = bounds.program_bound(figures, 0, _slice("v3-8"))
    assert bound.compute_secs == pytest.approx(1.0)
    assert bound.memory_secs == pytest.approx(0.1)
    assert (bound.resource, bound.secs) == ("compute", bound.compute_secs)


def test_a_sum_over_chips_is_sent_nearly_twice():
    bound = bounds.program_bound(_figures(), int(300e9), _slice("v4-32"))
    assert bound.links_secs == pytest.approx(2 * 15 / 16)
    assert bound.resource == "links"


def test_a_sum_within_one_chip_uses_no_link():
    assert (
        bounds.program_bound(_figures(), 10**12, _slice("v3-8", 2)).links_secs
        == 0
    )


def test_every_type_that_can_be_planned_has_peaks():
    for name in ("v2-8", "v3-32", "v4-64", "v5e-32", "v5p-8", "v6e-16"):
        chip = chips.chip_of(topology.named_topology(name).name)
        assert topology.named_topology(name).mesh[3] == chip.cores


def test_an_unknown_type_is_named_with_those_there_are():
    with pytest.raises(errors.UsageError, match=r"'v7-8' is no TPU type.*v3-N"):
        chips.chip_of("v7-8")


def test_batches_that_are_tried_divide_over_the_cores_and_shrink():
    figures = _figures(peak_bytes=30 * _GIB, limit_bytes=15 * _GIB)
    tried = list(proposals.smaller_batches(1024, 8, figures, 2 * _GIB))
    # (30 - 2) / 128 GiB an example: 64 take 16 GiB, 32 take 9.
    assert tried == [256, 128, 64, 32, 16, 8]


def test_no_batch_is_tried_where_the_variables_alone_are_too_large():
    figures = _figures(peak_bytes=30 * _GIB, limit_bytes=15 * _GIB)
    assert not list(proposals.smaller_batches(64, 1, figures, 16 * _GIB))


def test_types_that_are_tried_have_more_memory_in_a_core():
    tried = list(proposals.larger_types("v3-32"))
    assert tried == ["v5e-32", "v4-32", "v6e-32", "v5p-32"]


def test_a_slice_is_compiled_as_the_least_box_of_its_chips():
    cores = tuple(c for c in topology.named_topology("v3-32").cores if c[0] > 1)
    sides, moved = compiler.Slice("v3-32", cores).box()
    assert sides == (2, 4, 1)
    assert {core[0] for core in moved} == {0, 1}
    assert len(set(moved)) == len(cores) == 16
