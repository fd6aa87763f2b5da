"""Components come back from any bucket to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import training_samples as samples

from keras_munet.train.program import bucket as bucket_lib
from keras_munet.train.program import stacking

_TRUNK = ("embedding", "cls", "posembed_input", "encoderblock_0")


def _joined(jobs, **options):
    bucket, *others = (
        bucket_lib.bucket_of(child.components, 16) for child in jobs
    )
    for other in others:
        bucket = bucket.joined(other)
    return bucket_lib.dataclasses.replace(bucket, **options)


@pytest.mark.parametrize("factor_depth", [0, 2])
def test_a_component_comes_back_to_the_bit(factor_depth):
    children = [
        samples.job(0, 3, _TRUNK, adapters=(1,), factor_depth=factor_depth),
        samples.job(1, 4, adapters=(0, 3), factor_depth=factor_depth),
        samples.job(2, 0, factor_depth=factor_depth),
    ]
    bucket = _joined(children, children=3)
    stacked = stacking.stack(children, bucket)
    for number, child in enumerate(children):
        back = stacking.unstack(
            child, number, bucket, stacked.weights, stacked.momenta
        )
        own = [p for p in child.components if p.shared_id is None]
        assert list(back) == [part.spec.name for part in own]
        for part in own:
            for name, value in part.load().weights.items():
                np.testing.assert_array_equal(
                    back[part.spec.name].weights[name], value
                )
            assert back[part.spec.name].momentum is not None


def test_a_plan_says_what_is_there_and_what_is_trained():
    child = samples.job(0, 3, (*_TRUNK, "encoderblock_2"), adapters=(2,))
    bucket = _joined([child, samples.job(1, 4)])
    stacked = stacking.stack([child], bucket)
    assert stacked.num_layers.tolist() == [3]
    assert stacked.lowest.tolist() == [1]
    assert stacked.trained["block"][:, 0].tolist() == [0, 1, 0, 0]
    assert stacked.present["adapter"][:, 0].tolist() == [0, 0, 1, 0]
    assert not stacked.weights["block"]["mlp_0_kernel"][3].any()
    whole = stacking.stack([samples.job(1, 4)], bucket)
    assert whole.lowest.tolist() == [0]


def test_a_shared_component_is_loaded_once_for_all_children():
    children = [samples.job(i, 2, _TRUNK) for i in range(2)]
    loaded = {}
    bucket = _joined(children, children=2)
    stacking.stack(children, bucket, loaded)
    assert sorted(loaded) == sorted(f"{name}-0" for name in _TRUNK)
