"""Roots from hub SavedModels: the unnamed order, and damaged folders."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.roots import augreg_names
from keras_munet.roots import build
from keras_munet.roots import hub
from keras_munet.roots import npz
from keras_munet.roots import root as root_lib
from keras_munet.roots import saved_model_variables

_REAL = "weights/Ti_16-augreg-in21k-ft-in1k-224.npz"
_SUPPORTED = "sayakpaul/vit_"


def _root(num_layers: int = 11) -> root_lib.Root:
    """A root in which no two weights are alike."""
    root = root_lib.random("mu", num_layers=num_layers, num_classes=5)
    rng = np.random.default_rng(0)
    for component in root.components:
        for value in component.weights.values():
            value[...] = rng.normal(size=value.shape)
    return root


class _Published(tf.train.Checkpoint):
    """The object that the published SavedModels were saved from.

    Its variables are a flattened Flax tree: a nested dict, sorted by key at
    every level (Reusable SavedModel interface of TensorFlow Hub).
    """

    def __init__(self, tree):
        super().__init__()
        variables = tf.nest.map_structure(tf.Variable, tree)
        self.variables = tf.nest.flatten(variables)
        self.trainable_variables = []
        self.regularization_losses = []
        self.__call__ = tf.function(
            lambda inputs: inputs, [tf.TensorSpec([1, 4])], autograph=False
        )


def _tree(arrays):
    tree: dict = {}
    for name, value in arrays.items():
        *path, last = name.split("/")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


def _arrays(root: root_lib.Root) -> dict[str, np.ndarray]:
    layout = tuple(c.spec for c in root.components)
    names = augreg_names.file_names(
        layout, {"/MultiHeadDotProductAttention_0/"}
    )
    return {
        names[c.spec.name, weight]: value
        for c in root.components
        for weight, value in c.weights.items()
    }


def _published(folder, arrays) -> str:
    tf.saved_model.save(_Published(_tree(arrays)), str(folder))
    return str(folder)


def _assert_same(one: root_lib.Root, two: root_lib.Root) -> None:
    assert one.family == two.family
    assert one.hparams == two.hparams
    for a, b in zip(one.components, two.components, strict=True):
        assert a.spec == b.spec
        for name, value in a.weights.items():
            np.testing.assert_array_equal(value, b.weights[name])


def _refused(folder, **options) -> str:
    with pytest.raises(errors.CheckpointError) as refused:
        hub.from_hub(folder, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("hub") / "mu"
    hub.save(_root(2), folder)
    return folder


def test_the_unnamed_order_puts_block_10_before_block_2(tmp_path):
    root = _root(11)
    path = _published(tmp_path / "vit", _arrays(root))
    _assert_same(hub.from_hub(path), root)
    order = augreg_names.unnamed(11, has_head=True, has_pre_logits=False)
    names = [n for n in order if n.endswith("Dense_0/bias")]
    places = [n.split("_", 1)[1].split("/")[0] for n in names]
    assert places == ["0", "1", "10", *"23456789"]


def test_what_is_saved_has_the_published_layout_and_comes_back(tmp_path):
    root = _root(11)
    hub.save(root, tmp_path / "saved")
    _published(tmp_path / "published", _arrays(root))
    read = [
        tf.train.load_checkpoint(str(tmp_path / n / "variables/variables"))
        for n in ("saved", "published")
    ]
    one, two = (r.get_variable_to_shape_map() for r in read)
    assert one == two
    for key in one:
        if key.startswith("variables/"):
            values = [r.get_tensor(key) for r in read]
            np.testing.assert_array_equal(*values)
    _assert_same(hub.from_hub(tmp_path / "saved"), root)


@pytest.mark.parametrize("name", ["[1-3]", "a*b", "c?", "d\\e"])
def test_a_folder_whose_name_could_be_a_pattern_is_read(name, tmp_path):
    root = _root(2)
    hub.save(root, tmp_path / name)
    read = hub.from_hub(str(tmp_path / name), image_size=32)
    assert [c.weights.keys() for c in read.components] == [
        c.weights.keys() for c in root.components
    ]


def test_a_feature_extractor_gets_a_head_of_zeros(tmp_path):
    arrays = {
        k: v for k, v in _arrays(_root(2)).items() if not k.startswith("head")
    }
    root = hub.from_hub(_published(tmp_path / "vit_fe", arrays))
    assert root.components[-1].spec.num_params == 65 * root_lib.NUM_CLASSES
    assert not root.components[-1].weights["kernel"].any()
    _assert_same(
        root_lib.Root(root.family, root.components[:-1], root.hparams, ""),
        root_lib.Root(root.family, _root(2).components[:-1], root.hparams, ""),
    )


def test_a_representation_layer_has_its_place(tmp_path):
    arrays = _arrays(_root(1))
    arrays["pre_logits/kernel"] = np.ones((64, 24), np.float32)
    arrays["pre_logits/bias"] = np.ones(24, np.float32)
    arrays["head/kernel"] = np.ones((24, 5), np.float32)
    root = hub.from_hub(_published(tmp_path / "vit", arrays))
    assert root.family.representation_size == 24
    hub.save(root, tmp_path / "again")
    _assert_same(hub.from_hub(tmp_path / "again"), root)


def test_the_real_weights_load_to_equal_bits_from_every_source(
    shared_dir, tmp_path
):
    path = shared_dir / _REAL
    whole = npz.from_npz(path)
    folder = _published(tmp_path / "vit", _arrays(whole))
    _assert_same(hub.from_hub(folder, variant="Ti/16"), whole)
    arrays = _arrays(whole)
    arrays["pos_embedding"] = arrays.pop(augreg_names.POSITIONS[0])
    np.savez(tmp_path / "big_vision.npz", **arrays)
    _assert_same(npz.from_npz(tmp_path / "big_vision.npz"), whole)


def test_settings_name_a_hub_folder(saved):
    settings = settings_lib.RootSettings(
        source="hub", path=str(saved), variant="", num_layers=1, image_size=16
    )
    root = build.build(settings)
    assert root.hparams == {"num_layers": 1, "ds_image_size": 16}
    assert root.source == "hub mu"
    assert "does not fit" in _refused(saved, variant="Ti/16")


def test_a_bucket_is_read_like_a_folder(saved):
    for path in saved.rglob("*"):
        if path.is_file():
            target = f"ram://bucket/mu/{path.relative_to(saved)}"
            with tf.io.gfile.GFile(target, "wb") as file:
                file.write(path.read_bytes())
    _assert_same(hub.from_hub("ram://bucket/mu"), _root(2))


def test_other_families_are_refused_with_what_was_found(tmp_path):
    module = tf.Module()
    module.kernel = tf.Variable(tf.zeros([3]))
    tf.saved_model.save(module, str(tmp_path / "named"))
    said = _refused(tmp_path / "named")
    assert "kernel" in said and _SUPPORTED in said
    arrays = _arrays(_root(1))
    arrays["stem/kernel"] = np.zeros((3, 3, 3, 8), np.float32)
    said = _refused(_published(tmp_path / "more", arrays))
    assert "1 encoder blocks and 7 more" in said and _SUPPORTED in said
    cnn = {f"conv{i}/kernel": np.zeros((3, 3, 8, 8), "f4") for i in range(4)}
    said = _refused(_published(tmp_path / "cnn", cnn))
    assert "4 variables, no encoder blocks" in said


def test_wrong_shapes_and_values_are_listed(tmp_path):
    arrays = _arrays(_root(1))
    name = "Transformer/encoderblock_0/MlpBlock_0/Dense_1/kernel"
    arrays[name] = np.zeros((128, 32), np.float32)
    said = _refused(_published(tmp_path / "a", arrays))
    assert f"'{name}': expected float32 [128, 64], found float32" in said
    arrays = _arrays(_root(1))
    arrays["cls"][0, 0, 0] = np.nan
    said = _refused(_published(tmp_path / "b", arrays))
    assert "'cls': expected finite values" in said


def test_files_for_folders_and_the_reverse_are_refused(tmp_path, saved):
    assert "absent" in _refused(tmp_path / "none")
    assert "variables.index" in _refused(tmp_path)
    assert "is a file" in _refused(saved / "saved_model.pb")


def test_a_handle_that_cannot_be_fetched_is_refused_in_one_line(monkeypatch):
    tensorflow_hub = pytest.importorskip("tensorflow_hub")
    asked = []

    def resolve(handle):
        asked.append(handle)
        raise OSError("no network\nat all")

    monkeypatch.setattr(tensorflow_hub, "resolve", resolve)
    assert "no network" in _refused("sayakpaul/vit_s16_fe/1")
    assert asked == ["https://tfhub.dev/sayakpaul/vit_s16_fe/1"]


@pytest.mark.parametrize(
    "handle",
    [
        "https://tfhub.dev/some/vit/1",
        "https://www.kaggle.com/models/some/vit/tensorFlow2/vit-fe/1",
    ],
)
def test_a_fetched_model_is_read_from_where_it_was_put(
    monkeypatch, saved, handle
):
    tensorflow_hub = pytest.importorskip("tensorflow_hub")
    folders = {handle: str(saved)}
    monkeypatch.setattr(tensorflow_hub, "resolve", folders.__getitem__)
    root = hub.from_hub(handle)
    _assert_same(root, _root(2))
    assert root.source == f"hub {handle}"


def test_damaged_files_are_refused_or_change_nothing(tmp_path, saved):
    wanted = _root(2)
    rng = np.random.default_rng(0)
    folder = tmp_path / "damaged"
    for number in range(60):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(saved, folder)
        kind = "index" if number % 3 else "data-00000-of-00001"
        path = folder / "variables" / f"variables.{kind}"
        content = bytearray(path.read_bytes())
        if number % 2:
            content = content[: int(len(content) * rng.random())]
        else:
            for place in rng.integers(0, len(content), 3):
                content[place] = rng.integers(256)
        path.write_bytes(bytes(content))
        try:
            root = hub.from_hub(folder)
        except errors.CheckpointError as refused:
            assert "\n" not in str(refused)
        else:
            _assert_same(root, wanted)


def test_an_index_that_promises_more_than_there_is_takes_no_memory(
    tmp_path, saved, monkeypatch
):
    folder = shutil.copytree(saved, tmp_path / "short")
    data = folder / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    assert "its index tells of" in _refused(folder)
    monkeypatch.setattr(saved_model_variables, "NUM_BYTES_MAX", 1000)
    assert "1000 are read at most" in _refused(saved)
    monkeypatch.setattr(saved_model_variables, "NUM_INDEX_BYTES_MAX", 10)
    assert "index of more than 10" in _refused(saved)


def test_only_published_vits_have_a_hub_layout(tmp_path):
    root = root_lib.random("mu", num_layers=1)
    exact = dataclasses.replace(
        root, family=dataclasses.replace(root.family, exact_gelu=True)
    )
    with pytest.raises(errors.UsageError, match="no hub layout"):
        hub.save(exact, tmp_path / "exact")
