"""Roots from keras_hub's ViT backbones."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_munet import errors
from keras_munet.models import layer_factory
from keras_munet.models import path_model
from keras_munet.roots import keras_hub_source
from keras_munet.roots import root as root_lib

_ARGUMENTS = {
    "image_shape": (32, 32, 3),
    "patch_size": 8,
    "num_layers": 11,
    "num_heads": 2,
    "hidden_dim": 32,
    "mlp_dim": 48,
}
_ATOL = 1e-5


def _backbone(**changes):
    keras_hub = pytest.importorskip("keras_hub")
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.ViTBackbone(**{**_ARGUMENTS, **changes})
    rng = np.random.default_rng(0)
    backbone.set_weights(
        [w + 0.1 * rng.normal(size=w.shape) for w in backbone.get_weights()]
    )
    return backbone


def _layers(root: root_lib.Root, dtype=None):
    """All but the head, built and with their values."""
    made = []
    for component in root.components[:-1]:
        layer = layer_factory.make_layer(
            component.spec, component.spec.name, dtype
        )
        layer.build()
        layer_factory.assign_values(layer, component.spec, component.weights)
        made.append(layer)
    return made


def _through(layers, x):
    for layer in layers:
        x = layer(x)
    return x


def _features(root: root_lib.Root, x, dtype=None):
    """The outputs of all but the head, one component after another."""
    return np.asarray(_through(_layers(root, dtype), x), np.float32)


def _images() -> np.ndarray:
    x = np.random.default_rng(1).uniform(-1, 1, (4, 32, 32, 3))
    return x.astype(np.float32)


@pytest.fixture
def _operation_by_operation():
    """Leaves the graph compiler out, which rounds where it sees fit."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.usefixtures("_operation_by_operation")
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
# An attention head's width is 16, whose root is a power of two, or 8.
@pytest.mark.parametrize(("num_heads", "epsilon"), [(2, 1e-6), (4, 1e-12)])
def test_features_equal_the_backbone_s(num_heads, epsilon, dtype):
    backbone = _backbone(
        dtype=dtype, layer_norm_epsilon=epsilon, num_heads=num_heads
    )
    root = keras_hub_source.from_keras_hub(backbone)
    wanted = np.asarray(backbone(_images()), np.float32)
    seen = _features(root, _images(), dtype)
    np.testing.assert_allclose(seen, wanted, rtol=0, atol=_ATOL)
    assert root.num_params == backbone.count_params() + 33 * 2


def test_compiled_float32_features_equal_the_backbone_s():
    backbone = _backbone()
    root = keras_hub_source.from_keras_hub(backbone)
    wanted = np.asarray(tf.function(backbone)(_images()))
    seen = _features(root, _images())
    np.testing.assert_allclose(seen, wanted, rtol=0, atol=_ATOL)


@pytest.mark.slow
def test_compiled_bfloat16_features_differ_by_fused_roundings_alone():
    backbone = _backbone(dtype="mixed_bfloat16")
    root = keras_hub_source.from_keras_hub(backbone)
    x = tf.constant(_images())
    exact = np.asarray(_backbone()(x))
    plain = np.asarray(backbone(x), np.float32)
    compiled = np.asarray(tf.function(backbone)(x), np.float32)

    layers = _layers(root, "mixed_bfloat16")

    def ours() -> np.ndarray:
        graph = tf.function(lambda x: _through(layers, x), autograph=False)
        return np.asarray(graph(x), np.float32)

    def far(one: np.ndarray, two: np.ndarray) -> float:
        return float(np.abs(one - two).max())

    # A step of bfloat16 at the outputs' size of 3.3 is 0.016. The backbone's
    # own two ways of running are 0.063 apart (4 steps), and 0.045 and 0.060
    # from float32; these components compiled are 0.047 from float32.
    own = max(far(plain, exact), far(compiled, exact))
    assert far(ours(), exact) < 1.25 * own
    # The compiler adds a bias before it rounds the product. Without that,
    # compiled components give the backbone's features.
    tf.config.optimizer.set_experimental_options({"remapping": False})
    try:
        assert far(ours(), plain) <= _ATOL
    finally:
        tf.config.optimizer.set_experimental_options({"remapping": True})


def test_the_graph_of_a_generation_gives_the_backbone_s_class_token():
    backbone = _backbone(num_layers=2)
    root = keras_hub_source.from_keras_hub(backbone, num_classes=32)
    head = root.components[-1].weights
    head["kernel"][...] = np.eye(32)
    layers = [
        layer_factory.make_layer(c.spec, c.spec.name) for c in root.components
    ]
    model = path_model.build_model({"features": layers}, 32)
    for layer, component in zip(layers, root.components, strict=True):
        layer_factory.assign_values(layer, component.spec, component.weights)
    x = np.random.default_rng(1).uniform(-1, 1, (4, 32, 32, 3))
    np.testing.assert_allclose(
        model(x)["features"], backbone(x)[:, 0], rtol=0, atol=1e-5
    )


def test_layers_and_image_size_may_be_chosen():
    backbone = _backbone(num_layers=3)
    root = keras_hub_source.from_keras_hub(
        backbone, num_layers=1, num_layers_max=2, image_size=16
    )
    assert root.hparams == {"num_layers": 1, "ds_image_size": 16}
    assert root.family.exact_gelu
    family = type(root.family).from_json(root.family.to_json())
    assert family == root.family


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_mha_bias": False}, "use_mha_bias"),
        ({"use_class_token": False}, "use_class_token"),
        ({"image_shape": (32, 16, 3)}, "square"),
    ],
)
def test_backbones_that_do_not_fit_are_refused_by_name(changes, said):
    backbone = _backbone(num_layers=1, **changes)
    with pytest.raises(errors.CheckpointError, match=said) as refused:
        keras_hub_source.from_keras_hub(backbone)
    assert "\n" not in str(refused.value)


def test_values_that_are_not_finite_are_refused():
    backbone = _backbone(num_layers=1)
    weights = backbone.get_weights()
    weights[0][0, 0, 0] = np.nan
    backbone.set_weights(weights)
    with pytest.raises(errors.CheckpointError, match="'cls': expected finite"):
        keras_hub_source.from_keras_hub(backbone)


def test_another_kind_of_backbone_is_refused():
    with pytest.raises(errors.CheckpointError, match="Functional is another"):
        x = keras.Input((4,))
        keras_hub_source.from_keras_hub(keras.Model(x, x))


def test_an_unknown_preset_is_refused_in_one_line():
    pytest.importorskip("keras_hub")
    with pytest.raises(errors.CheckpointError) as refused:
        keras_hub_source.from_keras_hub("./no_such_preset")
    assert "\n" not in str(refused.value)


def test_without_keras_hub_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(errors.UsageError, match=r"keras_munet\[keras-hub\]"):
        keras_hub_source.from_keras_hub("vit_base_patch16_224_imagenet")
