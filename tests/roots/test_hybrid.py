"""Hybrid roots: names, unnamed order, strictness, and a whole system."""

from __future__ import annotations

import hybrid_samples
import numpy as np
import pytest
import system_samples
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.models.vit import base
from keras_munet.models.vit import hybrid
from keras_munet.models.vit import layers as _layers  # noqa: F401  registers
from keras_munet.models.vit import variants
from keras_munet.roots import augreg_names
from keras_munet.roots import build
from keras_munet.roots import hub
from keras_munet.roots import npz
from keras_munet.roots import root as root_lib
from keras_munet.roots import saved_model_variables
from keras_munet.roots import vit_loader
from keras_munet.system import system as system_lib

# Eleven units in one stage: as text, unit10 comes before unit2.
_UNITS = (11, 1)


def _assert_same(one: root_lib.Root, two: root_lib.Root) -> None:
    assert one.family == two.family
    assert one.hparams == two.hparams
    for a, b in zip(one.components, two.components, strict=True):
        assert a.spec == b.spec
        for name, value in a.weights.items():
            np.testing.assert_array_equal(value, b.weights[name])


def _published(folder, arrays) -> str:
    """Saves arrays as the published hub models keep them: in Flax's order."""
    made = tf.train.Checkpoint()
    tree: dict = {}
    for name, value in arrays.items():
        *path, last = name.split("/")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = tf.Variable(value)
    made.variables = tf.nest.flatten(tree)
    tf.saved_model.save(made, str(folder))
    return str(folder)


def _saved(folder, arrays) -> str:
    path = str(folder / "some.npz")
    np.savez(path, **arrays)
    return path


def _refused(read, path, **options) -> str:
    with pytest.raises(errors.CheckpointError) as refused:
        read(path, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_unnamed_order_of_a_hub_model_is_understood(tmp_path):
    root = hybrid_samples.root(units=_UNITS)
    path = _published(tmp_path / "hybrid", hybrid_samples.arrays(root))
    _assert_same(hub.from_hub(path), root)


def test_a_saved_hybrid_comes_back_and_can_be_called_alone(tmp_path):
    root = hybrid_samples.root()
    folder = hub.save(root, tmp_path / "saved")
    _assert_same(hub.from_hub(folder), root)
    images = np.random.default_rng(1).uniform(-1, 1, (2, 32, 32, 3))
    images = images.astype(np.float32)
    served = tf.saved_model.load(folder).signatures["serving_default"]
    wanted = hybrid_samples.logits(hybrid_samples.arrays(root), images, 2)
    seen = served(tf.constant(images))["output_0"]
    np.testing.assert_allclose(seen, wanted, rtol=0, atol=1e-5)


def test_a_feature_extractor_gets_a_head_of_zeros(tmp_path):
    root = hybrid_samples.root(units=(), patch_size=2)
    arrays = hybrid_samples.arrays(root)
    bare = {k: v for k, v in arrays.items() if not k.startswith("head")}
    read = hub.from_hub(_published(tmp_path / "fe", bare), num_classes=3)
    assert read.family == root.family
    assert not read.components[-1].weights["kernel"].any()


class _Shapes(saved_model_variables.Checkpoint):
    """A checkpoint of given shapes and no values."""

    def __init__(self, shapes):
        self.path = "shapes alone"
        self.names = self._names(shapes)


@pytest.mark.parametrize("has_head", [False, True])
@pytest.mark.parametrize(
    "name", ["S/16", "B/8", "B/16", "B/32", "L/16", "R26+S/32", "R50+L/32"]
)
def test_the_16_published_hub_models_are_told_by_their_shapes(name, has_head):
    variant = variants.variant(name)
    family = hybrid.family_of(variant, variant.num_layers)
    hparams = {"num_layers": variant.num_layers, "ds_image_size": 224}
    layout = family.layout(hparams, 1000)
    layout = layout if has_head else layout[:-1]
    names = augreg_names.file_names(
        layout, {"/MultiHeadDotProductAttention_0/"}
    )
    shapes = {
        names[spec.name, weight]: shape
        for spec in layout
        for weight, shape in spec.weights
    }
    order = sorted(shapes, key=lambda n: n.split("/"))
    assert _Shapes([shapes[n] for n in order]).names == order


def _with_wide_norms(arrays):
    return {
        k: v[None, None, None] if "gn" in k.split("/")[-2:][0] else v
        for k, v in arrays.items()
    }


@pytest.mark.parametrize("changed", [dict, _with_wide_norms])
def test_an_npz_gives_every_weight_its_own_values(tmp_path, changed):
    root = hybrid_samples.root(units=_UNITS)
    arrays = changed(hybrid_samples.arrays(root))
    wide = arrays["block1/unit10/gn1/scale"].ndim == 4
    assert wide == (changed is _with_wide_norms)
    _assert_same(npz.from_npz(_saved(tmp_path, arrays)), root)


def test_first_layers_and_another_image_size(tmp_path):
    path = _saved(tmp_path, hybrid_samples.arrays(hybrid_samples.root()))
    root = npz.from_npz(path, num_layers=1, image_size=48, num_classes=2)
    assert root.hparams == {"num_layers": 1, "ds_image_size": 48}
    x = np.zeros((1, 48, 48, 3), np.float32)
    for component in root.components:
        x = base.from_component(component)(x)
    assert x.shape == (1, 2)


def test_settings_name_a_hybrid(tmp_path):
    path = _saved(tmp_path, hybrid_samples.arrays(hybrid_samples.root()))
    settings = settings_lib.RootSettings(
        source="npz", path=path, variant="", num_layers=1, image_size=16
    )
    assert build.build(settings).family == hybrid_samples.family(
        num_layers_max=1
    )
    said = _refused(npz.from_npz, path, variant="R26+S/32")
    assert "does not fit" in said
    with pytest.raises(vit_loader.MismatchError) as refused:
        npz.from_npz(path, variant="mu")
    said = [str(difference) for difference in refused.value.differences]
    name = "block1/unit1/conv1/kernel"
    assert f"{name!r}: expected nothing, found float32 [1, 1, 32, 32]" in said


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in sorted(hybrid_samples.arrays(hybrid_samples.root()))
        if not n.startswith("Transformer")
    ],
)
def test_any_missing_or_misshapen_array_is_refused(tmp_path, name):
    arrays = hybrid_samples.arrays(hybrid_samples.root())
    value = arrays.pop(name)
    if not name.startswith("head"):
        assert name in _refused(npz.from_npz, _saved(tmp_path, arrays))
    arrays[name] = np.concatenate([value, value], axis=-1)
    _refused(npz.from_npz, _saved(tmp_path, arrays))
    arrays[name] = value[None]
    _refused(npz.from_npz, _saved(tmp_path, arrays))


def test_a_stem_without_whole_groups_is_the_checkpoint_s_fault(tmp_path):
    arrays = hybrid_samples.arrays(hybrid_samples.root())
    arrays["conv_root/kernel"] = np.zeros((7, 7, 3, 48), np.float32)
    said = _refused(npz.from_npz, _saved(tmp_path, arrays))
    assert "a multiple of 32 features" in said


def test_parts_of_a_hybrid_are_refused_as_a_hub_model(tmp_path):
    arrays = hybrid_samples.arrays(hybrid_samples.root())
    for number, gone in enumerate(("gn_root", "block1/unit1/conv_proj", "cls")):
        part = {k: v for k, v in arrays.items() if not k.startswith(gone)}
        said = _refused(hub.from_hub, _published(tmp_path / str(number), part))
        assert "another model family" in said


@pytest.mark.slow
def test_a_hybrid_evolves_forgets_nothing_and_is_served(tmp_path):
    root = hybrid_samples.root(noise=0.05)
    settings = system_samples.settings(
        ranges={
            "num_layers": [0, 1, 2],
            "adapter_dim": [4, 8],
            "ds_image_size": [32],
        },
        search={"mutate_adapters": True, "mutation_prob": 0.5},
        hparams={"opt_lr": 0.05, "ds_crop": False, "adapter_dim": 4},
        num_task_iters=1,
    )
    system = system_lib.System.create(tmp_path / "system", settings, root)
    first, second = settings.task_names
    system.evolve(first)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    x = (images / 127.5 - 1.0).astype(np.float32)
    before = np.asarray(system.model(first)(x))
    system.evolve(second)
    opened = system_lib.System.open(tmp_path / "system")
    np.testing.assert_array_equal(opened.model(first)(x), before)
    changed = set()
    for state in opened.tasks.values():
        for component in state.published.components:
            own = opened.root.component(component.name)
            if own is not None and own.id != component.id:
                changed.add(component.name)
    assert "head" in changed
    # A generation of six children clones some unit of the ResNet.
    assert any(name.startswith(("block", "resnet_root")) for name in changed)
    served = tf.saved_model.load(opened.export(tmp_path / "served"))
    seen = served.signatures["predict_" + first](images=tf.constant(images))
    np.testing.assert_allclose(seen["logits"], before, rtol=0, atol=1e-4)
