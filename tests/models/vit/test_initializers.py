"""The first values of weights."""

from __future__ import annotations

import math

import numpy as np
import pytest

from keras_munet import errors
from keras_munet.models.vit import architecture as vit_architecture
from keras_munet.models.vit import initializers
from keras_munet.models.vit import variants


def _made(seed: int = 0):
    family = vit_architecture.VitFamily.of(variants.variant("Ti"), 1)
    hparams = {"num_layers": 1, "ds_image_size": 32, "adapter_dim": 16}
    layout = family.layout(hparams, 10, adapters={0})
    rng = np.random.default_rng(seed)
    return [initializers.initial_component(spec, rng) for spec in layout]


def test_every_weight_of_every_place_has_a_first_value_of_its_shape():
    for component in _made():
        shapes = {k: v.shape for k, v in component.weights.items()}
        assert shapes == dict(component.spec.weights)
        assert all(v.dtype == np.float32 for v in component.weights.values())
        assert component.momentum is None


def test_attention_kernels_count_as_matrices():
    block = next(c for c in _made() if c.spec.layer == "EncoderBlock").weights
    limit = math.sqrt(6.0 / (192 + 192))
    for name in ("query_kernel", "key_kernel", "value_kernel", "out_kernel"):
        assert 0.98 * limit < np.abs(block[name]).max() <= limit
    limit = math.sqrt(6.0 / (192 + 768))
    assert 0.98 * limit < np.abs(block["mlp_0_kernel"]).max() <= limit
    assert 0 < np.abs(block["mlp_0_bias"]).max() < 1e-5


def test_the_patch_kernel_is_a_truncated_normal_of_lecun_scale():
    kernel = _made()[0].weights["kernel"]
    stddev = math.sqrt(1.0 / (16 * 16 * 3))
    assert kernel.std() == pytest.approx(stddev, rel=0.01)
    assert np.abs(kernel).max() <= 2.0 * stddev / 0.8796 + 1e-6


def test_values_depend_on_the_generator_alone():
    for one, two, other in zip(_made(1), _made(1), _made(2), strict=True):
        for name, value in one.weights.items():
            np.testing.assert_array_equal(value, two.weights[name])
            if name == "query_kernel":
                assert (value != other.weights[name]).any()


def test_an_unknown_weight_is_refused():
    with pytest.raises(errors.UsageError, match="no initial value"):
        initializers.initial_value(
            "Head", "gain", (1,), np.random.default_rng(0)
        )
