"""Factorised layers are ordinary layers, whatever their options."""

from __future__ import annotations

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st

from keras_munet import errors
from keras_munet.overparam import contraction
from keras_munet.overparam import factorization
from keras_munet.overparam import layers

_TASKS = ("a", "b", "c")
_few = hypothesis.settings(max_examples=30, deadline=None, derandomize=True)
_ways = st.fixed_dictionaries(
    {
        "tasks": st.integers(0, 3).map(lambda n: _TASKS[:n]),
        "depth": st.integers(1, 3),
        "task_factor": st.sampled_from(factorization.TASK_FACTORS),
        "use_bias": st.booleans(),
        "activation": st.sampled_from([None, "relu", "tanh"]),
    }
)
_sides = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def _convolutions(draw):
    """Returns (options of a layer, channels of its input)."""
    # Grouped ones are compiled by XLA, for half a second each.
    groups = draw(st.sampled_from([1, 1, 1, 1, 2]))
    steps = draw(st.sampled_from(["strides", "dilation_rate"]))
    options = {
        "filters": groups * draw(st.integers(1, 4)),
        "kernel_size": draw(_sides),
        steps: draw(_sides),
        "padding": draw(st.sampled_from(["valid", "same"])),
        "groups": groups,
        **draw(_ways),
    }
    return options, groups * draw(st.integers(1, 3))


def _changed(layer, seed=0):
    """Moves every weight, as training does."""
    rng = np.random.default_rng(seed)
    for variable in layer.weights:
        noise = 0.1 * rng.standard_normal(tuple(variable.shape))
        variable.assign(variable + noise.astype(np.float32))


def _plain_options(options):
    own = ("tasks", "depth", "task_factor")
    return {key: item for key, item in options.items() if key not in own}


def _check_against_plain(factorized, plain, x):
    """Checks a layer before and after its factors change."""
    source = keras.Input(x.shape[1:])
    model = keras.Model(source, factorized(source))
    plain.build(x.shape)
    factorized.assign_kernel(plain.kernel.numpy())
    if plain.use_bias:
        plain.bias.assign(np.linspace(-1, 1, plain.bias.shape[0]))
        factorized.bias.assign(plain.bias)
    np.testing.assert_allclose(model(x), plain(x), atol=1e-5)
    _changed(factorized)
    deployed = contraction.contract(model)
    np.testing.assert_allclose(deployed(x), model(x), atol=1e-5, rtol=1e-5)
    assert type(deployed.layers[-1]) is type(plain)
    assert contraction.num_params(deployed) == plain.count_params()


@_few
@hypothesis.given(_convolutions())
def test_a_convolution_computes_what_its_contracted_kernel_computes(case):
    options, num_in = case
    x = np.random.default_rng(0).standard_normal((2, 9, 8, num_in), np.float32)
    _check_against_plain(
        layers.FactorizedConv2D(**options),
        keras.layers.Conv2D(**_plain_options(options)),
        x,
    )


@_few
@hypothesis.given(st.integers(1, 5), st.integers(1, 5), _ways)
def test_a_dense_layer_computes_what_its_contracted_kernel_computes(
    num_in, units, options
):
    x = np.random.default_rng(0).standard_normal((3, 2, num_in), np.float32)
    _check_against_plain(
        layers.FactorizedDense(units, **options),
        keras.layers.Dense(units, **_plain_options(options)),
        x,
    )


def test_an_ordinary_initialisation_is_the_first_product():
    layer = layers.FactorizedConv2D(
        6, 3, _TASKS, kernel_initializer=keras.initializers.HeNormal(seed=5)
    )
    layer.build((None, 8, 8, 4))
    drawn = keras.initializers.HeNormal(seed=5)((3, 3, 4, 6))
    np.testing.assert_allclose(layer.kernel, drawn, atol=1e-6)
    groups, rows, columns = layer.arrangement.shape
    assert (groups, rows, columns) == (1, 4 * 3, 6 * 3)
    for task in _TASKS:
        (factor,) = layer.task_variables(task)
        off_diagonal = factor.numpy()[0] * (1 - np.eye(12))
        assert not off_diagonal.any()


def test_a_kernel_of_zeros_can_grow():
    import tensorflow as tf

    layer = layers.FactorizedDense(
        3, _TASKS, kernel_initializer="zeros", use_bias=False
    )
    x = np.ones((2, 4), np.float32)
    with tf.GradientTape() as tape:
        y = layer(x)
        loss = tf.reduce_sum(y)
    np.testing.assert_array_equal(y, 0)
    gradients = tape.gradient(loss, [v.value for v in layer.weights])
    assert any(np.abs(g).max() > 0.1 for g in gradients)


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: layers.FactorizedConv2D(
            4, (3, 2), _TASKS, dilation_rate=2, padding="same", **options
        ),
        lambda **options: layers.FactorizedDense(
            4, ("a",), activation="relu", **options
        ),
    ],
)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_layer_comes_back_from_a_file(tmp_path, make, policy):
    layer = make(depth=2, task_factor="diagonal", dtype=policy, name="own")
    source = keras.Input((5, 6, 3))
    model = keras.Model(source, layer(source))
    _changed(layer)
    x = np.random.default_rng(0).standard_normal((2, 5, 6, 3), np.float32)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(x), model(x))
    # What is deployed rounds the same kernel in the same place.
    np.testing.assert_array_equal(contraction.contract(again)(x), model(x))
    assert {str(v.dtype) for v in layer.weights} == {"float32"}
    assert model(x).dtype.name == layer.compute_dtype


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("conv", {"depth": 0}, "depth is 0"),
        ("conv", {"depth": True}, "depth is True"),
        ("conv", {"task_factor": "sum"}, "full, diagonal"),
        ("conv", {"task_factor": "low"}, "full, diagonal"),
        ("conv", {"tasks": ("a", "a")}, "different names"),
        ("conv", {"tasks": ("no-name",)}, "letters"),
        ("conv", {"kernel_size": 0}, "kernel_size is 0"),
        ("conv", {"kernel_size": (1, 2, 3)}, "one or two"),
        ("conv", {"padding": "causal"}, "valid, same"),
        ("conv", {"data_format": "NHWC"}, "channels_last"),
        ("conv", {"strides": 2, "dilation_rate": 2}, "one or the other"),
        ("conv", {"filters": 0}, "filters is 0"),
        ("conv", {"groups": 2}, "multiples of the groups"),
        ("dense", {"units": -1}, "units is -1"),
    ],
)
def test_what_cannot_be_is_refused_by_name(kind, options, told):
    with pytest.raises(errors.UsageError, match=told) as info:
        if kind == "dense":
            layers.FactorizedDense(**options)
        else:
            layer = layers.FactorizedConv2D(
                **{"filters": 3, "kernel_size": 2, **options}
            )
            layer.build((None, 8, 8, 3))
    assert str(info.value).isprintable()


def test_kernels_that_do_not_fit_are_refused_by_name():
    layer = layers.FactorizedDense(3, _TASKS, name="own")
    layer.build((None, 2))
    with pytest.raises(errors.UsageError, match=r"'own'.*\[2, 3\]"):
        layer.assign_kernel(np.zeros((3, 2)))
    with pytest.raises(errors.UsageError, match=r"'own'.*1 values.*finite"):
        layer.assign_kernel(np.array([[0, 0, np.nan], [0, 0, 0]]))
    before = [v.numpy() for v in layer.weights]
    with pytest.raises(errors.UsageError):
        layer.assign_kernel(np.full((2, 3), np.inf))
    for old, new in zip(before, layer.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_config_has_every_argument_of_the_constructor():
    import inspect

    for layer in (
        layers.FactorizedConv2D(2, 3, ("a",), name="own"),
        layers.FactorizedDense(2, name="own"),
    ):
        config = layer.get_config()
        own = inspect.signature(type(layer).__init__).parameters
        names = set(own) - {"self", "kwargs"}
        assert names <= set(config)
        assert type(layer).from_config(config).get_config() == config
