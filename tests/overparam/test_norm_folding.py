"""Batch norms become part of the layers before them, where none can tell."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_munet.overparam import contraction
from keras_munet.overparam import model_transform


def _spread(model, seed=0):
    """Gives every weight, statistics too, a value of its own."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if "seed" not in variable.path:
            value = rng.uniform(0.5, 1.5, tuple(variable.shape))
            variable.assign(value.astype(np.float32) * 0.3)
    return model


def _check_equal(model, folded, atol=1e-5):
    shape = (3, *model.inputs[0].shape[1:])
    x = np.random.default_rng(1).standard_normal(shape, np.float32)
    for a, b in zip(
        keras.tree.flatten(model(x, training=False)),
        keras.tree.flatten(folded(x, training=False)),
        strict=True,
    ):
        scale = max(1.0, float(np.abs(a).max()))
        np.testing.assert_allclose(a / scale, b / scale, atol=atol)


def _norms(model):
    return [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Conv2D(6, 3, use_bias=False),
        keras.layers.Conv2D(6, 3, groups=2),
        keras.layers.Conv2DTranspose(5, 3, strides=2),
        keras.layers.DepthwiseConv2D(3, depth_multiplier=2),
        keras.layers.Dense(7),
    ],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize("options", [{}, {"center": False, "scale": False}])
def test_a_norm_behind_a_linear_layer_is_folded(layer, options):
    layer = type(layer).from_config(layer.get_config())
    image = keras.Input((6, 6, 4))
    x = keras.layers.BatchNormalization(**options)(layer(image))
    model = _spread(keras.Model(image, keras.layers.ReLU()(x)))
    folded = contraction.contract(model, fold_norms=True)
    assert not _norms(folded)
    assert folded.get_layer(layer.name).use_bias
    _check_equal(model, folded)


def _behind_activation(image):
    x = keras.layers.Conv2D(4, 3, activation="relu")(image)
    return keras.layers.BatchNormalization()(x)


def _read_twice(image):
    x = keras.layers.Conv2D(4, 3)(image)
    return keras.layers.Add()([x, keras.layers.BatchNormalization()(x)])


def _output_too(image):
    x = keras.layers.Conv2D(4, 3)(image)
    return [x, keras.layers.BatchNormalization()(x)]


def _layer_used_twice(image):
    conv = keras.layers.Conv2D(3, 3, padding="same")
    return keras.layers.BatchNormalization()(conv(conv(image)))


def _other_axis(image):
    x = keras.layers.Conv2D(4, 3)(image)
    return keras.layers.BatchNormalization(axis=1)(x)


def _behind_pooling(image):
    return keras.layers.BatchNormalization()(
        keras.layers.MaxPooling2D(2)(image)
    )


@pytest.mark.parametrize(
    "make",
    [
        *(_behind_activation, _read_twice, _output_too),
        *(_layer_used_twice, _other_axis, _behind_pooling),
    ],
)
def test_a_norm_that_inference_could_tell_stays(make):
    image = keras.Input((6, 6, 3))
    model = _spread(keras.Model(image, make(image)))
    folded = contraction.contract(model, fold_norms=True)
    assert len(_norms(folded)) == 1
    _check_equal(model, folded)


def test_models_within_models_and_sequential_ones_are_folded():
    inner = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
        ]
    )
    image = keras.Input((6, 6, 3))
    model = _spread(keras.Model(image, inner(image)))
    folded = contraction.contract(model, fold_norms=True)
    assert len(folded.weights) == 2
    _check_equal(model, folded)


@pytest.mark.slow
def test_a_published_network_with_two_heads_is_folded_after_training():
    backbone = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, include_top=False, weights=None, pooling="avg"
    )
    outputs = {
        task: keras.layers.Dense(n, name=task)(backbone.output)
        for task, n in (("digit", 10), ("letter", 24))
    }
    with pytest.warns(UserWarning, match="17 layers stay as they are"):
        wide = model_transform.overparameterize(
            keras.Model(backbone.input, outputs)
        )
    wide.compile("adam", loss=dict.fromkeys(outputs, "mse"))
    x = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype("f4")
    y = {"digit": np.ones([8, 10], "f4"), "letter": np.ones([8, 24], "f4")}
    wide.fit(x, y, batch_size=4, epochs=2, verbose=0)
    plain = contraction.contract(wide)
    np.testing.assert_array_equal(
        plain(x, training=False)["digit"], wide(x, training=False)["digit"]
    )
    folded = contraction.contract(wide, fold_norms=True)
    assert not _norms(folded)
    assert len(_norms(plain)) == 52
    _check_equal(plain, folded)
