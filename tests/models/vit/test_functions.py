"""The layers' mathematics against plain formulas and plain gradients."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from keras_munet.models.vit import functions
from keras_munet.models.vit import initializers
from keras_munet.models.vit import operations
from keras_munet.models.vit import shapes

_BLOCK = {"width": 16, "num_heads": 2, "mlp_dim": 24}


def _plain_gelu(x):
    return tf.nn.gelu(x, approximate=True)


def _plain_dense(x, kernel, bias):
    return tf.matmul(x, kernel) + bias


def _plain_norm(x, scale, bias):
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, bias, scale, 1e-6)


def _random(seed: int, *shape: int) -> tf.Tensor:
    rng = np.random.default_rng(seed)
    return tf.constant(rng.normal(size=shape), tf.float32)


def _weights(layer: str, config: dict[str, int]) -> list[tf.Tensor]:
    return [
        _random(i, *shape) * 0.3
        for i, (_, shape) in enumerate(shapes.weights(layer, config))
    ]


def _gradients(function, *args):
    with tf.GradientTape() as tape:
        tape.watch(args)
        y = function(*args)
        loss = tf.reduce_sum(tf.sin(y))
    return y, tape.gradient(loss, args)


def _assert_equal(function, plain, *args, atol=1e-5):
    seen, seen_grads = _gradients(function, *args)
    wanted, wanted_grads = _gradients(plain, *args)
    np.testing.assert_allclose(seen, wanted, rtol=1e-5, atol=atol)
    for one, two in zip(seen_grads, wanted_grads, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=atol)


def test_gelu_and_its_gradient_equal_the_plain_ones():
    _assert_equal(operations.gelu, _plain_gelu, _random(0, 50, 7) * 4.0)


def test_gelu_stays_finite_far_from_zero():
    x = tf.constant([-1e4, -100.0, 0.0, 100.0, 1e4])
    y, (slope,) = _gradients(operations.gelu, x)
    np.testing.assert_allclose(y, [0.0, 0.0, 0.0, 100.0, 1e4])
    assert np.isfinite(slope).all()


def test_dense_and_its_gradients_equal_the_plain_ones():
    args = _random(0, 9, 4), _random(1, 4, 6), _random(2, 6)
    _assert_equal(operations.dense, _plain_dense, *args)


def test_layer_norm_and_its_gradients_equal_the_plain_ones():
    args = _random(0, 9, 16) * 3.0 + 1.0, _random(1, 16), _random(2, 16)
    _assert_equal(operations.layer_norm, _plain_norm, *args)


def _plain_block(x, *weights):
    s0, b0, qw, qb, kw, kb, vw, vb, ow, ob, s1, b1, w0, c0, w1, c1 = weights
    y = _plain_norm(x, s0, b0)
    query, key, value = (
        tf.einsum("btw,whd->bthd", y, w) + b
        for w, b in ((qw, qb), (kw, kb), (vw, vb))
    )
    logits = tf.einsum("bqhd,bkhd->bhqk", query, key) / qw.shape[-1] ** 0.5
    read = tf.einsum("bhqk,bkhd->bqhd", tf.nn.softmax(logits), value)
    x = x + tf.einsum("bqhd,hdw->bqw", read, ow) + ob
    y = _plain_gelu(_plain_norm(x, s1, b1) @ w0 + c0)
    return x + y @ w1 + c1


def test_a_block_and_its_gradients_equal_the_plain_ones():
    weights = _weights("EncoderBlock", _BLOCK)
    x = _random(99, 3, 5, 16)
    _assert_equal(functions.encoder_block, _plain_block, x, *weights, atol=2e-5)


def test_the_class_token_alone_has_the_full_block_s_values_and_gradients():
    weights = _weights("EncoderBlock", _BLOCK)
    x = _random(99, 3, 5, 16)
    _assert_equal(
        lambda *a: functions.encoder_block(*a, class_token_only=True),
        lambda *a: functions.encoder_block_math(*a)[:, :1],
        x,
        *weights,
        atol=2e-5,
    )


def test_an_adapter_equals_the_plain_formula():
    config = {"width": 16, "hidden_dim": 4}
    weights = _weights("ResidualAdapter", config)

    def plain(x, scale, bias, w0, b0, w1, b1):
        y = _plain_gelu(_plain_norm(x, scale, bias) @ w0 + b0)
        return x + y @ w1 + b1

    x = _random(99, 3, 5, 16)
    _assert_equal(functions.residual_adapter, plain, x, *weights)


def test_patches_equal_a_convolution():
    kernel, bias = _random(0, 4, 4, 3, 6), _random(1, 6)
    images = _random(2, 2, 12, 12, 3)
    plain = tf.nn.conv2d(images, kernel, 4, "VALID") + bias
    seen = functions.patch_embedding(images, kernel, bias)
    np.testing.assert_allclose(
        seen, tf.reshape(plain, [2, 9, 6]), rtol=1e-5, atol=1e-5
    )


def test_a_batch_of_unknown_size_gives_the_same_values():
    weights = _weights("EncoderBlock", _BLOCK)
    x = _random(99, 3, 5, 16)

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, 16])], autograph=False
    )
    def outer(x):
        return functions.encoder_block(x, *weights)

    np.testing.assert_allclose(
        outer(x), functions.encoder_block(x, *weights), rtol=1e-5, atol=1e-5
    )


def test_blocks_of_one_shape_share_one_traced_graph():
    @tf.function(autograph=False)
    def outer(x):
        for seed in range(3):
            weights = _weights("EncoderBlock", _BLOCK)
            x = functions.encoder_block(x, *[w + seed for w in weights])
        return x

    graph = outer.get_concrete_function(tf.TensorSpec([2, 5, 16])).graph
    calls = [
        op.get_attr("f").name
        for op in graph.get_operations()
        if "PartitionedCall" in op.type
    ]
    assert len(calls) == 3
    assert len(set(calls)) == 1


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_block_runs_inside_a_compiled_step(jit_compile):
    weights = _weights("EncoderBlock", _BLOCK)
    x = _random(99, 3, 5, 16)

    @tf.function(autograph=False, jit_compile=jit_compile)
    def step(x):
        return _gradients(functions.encoder_block, x, *weights)

    y, grads = step(x)
    wanted, wanted_grads = _gradients(_plain_block, x, *weights)
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-4)
    for one, two in zip(grads, wanted_grads, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)


def test_every_table_row_has_a_first_value():
    rng = np.random.default_rng(0)
    for name, shape in shapes.weights("EncoderBlock", _BLOCK):
        assert (
            initializers.initial_value("EncoderBlock", name, shape, rng).shape
            == shape
        )
