"""Blocks of Keras models as a stored record describes them."""

from __future__ import annotations

import json
import pathlib

import keras
import pytest

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.models import layer_factory
from keras_munet.models.keras_blocks import layers


def _block(layer: keras.layers.Layer) -> str:
    source = keras.Input((4,))
    model = keras.Model(source, layer(source))
    return json.dumps(model.get_config())


def test_a_block_is_built_from_its_record():
    template = layers.Template(_block(keras.layers.Dense(3)), "float32")
    assert [shape for _, shape in template.weights] == [(4, 3), (3,)]


def test_code_in_a_block_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    code = keras.layers.Lambda(lambda x, p=str(marker): _touched(x, p))
    text = _block(code)
    marker.unlink()
    with pytest.raises(errors.UsageError, match=r"cannot build.*Lambda"):
        layers.Template(text, "float32")
    assert not marker.exists()


def _touched(x, path):
    pathlib.Path(path).touch()
    return x


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"layers": 1}'])
def test_a_block_that_is_no_config_is_refused(text):
    with pytest.raises(errors.UsageError, match="cannot build"):
        layers.Template(text, "float32")


@pytest.mark.parametrize("config", [{}, {"width": 4, "units": 1}, {"a\n": 1}])
def test_a_component_with_an_odd_config_is_refused(config):
    spec = specs.ComponentSpec("cls", "ClassToken", config, ())
    with pytest.raises(errors.StoreError, match=r"component 'cls'") as info:
        layer_factory.make_layer(spec, "cls")
    assert str(info.value).isprintable()
