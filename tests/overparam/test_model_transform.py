"""Any network becomes one of factors, and an ordinary one again."""

from __future__ import annotations

import keras
import numpy as np
import overparam_samples as samples
import pytest

from keras_munet import errors
from keras_munet import overparam
from keras_munet.overparam import contraction
from keras_munet.overparam import layers
from keras_munet.overparam import model_transform
from keras_munet.overparam.experiments import resnet
from keras_munet.overparam.experiments import segnet
from keras_munet.overparam.experiments import unpooling

_TASKS = {"depth": 1, "normals": 3}
_SIZE = (32, 64)


def _factorized(model):
    return [v for v in model.layers if isinstance(v, layers.Factorized)]


def _moved(model, seed=0):
    """Changes every weight a little, as training does."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        value = rng.standard_normal(tuple(variable.shape)).astype(np.float32)
        variable.assign(variable + 0.02 * np.abs(value))
    return model


def _names(model):
    """Returns the names of layers; an input may have none of its own."""
    return [
        layer.name
        for layer in model.layers
        if not isinstance(layer, keras.layers.InputLayer)
    ]


def _check_close(found, expected):
    """Checks equality to 1e-5 of each output's greatest value."""
    for task, values in expected.items():
        scale = max(1.0, np.abs(values).max())
        np.testing.assert_allclose(
            found[task] / scale, values / scale, atol=1e-5
        )


def _check_round_trip(plain, **options):
    """Checks the outputs of all three networks; returns the two others."""
    shape = (2, *plain.inputs[0].shape[1:])
    x = np.random.default_rng(1).standard_normal(shape, np.float32)
    wide = model_transform.overparameterize(plain, **options)
    expected, found = plain(x, training=False), wide(x, training=False)
    _check_close(found, expected)
    _moved(wide)
    deployed = contraction.contract(wide)
    _check_close(deployed(x, training=False), wide(x, training=False))
    assert not _factorized(deployed)
    assert _names(deployed) == _names(plain)
    assert contraction.num_params(deployed) == contraction.num_params(plain)
    assert contraction.multiply_adds(deployed) == contraction.multiply_adds(
        plain
    )
    return wide, deployed


@pytest.mark.parametrize(
    "make",
    [
        lambda: segnet.segnet(_TASKS, _SIZE, width=4, num_stages=2),
        lambda: segnet.segnet(
            _TASKS, _SIZE, width=4, num_stages=2, unpooling="nearest"
        ),
        lambda: resnet.resnet(
            _TASKS, _SIZE, width=4, blocks_per_stage=(1, 1, 1)
        ),
    ],
)
def test_networks_are_deployed_as_small_as_they_were(make):
    plain = make()
    wide, _ = _check_round_trip(plain)
    shapes = plain.compute_output_shape((1, *_SIZE, 3))
    assert shapes == {t: (1, *_SIZE, n) for t, n in _TASKS.items()}
    assert contraction.num_params(wide) > contraction.num_params(plain)


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 3},
        {"task_factor": "diagonal"},
        {"tasks": ()},
        {"keep": "trunk0"},
    ],
)
def test_every_way_to_factorise_gives_the_same_outputs(options):
    _check_round_trip(samples.network(), **options)


def test_a_layer_has_factors_of_the_tasks_that_it_serves():
    wide = model_transform.overparameterize(samples.network())
    found = {layer.name: layer.tasks for layer in _factorized(wide)}
    assert set(found.pop("trunk0")) == set(samples.TASKS)
    assert set(found.pop("trunk1")) == set(samples.TASKS)
    assert found == {f"{task}_head": (task,) for task in samples.TASKS}
    some = model_transform.overparameterize(samples.network(), ["depth"])
    assert some.get_layer("trunk0").tasks == ("depth",)
    assert some.get_layer("normals_head").tasks == ()


def test_the_first_network_is_not_changed():
    plain = samples.network()
    before = [v.numpy() for v in plain.weights]
    _moved(model_transform.overparameterize(plain))
    for old, new in zip(before, plain.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_network_within_a_network_is_rewritten_too():
    inner_in = keras.Input((4, 4, 3))
    inner = keras.Model(
        inner_in,
        keras.layers.Conv2D(4, 3, name="deep")(inner_in),
        name="inner",
    )
    source = keras.Input((4, 4, 3))
    x = inner(source)
    outputs = {
        task: keras.layers.Dense(n, name=f"{task}_head")(x)
        for task, n in _TASKS.items()
    }
    wide, _ = _check_round_trip(keras.Model(source, outputs))
    assert set(wide.get_layer("inner").get_layer("deep").tasks) == set(_TASKS)


def test_a_network_of_factors_comes_back_from_a_file(tmp_path):
    wide = _moved(
        model_transform.overparameterize(
            segnet.segnet(_TASKS, (8, 8), width=2, num_stages=2)
        )
    )
    wide.save(tmp_path / "wide.keras")
    again = keras.models.load_model(tmp_path / "wide.keras")
    x = np.random.default_rng(1).standard_normal((1, 8, 8, 3), np.float32)
    for task, y in wide(x).items():
        np.testing.assert_array_equal(again(x)[task], y)


def _with(layer):
    source = keras.Input((4, 4, 4))
    return keras.Model(source, {"a": layer(source)}, name="one")


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (keras.layers.EinsumDense("...i,ij->...j", 3, name="odd"), "only"),
        (
            keras.layers.ConvLSTM1D(2, 3, name="odd"),
            "only Conv2D, Conv2DTranspose, Dense",
        ),
        (
            keras.layers.Dense(2, kernel_constraint="unit_norm", name="odd"),
            "kernel_constraint",
        ),
        (layers.FactorizedDense(2, name="odd"), "already"),
    ],
)
def test_a_kernel_that_cannot_be_factorised_is_named_or_kept(layer, told):
    model = _with(layer)
    with pytest.raises(errors.UsageError, match=rf"'odd'.*{told}") as info:
        model_transform.overparameterize(model)
    assert str(info.value).isprintable()
    # The pattern is searched, not matched.
    kept = model_transform.overparameterize(model, keep="dd$")
    assert type(kept.get_layer("odd")) is type(layer)


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (keras.layers.DepthwiseConv2D(3, name="odd"), "DepthwiseConv2D"),
        (keras.layers.SeparableConv2D(3, 3, name="odd"), "SeparableConv2D"),
    ],
)
def test_a_kernel_without_a_matrix_stays_as_it_is_and_says_so(layer, kind):
    model = _with(layer)
    with pytest.warns(UserWarning) as told:
        wide = model_transform.overparameterize(model)
    (said,) = told
    assert f"1 layers stay as they are, as a {kind}" in str(said.message)
    assert str(said.message).endswith("odd")
    assert type(wide.get_layer("odd")) is type(layer)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": 2, "padding": "same"},
        {"use_bias": False, "dilation_rate": 2},
        {"strides": 2, "output_padding": 1},
    ],
)
def test_a_transposed_convolution_becomes_a_product(options):
    model = _with(keras.layers.Conv2DTranspose(5, (3, 2), **options))
    wide, _ = _check_round_trip(model)
    assert isinstance(wide.layers[-1], layers.FactorizedConv2DTranspose)


def test_a_sequential_model_has_one_task():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="digits")]
    )
    wide = model_transform.overparameterize(model)
    assert wide.task_outputs == {"digits": 0}
    deployed = contraction.contract(_moved(wide))
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(deployed(x), wide(x), atol=1e-6)
    assert contraction.multiply_adds(model) == 12


def test_the_british_name_is_the_same_function():
    assert overparam.overparameterise is overparam.overparameterize


def test_a_kernel_that_is_not_finite_is_named():
    model = _with(keras.layers.Dense(2, name="odd"))
    model.get_layer("odd").kernel.assign(np.full((4, 2), np.nan))
    with pytest.raises(errors.UsageError, match=r"'odd'.*not finite"):
        model_transform.overparameterize(model)


class _Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("make", "options", "told"),
    [
        (lambda: _Subclassed(name="own"), {}, "'own' has no graph"),
        (lambda: "model", {}, "no graph"),
        (samples.network, {"tasks": ["flow"]}, "no output 'flow'.*depth"),
        (samples.network, {"keep": "("}, "no regular expression"),
        (samples.network, {"depth": 0}, "depth is 0"),
        (samples.network, {"task_factor": "sparse"}, "full, diagonal"),
        (samples.network, {"shared_steps": 0}, "shared_steps is 0"),
        (
            lambda: keras.Sequential([keras.Input((2,)), _dense()], name="own"),
            {"tasks": ["a", "b"]},
            r"'own' has 1 outputs \(dense.*\) and tasks has 2 names",
        ),
    ],
)
def test_what_cannot_be_rewritten_is_named(make, options, told):
    with pytest.raises(errors.UsageError, match=told):
        model_transform.overparameterize(make(), **options)


def _dense():
    return keras.layers.Dense(2)


def test_multiply_adds_are_counted_by_hand():
    source = keras.Input((8, 6, 4))
    x = keras.layers.Conv2D(6, (3, 2), padding="same", groups=2)(source)
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    x = keras.layers.Conv2DTranspose(5, 2, strides=2)(x)
    x = keras.layers.Dense(7)(x)
    model = keras.Model(source, x)
    expected = (
        8 * 6 * 6 * (3 * 2 * 4 // 2)
        + 8 * 6 * 6 * 9
        + 8 * 6 * 6 * (2 * 2 * 5)
        + 16 * 12 * 7 * 5
    )
    assert contraction.multiply_adds(model) == expected


def test_a_separable_convolution_counts_both_its_kernels():
    source = keras.Input((8, 6, 4))
    layer = keras.layers.SeparableConv2D(
        5, 3, padding="same", strides=2, depth_multiplier=2
    )
    model = keras.Model(source, layer(source))
    # Eight filtered channels at each place, then five sums of these.
    expected = 4 * 3 * (8 * 9 + 5 * 8)
    assert contraction.multiply_adds(model) == expected


@pytest.mark.parametrize(
    "layer, expected",
    [
        # By hand: 7 places of 8 channels, and 9 places of 4.
        (keras.layers.DepthwiseConv1D(3, depth_multiplier=2), 7 * 8 * 3),
        (keras.layers.Conv1DTranspose(6, 3), 9 * 4 * 3 * 6),
    ],
)
def test_convolutions_along_a_line_count_as_those_of_images(layer, expected):
    source = keras.Input((9, 4))
    model = keras.Model(source, layer(source))
    assert contraction.multiply_adds(model) == expected


def test_every_use_of_a_layer_counts():
    source = keras.Input((8, 8, 4))
    shared = keras.layers.Conv2D(4, 3, padding="same")
    x = shared(source)
    x = keras.layers.MaxPooling2D(2)(x)
    model = keras.Model(source, shared(x))
    assert contraction.multiply_adds(model) == (64 + 16) * 4 * 9 * 4
    inner = keras.Model(source, shared(source))
    again = inner(inner(source))
    twice = keras.Model(source, again)
    assert contraction.multiply_adds(twice) == 2 * 64 * 4 * 9 * 4
    wide = model_transform.overparameterize(model)
    assert contraction.multiply_adds(wide) == contraction.multiply_adds(model)


def test_unpooling_puts_values_where_the_greatest_stood():
    before = np.zeros((1, 4, 4, 1), np.float32)
    before[0, 1, 0] = before[0, 0, 3] = before[0, 3, 3] = 1.0
    values = np.arange(1, 5, dtype=np.float32).reshape(1, 2, 2, 1)
    found = unpooling.MaxUnpooling2D()([values, before]).numpy()[0, ..., 0]
    expected = np.zeros((4, 4))
    expected[1, 0], expected[0, 3], expected[3, 3] = 1, 2, 4
    # Of equal values the first.
    expected[2, 0] = 3
    np.testing.assert_array_equal(found, expected)
    # Pooling finds again what was put there.
    pooled = keras.layers.MaxPooling2D(2)(found[None, ..., None])
    np.testing.assert_array_equal(pooled, values)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: segnet.segnet(_TASKS, (30, 32), num_stages=2), "30 x 32"),
        (lambda: segnet.segnet(_TASKS, (8, 8), num_stages=4), "16"),
        (lambda: resnet.resnet(_TASKS, (32, 40)), "multiples of 32"),
        (lambda: segnet.segnet({}, (16, 16)), "one or more names"),
        (lambda: segnet.segnet({"a b": 1}, (16, 16)), "letters"),
        (lambda: segnet.segnet({"a": 0}, (16, 16)), "channels of a is 0"),
        (lambda: segnet.segnet(_TASKS, (16, 16), width=0), "width is 0"),
        (
            lambda: segnet.segnet(_TASKS, (16, 16), unpooling="max"),
            "indices, nearest",
        ),
        (
            lambda: resnet.dense_decoder(
                samples.network(), ["conv9"], _TASKS, width=4
            ),
            "no layer 'conv9'",
        ),
        (
            lambda: resnet.dense_decoder(
                samples.network(), ["trunk0", "trunk0"], _TASKS, width=4
            ),
            "from fine to coarse",
        ),
        (
            lambda: resnet.dense_decoder(
                samples.network(), [], _TASKS, width=4
            ),
            "no features",
        ),
        (
            lambda: unpooling.MaxUnpooling2D(name="own")(
                [np.zeros((1, 2, 2, 1)), np.zeros((1, 5, 4, 1))]
            ),
            "'own'",
        ),
    ],
)
def test_sizes_that_cannot_be_are_named(make, told):
    with pytest.raises(errors.UsageError, match=told) as info:
        make()
    assert str(info.value).isprintable()


def test_a_published_backbone_takes_a_decoder():
    backbone = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, include_top=False, weights=None
    )
    model = resnet.dense_decoder(
        backbone,
        ["block_1_project_BN", "block_3_project_BN"],
        _TASKS,
        width=4,
    )
    shape = model.compute_output_shape((1, 32, 32, 3))["depth"]
    assert shape == (1, 32, 32, 1)
    with pytest.warns(UserWarning, match="DepthwiseConv2D has no matrix"):
        _check_round_trip(model)
