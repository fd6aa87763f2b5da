"""Which products are rounded, and that nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import training_samples as samples

from keras_munet.core import specs
from keras_munet.models.vit import operations
from keras_munet.models.vit import xla_ops
from keras_munet.train import child_job
from keras_munet.train import matmul_precision

_FLAGS_FILE = "flags : fpu avx512f {} sse2\n"


def _spec(width: int) -> specs.ComponentSpec:
    layout = samples.FAMILY.layout(
        {"num_layers": 1, "ds_image_size": 16, "adapter_dim": 8}, 3
    )
    (norm,) = [s for s in layout if s.name == "encoder_norm"]
    return specs.ComponentSpec(
        name=norm.name,
        layer=norm.layer,
        config={"width": width},
        weights=(("scale", (width,)), ("bias", (width,))),
    )


@pytest.mark.parametrize("device", ["CPU", "GPU", "TPU"])
def test_a_named_dtype_holds_everywhere(device):
    rounded = matmul_precision.choose_precision("bfloat16", device)
    assert rounded.of(_spec(8)) == rounded.of(_spec(512)) == tf.bfloat16
    exact = matmul_precision.choose_precision("float32", device)
    # None is float32 too, by the operations that are saved.
    assert exact.of(_spec(512)) == tf.float32 and exact.of(_spec(8)) is None


def test_auto_is_bfloat16_on_a_tpu():
    assert (
        matmul_precision.choose_precision("auto", "TPU").of(_spec(8))
        == tf.bfloat16
    )


@pytest.mark.parametrize(
    ("flags", "gains"),
    [("avx512_bf16", True), ("amx_bf16", True), ("avx512_bf16x", False)],
)
def test_auto_on_a_cpu_follows_its_units_and_the_width(
    tmp_path, monkeypatch, flags, gains
):
    file = tmp_path / "cpuinfo"
    file.write_text(_FLAGS_FILE.format(flags))
    monkeypatch.setattr(matmul_precision, "_CPU_INFO", file)
    rule = matmul_precision.choose_precision("auto", "CPU")
    assert (rule.of(_spec(128)) == tf.bfloat16) == gains
    assert rule.of(_spec(64)) is None


def test_a_cpu_of_which_nothing_is_known_computes_in_float32(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(matmul_precision, "_CPU_INFO", tmp_path / "none")
    assert (
        matmul_precision.choose_precision("auto", "CPU").of(_spec(512))
        == tf.float32
    )


def test_a_rounded_product_has_the_sums_and_gradients_of_rounded_factors():
    rng = np.random.default_rng(0)
    x, kernel, dy = (
        tf.constant(rng.normal(size=shape), tf.float32)
        for shape in ((6, 8), (8, 4), (6, 4))
    )
    bias = tf.constant(rng.normal(size=4), tf.float32)

    def rounded(value):
        return tf.cast(tf.cast(value, tf.bfloat16), tf.float32)

    with tf.GradientTape() as tape:
        tape.watch((x, kernel, bias))
        y = operations.dense(x, kernel, bias, tf.bfloat16)
    dx, dkernel, dbias = tape.gradient(y, (x, kernel, bias), dy)
    exact = rounded(x) @ rounded(kernel)
    # A product's own result is a bfloat16 too: 8 bits.
    np.testing.assert_allclose(y - bias, exact, rtol=2**-8, atol=1e-5)
    np.testing.assert_allclose(
        dx, rounded(dy) @ tf.transpose(rounded(kernel)), rtol=2**-8, atol=1e-5
    )
    np.testing.assert_allclose(
        dkernel, tf.transpose(rounded(x)) @ rounded(dy), rtol=2**-8, atol=1e-5
    )
    np.testing.assert_allclose(dbias, tf.reduce_sum(dy, 0), rtol=1e-6)
    assert np.abs(y - (x @ kernel + bias)).max() > 0


@pytest.mark.slow
def test_rounding_changes_training_a_little_and_the_score_not_at_all():
    children = [samples.job(0, 2), samples.job(1, 1, ("embedding",))]
    exact = samples.train(children, samples.trainer())
    made = samples.trainer(compute_dtype="bfloat16")
    found = samples.train(children, made)
    for child, wide in zip(found, exact, strict=True):
        np.testing.assert_allclose(child.losses, wide.losses, rtol=0.02)
        assert child.losses != wide.losses
    # A published score is that of the float32 path.
    components = [
        child_job.JobComponent(
            part.spec,
            lambda part=part: found[0].components[part.spec.name],
            f"trained-{part.spec.name}",
            False,
        )
        for part in children[0].components
    ]
    quality = samples.trainer().evaluate(
        components, samples.data(), "validation", 16
    )
    assert quality == found[0].quality


def _mlp(x, weights, products):
    kernels, biases = weights[:2], weights[2:]
    if products is None:
        return operations.mlp(x, kernels, biases)
    return xla_ops.mlp(x, kernels, biases, products)


def _attention(x, weights, products):
    """Of 4 examples with 3 tokens, 2 heads."""
    kernels, biases = weights[:4], weights[4:]
    if products is not None:
        return xla_ops.attention(x, kernels, biases, 3, 2, products)
    parts = [
        tf.reshape(operations.dense(x, kernel, bias), [4, 3, 2, 4])
        for kernel, bias in zip(kernels[:3], biases[:3], strict=True)
    ]
    read = tf.reshape(operations.attend(*parts, 1.0), [12, 8])
    return operations.dense(read, kernels[3], biases[3])


@pytest.mark.parametrize(
    ("products", "tolerance"), [(tf.float32, 1e-5), (tf.bfloat16, 2**-5)]
)
@pytest.mark.parametrize(
    ("compute", "shapes"),
    [
        (_mlp, [(8, 16), (16, 8), (16,), (8,)]),
        (_attention, [(8, 8)] * 4 + [(8,)] * 4),
    ],
)
def test_compiled_passes_equal_the_operations_that_they_stand_for(
    compute, shapes, products, tolerance
):
    # Small logits: where a softmax is one-sided its gradients are all rounding.
    rng = np.random.default_rng(0)

    def draw(*shape):
        return tf.constant(rng.normal(size=shape), tf.float32)

    weights = [0.3 * draw(*shape) for shape in shapes]
    x, dy = draw(12, 8), draw(12, 8)

    def value_and_gradients(products):
        with tf.GradientTape() as tape:
            tape.watch([x, weights])
            y = compute(x, weights, products)
        return [
            y,
            *tf.nest.flatten(tape.gradient(y, [x, weights], dy)),
        ]

    expected = value_and_gradients(None)
    # Rounding alone reaches the biases of keys: the others' size counts.
    usual = np.median([np.abs(plain).max() for plain in expected])
    for found, plain in zip(
        value_and_gradients(products), expected, strict=True
    ):
        scale = max(np.abs(plain).max(), usual)
        np.testing.assert_allclose(found / scale, plain / scale, atol=tolerance)
        assert found.dtype == plain.dtype
