"""One bucket covers every child of a job, and nothing of it is guessed."""

from __future__ import annotations

import dataclasses

import hybrid_samples
import pytest
import training_samples as samples

from keras_munet.train import child_job
from keras_munet.train.program import bucket as bucket_lib
from keras_munet.train.program import buckets
from keras_munet.train.program import calls
from keras_munet.train.program import sizes

import numpy as np  # isort: skip


def _of(*arguments, **options):
    child = samples.job(*arguments, **options)
    return bucket_lib.bucket_of(child.components, 16)


def test_a_bucket_covers_shallower_narrower_and_barer_paths():
    whole = _of(0, 4, adapters=(0, 1, 2, 3))
    assert (whole.depth, whole.num_classes) == (4, bucket_lib.CLASSES)
    for other in (_of(1, 2), _of(2, 0), _of(3, 3, adapters=(2,))):
        assert whole.covers(other)
        assert other.joined(whole) == whole
    assert not _of(1, 2).covers(whole)


def test_buckets_join_at_the_larger_of_each_size():
    narrow = dataclasses.replace(_of(0, 3, adapters=(1,)), side=64, pool=8)
    deep = dataclasses.replace(_of(0, 4), side=32, pool=16, has_adamw=True)
    joined = narrow.joined(deep)
    assert (joined.depth, joined.side, joined.pool) == (4, 64, 16)
    assert joined.adapter == narrow.adapter and joined.has_adamw


@pytest.mark.parametrize(
    "change", [{"image_size": 24}, {"batch_size": 2}, {"children": 2}]
)
def test_what_no_padding_makes_equal_is_another_bucket(change):
    bucket = _of(0, 2)
    assert bucket.joined(dataclasses.replace(bucket, **change)) is None


def test_factors_of_another_depth_are_another_bucket_where_they_train():
    plain, factored = (_of(0, 1, adapters=(0,), factor_depth=d) for d in (0, 1))
    assert plain.joined(factored) is None
    names = tuple(p.spec.name for p in samples.job(0, 1).components)
    assert factored.covers(_of(0, 1, names))


def test_image_sizes_of_one_root_differ_in_positions_alone():
    child = samples.job(0, 2, image_size=24)
    largest = samples.job(0, 4, adapters=(0, 1, 2, 3)).components
    chosen = buckets.Buckets(largest).of_child(child, 24)
    assert chosen.depth == 4 and chosen.adapter is not None
    assert chosen.covers(bucket_lib.bucket_of(child.components, 24))


def test_units_of_a_resnet_stand_below_the_stack():
    root = hybrid_samples.root()
    parts = [
        child_job.JobComponent(component.spec, dict, None, True)
        for component in root.components
    ]
    bucket = bucket_lib.bucket_of(parts, hybrid_samples.IMAGE_SIZE)
    assert bucket.depth == 2
    assert sum(p.spec.layer == "ResNetUnit" for p in bucket.below) == 3


@pytest.mark.parametrize(
    ("side", "rounded"),
    [(15, 16), (33, 64), (128, 128), (160, 256), (384, 384)],
)
def test_sides_are_few(side, rounded):
    assert sizes.rounded_side(side) == rounded


def test_cores_share_a_child_where_some_would_be_idle():
    assert sizes.group_size(8, 8, 512) == 1
    assert sizes.group_size(32, 8, 512) == 4
    assert sizes.group_size(32, 8, 16) == 2
    assert sizes.group_size(6, 4, 64) == 1


def _cycle(num_steps, num_held, num_train, **bucket):
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 40, (num_steps, 8)).astype(np.int32)
    held = np.arange(num_held)
    shapes = {"batch_size": 8, "pool": 64, "steps": 16, "batches": 2, **bucket}
    made = dataclasses.replace(_of(0, 1), **shapes)
    return indices, list(
        calls.calls_of(indices, held, "validation", num_train, made)
    )


def _seen(indices, found):
    """Checks that calls train and count each example where it belongs."""
    steps = [call.picked[call.indices] for call in found if len(call.indices)]
    np.testing.assert_array_equal(np.concatenate(steps), indices)
    counted = [call.held_out for call in found if call.counts]
    return np.concatenate(counted).tolist()


def test_a_cycle_that_fits_is_one_call_with_the_same_examples_each_time():
    indices, found = _cycle(5, 16, 40)
    (call,) = found
    assert _seen(indices, found) == list(range(16))
    _, (again,) = _cycle(3, 16, 40)
    assert call.holds_same(again)


def test_a_cycle_beyond_a_call_is_divided_by_steps_then_by_examples():
    indices, found = _cycle(40, 16, 40)
    assert [len(call.indices) for call in found] == [16, 16, 8]
    assert [call.counts for call in found] == [False, False, True]
    assert _seen(indices, found) == list(range(16))
    indices, found = _cycle(6, 40, 0, pool=20)
    assert all(len(c.picked) + len(c.held_out) <= 20 for c in found)
    assert _seen(indices, found) == list(range(40))
