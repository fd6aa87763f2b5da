"""Slices are disjoint, equal and together everything; the plan fits memory."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from keras_munet import errors
from keras_munet.train.devices import placement
from keras_munet.train.devices import topology

_TYPES = ["v2-8", "v3-8", "v3-32", "v4-64", "v5e-8", "v5e-64", "v5p-128"]


@dataclasses.dataclass(frozen=True)
class _Need:
    fixed: int
    per_example: int

    def bytes_at(self, batch_size: int) -> int:
        return self.fixed + self.per_example * batch_size


_SMALL = _Need(10, 1)


@pytest.mark.parametrize("name", _TYPES)
def test_every_cut_covers_each_core_once_with_boxes_of_one_shape(name):
    whole = topology.named_topology(name)
    num_cores = len(whole.cores)
    for num_slices in (n for n in (1, 2, 4, 8, 16) if n <= num_cores):
        slices = placement.cut_topology(whole, num_slices)
        cores = [core for cores in slices for core in cores]
        assert sorted(cores) == sorted(whole.cores)
        assert len(slices) == num_slices
        shapes = {
            tuple(max(side) - min(side) for side in zip(*cores, strict=True))
            for cores in slices
        }
        assert len(shapes) == 1


def test_a_slice_of_a_host_or_less_lies_on_one_host():
    whole = topology.named_topology("v3-32")
    for num_slices in (4, 8, 16, 32):
        for cores in placement.cut_topology(whole, num_slices):
            hosts = [host for host in whole.hosts if set(host) & set(cores)]
            assert len(hosts) == 1


def test_the_cores_of_a_chip_stay_together():
    for cores in placement.cut_topology(topology.named_topology("v3-8"), 4):
        assert len({core[:3] for core in cores}) == 1


def test_a_mesh_that_cannot_be_cut_so_is_refused():
    with pytest.raises(errors.UsageError, match="cannot be cut in 3 boxes"):
        placement.cut_topology(topology.named_topology("v3-8"), 3)


def test_duplicate_stranded_foreign_and_uneven_cores_are_named():
    whole = topology.named_topology("v3-8")
    one, other = placement.cut_topology(whole, 2)
    cases = {
        "is in two slices": (one, one),
        "4 cores of v3-8 are in no slice": (one,),
        "which v3-8 does not have": (one, (*other[:3], (9, 0, 0, 0))),
        r"have \[3, 5\] cores": ((*one, other[0]), other[1:]),
    }
    for message, slices in cases.items():
        with pytest.raises(errors.UsageError, match=message):
            placement.check_slices(whole, slices)


def test_children_are_divided_as_equally_as_can_be():
    assert placement.assign_children(5, 2) == ((0, 1), (2, 3, 4))
    assert placement.assign_children(2, 4) == ((), (0,), (), (1,))
    groups = placement.assign_children(32, 16)
    assert [i for group in groups for i in group] == list(range(32))
    assert {len(group) for group in groups} == {2}


def test_small_children_with_large_batches_are_fused():
    plan = placement.plan_placement(
        topology.named_topology("v3-8"), [_SMALL] * 8, 512
    )
    assert plan.placement == "fused"
    assert plan.slices == (topology.named_topology("v3-8").cores,)


def test_a_small_batch_is_cut_until_each_core_has_eight_examples():
    plan = placement.plan_placement(
        topology.named_topology("v3-32"), [_SMALL] * 32, 64
    )
    assert plan.placement == "sliced"
    assert len(plan.slices) == 4
    assert 64 // len(plan.slices[0]) == 8


def test_children_too_large_for_one_core_together_get_slices_of_their_own():
    whole = topology.named_topology("v3-32")
    large = _Need(4 * topology.GIB, topology.GIB // 8)
    plan = placement.plan_placement(whole, [large] * 32, 64)
    # A child with all 64 examples takes 12 GiB of 16.
    assert {len(cores) for cores in plan.slices} == {1}
    assert len(plan.slices) == 32


def test_where_nothing_fits_each_core_gets_the_least():
    whole = topology.named_topology("v3-8")
    huge = _Need(100 * topology.GIB, topology.GIB)
    assert len(placement.plan_placement(whole, [huge] * 8, 64).slices) == 8


def test_what_is_asked_for_is_done_or_refused():
    whole = topology.named_topology("v3-8")
    assert (
        placement.plan_placement(whole, [_SMALL] * 8, 512, "sliced").placement
        == "sliced"
    )
    assert (
        placement.plan_placement(whole, [_SMALL] * 8, 8, "fused").placement
        == "fused"
    )
    with pytest.raises(errors.UsageError, match="batch_size 12 does not"):
        placement.plan_placement(whole, [_SMALL] * 8, 12, "fused")
    with pytest.raises(errors.UsageError, match="batch_size 9 divides over"):
        placement.plan_placement(whole, [_SMALL] * 2, 9)
    with pytest.raises(errors.UsageError, match="set for 1 device"):
        placement.plan_placement(
            topology.flat_topology("one", 1), [_SMALL], 8, "sliced"
        )


def test_planning_needs_no_tensorflow():
    code = (
        "import sys\n"
        "from keras_munet.core import devices\n"
        "from keras_munet.train.devices import placement\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
