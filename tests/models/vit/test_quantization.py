"""Live components as 8 bits: what they compute, keep and refuse."""

from __future__ import annotations

import export_samples
import keras
import numpy as np
import pytest

from keras_munet import errors
from keras_munet.core import int8

_IMAGES = np.random.default_rng(0).uniform(-1, 1, (6, 16, 16, 3)).astype("f4")


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("quantizing") / "system"
    return export_samples.system(workdir, {"digits": 10}, num_layers=2)


@pytest.fixture
def small(system):
    model = system.model("digits")
    # Keras warns that an input has nothing to quantise.
    with pytest.warns(UserWarning, match="InputLayer"):
        model.quantize("int8")
    return model


def test_a_quantised_model_computes_with_rounded_kernels(system, small):
    rounded = system.model("digits")
    for layer in rounded.layers:
        for variable in layer.weights:
            if int8.is_kernel(variable.name):
                kernel, scale = int8.quantize_kernel(variable.numpy())
                variable.assign(kernel * scale)
    exact = np.array(system.model("digits")(_IMAGES))
    assert not np.array_equal(small(_IMAGES), exact)
    np.testing.assert_allclose(
        small(_IMAGES), rounded(_IMAGES), rtol=0, atol=1e-6
    )


def test_a_file_of_a_quantised_model_keeps_the_8_bits(system, small, tmp_path):
    system.model("digits").save(tmp_path / "whole.keras")
    small.save(tmp_path / "small.keras")
    sizes = [
        (tmp_path / name).stat().st_size
        for name in ("small.keras", "whole.keras")
    ]
    assert sizes[0] < 0.5 * sizes[1]
    loaded = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(loaded(_IMAGES), small(_IMAGES))
    assert loaded.layers[1].quantization_mode == "int8"


@pytest.mark.slow
def test_what_is_quantised_stays_and_the_rest_can_be_trained(system, small):
    before = [v.numpy() for v in small.non_trainable_variables]
    biases = [v.numpy() for v in small.trainable_variables]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    small.compile("adam", loss, jit_compile=False)
    small.fit(_IMAGES, np.arange(6), verbose=0)
    for value, variable in zip(
        before, small.non_trainable_variables, strict=True
    ):
        np.testing.assert_array_equal(value, variable.numpy())
    assert any(
        not np.array_equal(value, variable.numpy())
        for value, variable in zip(
            biases, small.trainable_variables, strict=True
        )
    )


def test_chosen_layers_of_mixed_precision_are_quantised(system):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = system.model("digits")
    finally:
        keras.config.set_dtype_policy("float32")
    model.quantize("int8", filters="encoderblock_0")
    quantised = [layer for layer in model.layers if layer.quantization_mode]
    (block,) = quantised
    assert block.dtype_policy.name == "int8_from_mixed_bfloat16"
    assert model(_IMAGES).dtype == "float32"


@pytest.mark.filterwarnings("ignore:Layer InputLayer")
@pytest.mark.parametrize(
    "asked, named",
    [
        ({"mode": "int4"}, "as int4"),
        ({"mode": "float8"}, "as float8"),
        (
            {
                "config": keras.quantizers.Int8QuantizationConfig(
                    weight_quantizer=keras.quantizers.AbsMaxQuantizer(axis=0)
                )
            },
            "of your own",
        ),
    ],
)
def test_other_ways_are_refused_and_change_nothing(system, asked, named):
    model = system.model("digits")
    with pytest.raises(errors.UsageError, match=named):
        model.quantize(**asked)
    assert {weight.dtype for weight in model.weights} == {"float32"}


def test_quantising_a_copy_leaves_the_system(system, small):
    again = system.model("digits")
    assert {weight.dtype for weight in again.weights} == {"float32"}
    assert {weight.dtype for weight in small.weights} == {"float32", "int8"}
