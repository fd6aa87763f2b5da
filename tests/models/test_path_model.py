"""Paths as one functional graph."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.models import path_model
from keras_munet.models.vit import base
from keras_munet.models.vit import layers as vit_layers
from keras_munet.roots import root as root_lib

_IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3))
_IMAGES = _IMAGES.astype(np.float32)


@pytest.fixture(scope="module")
def objects():
    """Two paths on one trunk; the second has a block and a head of its own."""
    trunk = root_lib.random("mu", num_layers=2, num_classes=4, seed=1)
    other = root_lib.random("mu", num_layers=2, num_classes=3, seed=2)
    trained = np.random.default_rng(5)
    components = {}

    def ref(component, tag):
        # Heads start at zero; give them values that can differ.
        weights = {
            name: value + trained.normal(0, 0.1, value.shape).astype("f4")
            for name, value in component.weights.items()
        }
        kept = specs.Component(component.spec, weights)
        made = specs.ComponentRef(
            kept.spec.name,
            f"{tag}{kept.spec.name}".ljust(64, "0"),
            kept.spec.spec_id,
            kept.spec.num_params,
        )
        components[made.id] = kept
        return made

    a = [ref(c, "a") for c in trunk.components]
    b = list(a)
    for i, component in enumerate(other.components):
        if component.spec.name in ("encoderblock_1", "head"):
            b[i] = ref(component, "b")

    def path(task, refs):
        return specs.PathRecord(
            task, None, (0, 0, 0), trunk.hparams, tuple(refs)
        )

    paths = {"a": path("a", a), "b": path("b", b)}
    return paths, lambda r: components[r.id]


def test_a_shared_component_is_one_layer_however_many_paths_use_it(objects):
    paths, get = objects
    model = path_model.path_model(paths, get)
    unique = {c.id for p in paths.values() for c in p.components}
    assert len(model.layers) == len(unique) + 1
    assert model.count_params() == sum(
        {c.id: c.num_params for p in paths.values() for c in p.components}[i]
        for i in unique
    )


def test_a_task_computes_the_same_bits_alone_and_beside_others(objects):
    paths, get = objects
    # Not predict(): it compiles the whole with XLA, which rounds otherwise.
    both = path_model.path_model(paths, get)(_IMAGES)
    for name, path in paths.items():
        alone = path_model.path_model({name: path}, get, single=True)
        np.testing.assert_array_equal(alone(_IMAGES), both[name])


def test_a_path_model_is_a_plain_keras_model_that_composes(objects):
    paths, get = objects
    base = path_model.path_model({"a": paths["a"]}, get, single=True)
    extended = keras.Model(base.input, keras.layers.Dense(2)(base.output))
    assert extended.predict(_IMAGES, verbose=0).shape == (3, 2)


def test_the_class_token_shortcut_changes_nothing(objects):
    paths, get = objects
    path = paths["a"]
    short = path_model.path_model({"a": path}, get, single=True)
    tensor = keras.ops.convert_to_tensor(_IMAGES)
    for ref in path.components:
        tensor = short.get_layer(f"{ref.name}_a")(tensor)
    np.testing.assert_allclose(
        short.predict(_IMAGES, verbose=0), tensor, rtol=1e-5, atol=1e-5
    )


def test_layers_bear_the_names_of_components_and_tasks(objects):
    paths, get = objects
    alone = path_model.path_model({"set/a": paths["a"]}, get)
    places = [ref.name for ref in paths["a"].components]
    names = [layer.name for layer in alone.layers[1:]]
    assert names == [f"{place}_set_a" for place in places]
    # Names of tasks that differ in what no layer's name has.
    both = path_model.path_model({"x/1": paths["a"], "x-1": paths["b"]}, get)
    own = {
        task: {ref.id for ref in path.components}
        for task, path in paths.items()
    }
    shared = own["a"] & own["b"]
    assert shared
    expected = {
        f"{ref.name}_shared"
        if ref.id in shared
        else f"{ref.name}_x_1" + ("_2" if task == "b" else "")
        for task in ("a", "b")
        for ref in paths[task].components
    }
    assert {layer.name for layer in both.layers[1:]} == expected


def test_paths_of_different_image_sizes_are_refused(objects):
    paths, get = objects
    other = specs.PathRecord(
        "b", None, (0, 0, 0), {"ds_image_size": 64}, paths["b"].components
    )
    with pytest.raises(errors.UsageError, match="different image sizes"):
        path_model.path_model({"a": paths["a"], "b": other}, get)


class _Pair(base.VitLayer):
    """A plug-in's block: each token takes half of its neighbour."""

    mixes_tokens = True


def test_tokens_below_the_last_block_that_mixes_them_are_all_computed():
    norm = vit_layers.EncoderNorm(width=4)
    assert path_model.class_token_flags([norm, norm]) == [True, True]
    block = vit_layers.EncoderBlock(width=4, num_heads=2, mlp_dim=8)
    assert path_model.class_token_flags([block, norm]) == [True, True]
    # One that does not take the option needs its whole input.
    pair = _Pair()
    flags = path_model.class_token_flags([block, norm, pair, norm])
    assert flags == [False, False, False, True]
