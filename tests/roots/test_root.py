"""Random and packaged roots, and what settings ask for."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.data import tasks
from keras_munet.models.vit import architecture as vit_architecture
from keras_munet.models.vit import base
from keras_munet.models.vit import variants
from keras_munet.roots import build
from keras_munet.roots import packaged
from keras_munet.roots import root as root_lib
from keras_munet.roots.pretraining import probe


def _assert_same(one: root_lib.Root, two: root_lib.Root) -> None:
    assert one.family == two.family
    assert one.hparams == two.hparams
    for a, b in zip(one.components, two.components, strict=True):
        assert a.spec == b.spec
        for name, value in a.weights.items():
            np.testing.assert_array_equal(value, b.weights[name])


def test_a_random_root_is_decided_by_its_arguments():
    _assert_same(root_lib.random("mu", seed=3), root_lib.random("mu", seed=3))
    one = root_lib.random("mu", seed=3).components[0].weights["kernel"]
    two = root_lib.random("mu", seed=4).components[0].weights["kernel"]
    assert (one != two).any()


def test_a_shallow_random_root_begins_a_deeper_one():
    deep = {c.spec.name: c for c in root_lib.random("mu").components}
    for component in root_lib.random("mu", num_layers=2).components:
        for name, value in component.weights.items():
            np.testing.assert_array_equal(
                value, deep[component.spec.name].weights[name]
            )


def test_blocks_of_one_root_differ():
    root = root_lib.random("mu", num_layers=2)
    one, two = (
        c.weights["query_kernel"]
        for c in root.components
        if c.spec.layer == "EncoderBlock"
    )
    assert (one != two).any()


def test_a_root_may_be_shallower_than_its_deepest_path():
    root = root_lib.random("Ti/16", num_layers=0, num_layers_max=3)
    assert root.hparams == {"num_layers": 0, "ds_image_size": 32}
    deeper = {**root.hparams, "num_layers": 3}
    assert len(root.family.layout(deeper, 2)) == 8
    with pytest.raises(errors.UsageError, match="num_layers"):
        root.family.layout({**root.hparams, "num_layers": 4}, 2)


def test_a_root_of_three_layers_has_the_published_size():
    assert root_lib.random("Ti/16", num_layers=3).num_params == 1_484_162


def test_a_random_root_may_have_a_layer_before_its_head():
    root = root_lib.random("mu", num_layers=1, representation_size=24)
    layer, head = (component.spec for component in root.components[-2:])
    assert (layer.name, layer.num_params) == ("pre_logits", 65 * 24)
    assert head.num_params == 25 * 2


@pytest.mark.parametrize("name", ["mu", "Ti", "S", "B", "L", "H"])
def test_every_variant_takes_any_patch_depth_and_image_size(name):
    root = root_lib.random(
        f"{name}/4", num_layers=0, num_layers_max=40, image_size=12
    )
    hparams = {"num_layers": 40, "ds_image_size": 20}
    layout = root.family.layout(hparams, 3)
    assert dict(layout[2].weights)["pos_embedding"][1] == 1 + 25
    positions = root.family.resample(root.components[2], layout[2])
    assert positions.spec == layout[2]


def _built(**settings):
    return build.build(settings_lib.RootSettings(**settings))


@pytest.mark.parametrize(
    ("variant", "image_size", "num_layers", "num_params"),
    [
        ("Ti/16", 32, 3, 1_484_162),
        ("B/16", 32, 12, 85_652_738),
        ("L/16", 224, 24, 303_303_682),
    ],
)
def test_layouts_have_the_published_numbers_of_parameters(
    variant, image_size, num_layers, num_params
):
    found = variants.variant(variant)
    family = vit_architecture.VitFamily.of(found, num_layers)
    hparams = {"num_layers": num_layers, "ds_image_size": image_size}
    layout = family.layout(hparams, 2)
    assert sum(spec.num_params for spec in layout) == num_params


def test_the_packaged_root_is_small_whole_and_the_same_everywhere():
    root = packaged.packaged()
    assert root.hparams == {"num_layers": 4, "ds_image_size": 32}
    _assert_same(root, _built(source="packaged", seed=9))
    files = [path for path in packaged.FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 4_000_000
    # Written down so that a change of it cannot pass unseen.
    kernel = root.components[0].weights["kernel"]
    assert kernel.ravel()[:3].tolist() == pytest.approx(
        _PACKAGED_KERNEL, rel=1e-6
    )


_PACKAGED_KERNEL = [-0.16275951266, -0.16038092971, 0.14705741405]


def test_the_packaged_root_can_be_called_without_this_library():
    served = tf.saved_model.load(str(packaged.FOLDER))
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3))
    x = wanted = images.astype(np.float32)
    for component in packaged.packaged().components:
        wanted = base.from_component(component)(wanted)
    seen = served.signatures["serving_default"](tf.constant(x))["output_0"]
    np.testing.assert_allclose(seen, wanted, atol=1e-5)
    np.testing.assert_allclose(served(x), wanted, atol=1e-5)


def test_a_linear_probe_on_digits_gains_much_from_the_packaged_root():
    data = tasks.load("digits")
    seen = probe.linear_probe(packaged.packaged(), data)
    random = probe.linear_probe(root_lib.random("mu", seed=1), data)
    record = json.loads((packaged.FOLDER / "pretraining.json").read_text())
    assert seen == pytest.approx(record["digits_probe"], abs=0.01)
    # Recorded by a ridge regression, before heads were solved by LDA.
    assert random == pytest.approx(record["digits_probe_random"][1], abs=0.03)
    assert seen > random + 0.1


def test_settings_build_the_root_they_name():
    settings = settings_lib.RootSettings(
        source="random", variant="mu", image_size=16, seed=5
    )
    _assert_same(
        build.build(settings, num_layers_max=6),
        root_lib.random("mu", num_layers_max=6, image_size=16, seed=5),
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"source": "file"}, "root.source"),
        ({"source": "npz"}, "root.path"),
        ({"source": "hub"}, "root.path is empty; source hub needs a hub"),
        ({"variant": "XL"}, "unknown ViT variant"),
        ({"num_layers": -2}, "num_layers"),
        ({"image_size": 30}, "ds_image_size"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(settings, said):
    with pytest.raises(errors.UsageError, match=said) as refused:
        _built(**settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("variant", "num_layers", "image_size", "words"),
    [
        ("L", 1000, 32, "parameters; at most"),
        ("H", 500, 224, "parameters; at most"),
        ("mu/1", 1, 4096, "patches"),
        ("mu/8", 1, 2**40, "patches"),
        ("R50+L/32", 900, 384, "parameters; at most"),
    ],
)
def test_a_root_that_takes_all_memory_is_refused_before_it_is_drawn(
    variant, num_layers, image_size, words
):
    with pytest.raises(errors.UsageError, match=words):
        root_lib.random(variant, num_layers=num_layers, image_size=image_size)
