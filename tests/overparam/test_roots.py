"""A contracted network is a root, its layers are components."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_munet import errors
from keras_munet import roots
from keras_munet.models import layer_factory
from keras_munet.overparam import contraction
from keras_munet.overparam import model_transform
from keras_munet.overparam.experiments import resnet
from keras_munet.overparam.experiments import segnet

_TASKS = {"depth": 1, "segmentation": 3}
_SIZE = (16, 16)


@pytest.mark.parametrize(
    ("make", "features"),
    [
        (
            lambda: segnet.segnet(_TASKS, _SIZE, width=4, num_stages=2),
            "encoder1_pool",
        ),
        # Encoder and decoder are one block: unpooling joins them.
        (
            lambda: segnet.segnet(_TASKS, _SIZE, width=4, num_stages=2),
            "decoder0_conv1_relu",
        ),
        (
            lambda: resnet.resnet(
                _TASKS, _SIZE, width=4, blocks_per_stage=(1, 1)
            ),
            "stage1_block0_out",
        ),
    ],
)
def test_a_deployed_network_is_a_root(make, features):
    deployed = contraction.contract(model_transform.overparameterize(make()))
    root = roots.from_keras(
        deployed, features=features, image_size=16, num_classes=5
    )
    images = np.random.default_rng(0).random((2, *_SIZE, 3), np.float32)
    x = images
    for component in root.components[:-1]:
        layer = layer_factory.make_layer(component.spec, component.spec.name)
        layer.build(x.shape)
        layer_factory.assign_values(layer, component.spec, component.weights)
        x = layer(x)
    expected = keras.Model(
        deployed.inputs[0], deployed.get_layer(features).output
    )(images)
    np.testing.assert_allclose(x, expected, atol=1e-5)


def test_features_must_be_named_where_there_are_several_outputs():
    network = segnet.segnet(_TASKS, _SIZE, width=4, num_stages=1)
    with pytest.raises(errors.UsageError, match="outputs"):
        roots.from_keras(network)
