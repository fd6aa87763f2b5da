"""Roots from keras_hub's ViT backbones."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest

from keras_munet import errors
from keras_munet.graph import builder
from keras_munet.graph import nodes
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
# A bfloat16 number has 8 bits: one step at the outputs' size of 4 is 0.03, and
# the two programs round in different places.
_ATOL = {"float32": 1e-5, "mixed_bfloat16": 0.13}


def _backbone(**changes):
    keras_hub = pytest.importorskip("keras_hub")
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.ViTBackbone(**{**_ARGUMENTS, **changes})
    rng = np.random.default_rng(0)
    backbone.set_weights(
        [w + 0.1 * rng.normal(size=w.shape) for w in backbone.get_weights()]
    )
    return backbone


def _features(root: root_lib.Root, x, dtype=None):
    """The outputs of all but the head, one component after another."""
    for component in root.components[:-1]:
        layer = nodes.make_layer(component.spec, component.spec.name, dtype)
        layer.build()
        nodes.assign(layer, component.spec, component.weights)
        x = layer(x)
    return np.asarray(x, np.float32)


@pytest.mark.parametrize("dtype", sorted(_ATOL))
@pytest.mark.parametrize("epsilon", [1e-6, 1e-12])
def test_features_equal_the_backbone_s(dtype, epsilon):
    backbone = _backbone(dtype=dtype, layer_norm_epsilon=epsilon)
    root = keras_hub_source.from_keras_hub(backbone)
    x = np.random.default_rng(1).uniform(-1, 1, (4, 32, 32, 3))
    x = x.astype(np.float32)
    wanted = np.asarray(backbone(x), np.float32)
    seen = _features(root, x, dtype)
    np.testing.assert_allclose(seen, wanted, rtol=0, atol=_ATOL[dtype])
    assert root.num_params == backbone.count_params() + 33 * 2


def test_the_graph_of_a_generation_gives_the_backbone_s_class_token():
    backbone = _backbone(num_layers=2)
    root = keras_hub_source.from_keras_hub(backbone, num_classes=32)
    head = root.components[-1].weights
    head["kernel"][...] = np.eye(32)
    layers = [nodes.make_layer(c.spec, c.spec.name) for c in root.components]
    model = builder.build({"features": layers}, 32)
    for layer, component in zip(layers, root.components, strict=True):
        nodes.assign(layer, component.spec, component.weights)
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
    with pytest.raises(errors.UsageError, match=r"keras_munet\[keras_hub\]"):
        keras_hub_source.from_keras_hub("vit_base_patch16_224_imagenet")
