"""Random and packaged roots, and what settings ask for."""

from __future__ import annotations

import numpy as np
import pytest

from keras_munet import errors
from keras_munet.roots import build
from keras_munet.roots import packaged
from keras_munet.roots import root as root_lib


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


def test_the_packaged_root_says_that_it_is_random_and_never_changes():
    root = packaged.packaged()
    assert "random" in root.source
    _assert_same(root, build.build({"source": "packaged", "seed": 9}))
    kernel = root.components[0].weights["kernel"]
    assert kernel.ravel()[:3].tolist() == pytest.approx(
        _PACKAGED_KERNEL, rel=1e-6
    )


# The first three values of the packaged embedding kernel, written down so
# that a change of the packaged root cannot pass unseen.
_PACKAGED_KERNEL = [0.0713823587, 0.0336007588, -0.0616553463]


def test_settings_build_the_root_they_name():
    settings = {
        "source": "random",
        "variant": "mu",
        "num_layers": -1,
        "image_size": 16,
        "seed": 5,
        "path": "",
    }
    _assert_same(
        build.build(settings, num_layers_max=6),
        root_lib.random("mu", num_layers_max=6, image_size=16, seed=5),
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"source": "hub"}, "root.source"),
        ({"sauce": "npz"}, "root.sauce"),
        ({"source": "npz"}, "root.path"),
        ({"variant": "XL"}, "unknown ViT variant"),
        ({"num_layers": -2}, "num_layers"),
        ({"image_size": 30}, "ds_image_size"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(settings, said):
    with pytest.raises(errors.UsageError, match=said) as refused:
        build.build(settings)
    assert "\n" not in str(refused.value)
