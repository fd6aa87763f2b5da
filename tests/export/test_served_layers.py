"""Served layers against the layers themselves."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from keras_munet.core import specs
from keras_munet.export import served_layers
from keras_munet.models import layer_factory
from keras_munet.models import path_model
from keras_munet.models.vit import shapes


def _component(layer, seed=0, options=(), **sizes):
    rng = np.random.default_rng(seed)
    rows = shapes.weights(layer, sizes)
    spec = specs.ComponentSpec("here", layer, {**sizes, **dict(options)}, rows)
    weights = {
        name: rng.normal(0, 0.3, shape).astype("f4") for name, shape in rows
    }
    return specs.Component(spec, weights)


def _outputs(component, x, class_token_only):
    """Returns what the layer and its served form make of `x`."""
    spec = component.spec
    layer = layer_factory.make_layer(spec, "here", dtype="float32")
    weights = [component.weights[name] for name, _ in spec.weights]
    expected = layer.compute(
        tf.constant(x), weights, **path_model.call_options(class_token_only)
    )
    form = served_layers.served(spec)
    arrays = [array for _, array in form.pack(component.weights)]
    return expected, form.compute(tf.constant(x), arrays, class_token_only)


@pytest.mark.parametrize("class_token_only", [False, True])
@pytest.mark.parametrize(
    "num_heads, options",
    [
        (1, {}),
        # A share of 1 / sqrt(8), which is no power of two.
        (3, {}),
        (4, {"exact_gelu": True, "norm_epsilon": 1e-3}),
    ],
)
def test_a_block_is_within_the_tolerance(num_heads, options, class_token_only):
    component = _component(
        "EncoderBlock",
        options=options.items(),
        **{"width": 24, "num_heads": num_heads, "mlp_dim": 40},
    )
    x = np.random.default_rng(1).normal(size=(5, 7, 24)).astype("f4")
    expected, answer = _outputs(component, x, class_token_only)
    assert answer.shape == (5, 1 if class_token_only else 7, 24)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(answer, expected, rtol=0, atol=2e-6 * scale)


@pytest.mark.parametrize("size", [(32, 32), (16, 48)])
def test_patches_are_within_the_tolerance(size):
    component = _component("PatchEmbedding", width=12, patch_size=16)
    x = np.random.default_rng(2).normal(size=(3, *size, 3)).astype("f4")
    expected, answer = _outputs(component, x, False)
    np.testing.assert_allclose(answer, expected, rtol=0, atol=2e-5)


def test_other_layers_are_served_as_they_are():
    component = _component("ResidualAdapter", width=6, hidden_dim=2)
    x = np.random.default_rng(3).normal(size=(2, 4, 6)).astype("f4")
    expected, answer = _outputs(component, x, False)
    assert answer.numpy().tobytes() == expected.numpy().tobytes()
    form = served_layers.served(component.spec)
    names = [name for name, _ in form.pack(component.weights)]
    assert names == [name for name, _ in component.spec.weights]


@pytest.mark.parametrize("class_token_only", [False, True])
def test_a_block_transposes_nothing_and_has_one_product_of_three(
    class_token_only,
):
    component = _component("EncoderBlock", width=8, num_heads=2, mlp_dim=16)
    form = served_layers.served(component.spec)
    arrays = [array for _, array in form.pack(component.weights)]

    @tf.function(autograph=False)
    def block(x):
        return form.compute(x, arrays, class_token_only)

    spec = tf.TensorSpec([None, 5, 8])
    graph = block.get_concrete_function(spec).graph
    ops = [op.type for op in graph.get_operations()]
    assert "Transpose" not in ops
    # Queries, keys and values; the projection; the MLP. Or of each head the
    # query, its key, its bias and its value.
    assert ops.count("MatMul") == (2 * 4 + 3 if class_token_only else 4)
    assert sum(array.size for array in arrays) == component.spec.num_params
