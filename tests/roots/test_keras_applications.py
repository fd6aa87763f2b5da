"""Roots by the name of a model of `keras.applications`."""

from __future__ import annotations

import doctest
import sys

import keras
import numpy as np
import pytest

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.models import layer_factory
from keras_munet.roots import build
from keras_munet.roots import keras_applications


def _features(root, x):
    for component in root.components[:-1]:
        layer = layer_factory.make_layer(component.spec, component.spec.name)
        layer.build()
        layer_factory.assign_values(layer, component.spec, component.weights)
        x = layer(x)
    return np.asarray(x, np.float32)


@pytest.mark.parametrize(
    "name",
    [
        # Pixels as they are, in [-1, 1], and less a mean with channels turned.
        "MobileNetV3Small",
        "MobileNetV2",
        "VGG16",
        # Less a mean by a deviation; pixels as they are.
        pytest.param("DenseNet121", marks=pytest.mark.slow),
        pytest.param("ResNet50", marks=pytest.mark.slow),
        pytest.param("EfficientNetB0", marks=pytest.mark.slow),
    ],
)
def test_a_root_has_the_features_of_its_model(name, tmp_path):
    make = getattr(keras.applications, name)
    model = make(
        weights=None, include_top=False, pooling="avg", input_shape=(32, 32, 3)
    )
    rng = np.random.default_rng(0)
    model.set_weights(
        [
            w + np.abs(0.05 * rng.normal(size=w.shape))
            if "variance" in v.path
            else w + 0.01 * rng.normal(size=w.shape)
            for w, v in zip(model.get_weights(), model.weights, strict=True)
        ]
    )
    file = tmp_path / "model.weights.h5"
    model.save_weights(file)
    root = keras_applications.from_name(f"{name}@{file}", image_size=32)
    pixels = rng.integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    preprocess = sys.modules[make.__module__].preprocess_input
    wanted = np.asarray(model(preprocess(pixels.copy()), training=False))
    assert np.ptp(wanted) > 1e-3
    np.testing.assert_allclose(
        _features(root, pixels / 127.5 - 1.0),
        wanted,
        rtol=1e-3,
        atol=1e-4 * np.abs(wanted).max(),
    )


def test_the_example_of_the_docstring_holds():
    tested = doctest.testmod(keras_applications)
    assert (tested.failed, tested.attempted) == (0, 2)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("MobileNetV4", errors.UsageError, "it has: ConvNeXt"),
        ("preprocess_input", errors.UsageError, "has no model"),
        ("MobileNetV2@absent.h5", errors.CheckpointError, "absent.h5 is no"),
        ("", errors.UsageError, "root.path is empty"),
    ],
)
def test_what_cannot_be_had_is_refused(name, kind, words):
    settings = settings_lib.RootSettings(
        source="keras_applications", path=name, image_size=32
    )
    with pytest.raises(kind, match=words) as caught:
        build.build(settings)
    assert "\n" not in str(caught.value)


def test_weights_of_another_model_are_refused(tmp_path):
    file = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]).save_weights(
        file
    )
    with pytest.raises(errors.CheckpointError, match="cannot be had"):
        keras_applications.from_name(f"MobileNetV3Small@{file}", image_size=32)


def test_a_size_that_a_model_does_not_take_is_refused():
    with pytest.raises(errors.UsageError, match="takes no images of 8 px"):
        keras_applications.from_name("VGG16@random", image_size=8)


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("keras_applications:MobileNetV2", "MobileNetV2"),
        ("npz:folder/Ti_16.npz", "folder/Ti_16.npz"),
        ("npz:augreg:name=Ti/16", "augreg:name=Ti/16"),
    ],
)
def test_a_source_may_name_its_path(source, path):
    found = settings_lib.RootSettings(source=source)
    assert (found.source, found.path) == (source.partition(":")[0], path)
    assert found == settings_lib.RootSettings(source=found.source, path=path)
    with pytest.raises(errors.UsageError, match=r"root\.source.*root\.path"):
        settings_lib.RootSettings(source=source, path="other")
