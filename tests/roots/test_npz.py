"""Roots from AugReg files: strict, and safe with damaged ones."""

from __future__ import annotations

import io
import re
import tracemalloc
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.data import npz_reader
from keras_munet.models.vit import base
from keras_munet.models.vit import layers as _layers  # noqa: F401  registers
from keras_munet.roots import augreg_catalogue
from keras_munet.roots import augreg_names
from keras_munet.roots import build
from keras_munet.roots import npz
from keras_munet.roots import root as root_lib
from keras_munet.roots import vit_loader

_REAL = "weights/Ti_16-augreg-in21k-ft-in1k-224.npz"
_ATTENTION = "MultiHeadDotProductAttention"
_RENAMED = {
    f"{_ATTENTION}_1": f"{_ATTENTION}_0",
    "LayerNorm_2": "LayerNorm_1",
    "MlpBlock_3": "MlpBlock_0",
}


def _root() -> root_lib.Root:
    root = root_lib.random("mu", image_size=32, num_classes=5, seed=1)
    # A head of zeros would hide that its columns were mixed up.
    root.components[-1].weights["kernel"][...] = np.arange(5)
    return root


def _arrays() -> dict[str, np.ndarray]:
    root = _root()
    names = augreg_names.file_names(tuple(c.spec for c in root.components), ())
    return {
        names[c.spec.name, weight]: value
        for c in root.components
        for weight, value in c.weights.items()
    }


def _saved(folder, arrays, **kwargs) -> str:
    path = str(folder / "some.npz")
    np.savez(path, **arrays, **kwargs)
    return path


def _refused(path, **options) -> str:
    with pytest.raises(errors.CheckpointError) as refused:
        npz.from_npz(path, **options)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 2000
    return str(refused.value)


def _newer(arrays):
    def renamed(name: str) -> str:
        for old, new in _RENAMED.items():
            name = name.replace(f"/{old}/", f"/{new}/")
        return name

    return {renamed(name): value for name, value in arrays.items()}


@pytest.mark.parametrize("variant", [None, "mu/8"])
@pytest.mark.parametrize("spelling", [dict, _newer])
def test_both_spellings_give_every_weight_its_own_values(
    tmp_path, spelling, variant
):
    path = _saved(tmp_path, spelling(_arrays()))
    read, wanted = npz.from_npz(path, variant=variant), _root()
    assert read.family == wanted.family
    assert read.hparams == wanted.hparams
    for one, two in zip(read.components, wanted.components, strict=True):
        assert one.spec == two.spec
        for name, value in two.weights.items():
            np.testing.assert_array_equal(one.weights[name], value)


def test_packed_and_fortran_ordered_files_are_read_alike(tmp_path):
    path = str(tmp_path / "packed.npz")
    arrays = {k: np.asfortranarray(v) for k, v in _arrays().items()}
    np.savez_compressed(path, **arrays)
    read = npz.from_npz(path)
    for one, two in zip(read.components, _root().components, strict=True):
        for name, value in two.weights.items():
            np.testing.assert_array_equal(one.weights[name], value)


def test_first_layers_first_classes_and_another_image_size(tmp_path):
    path = _saved(tmp_path, _arrays())
    root = npz.from_npz(
        path, num_layers=1, num_layers_max=3, image_size=16, num_classes=2
    )
    names = [c.spec.name for c in root.components]
    assert names.count("encoderblock_0") == 1
    assert "encoderblock_1" not in names
    assert root.components[2].weights["pos_embedding"].shape == (1, 5, 64)
    head = root.components[-1]
    np.testing.assert_array_equal(head.weights["kernel"][0], [0.0, 1.0])
    assert head.spec.num_params == 65 * 2
    assert root.family.num_layers_max == 3
    assert root.hparams == {"num_layers": 1, "ds_image_size": 16}


@pytest.mark.parametrize(
    "options",
    [
        {"num_layers": 5},
        {"num_layers": -1},
        {"num_classes": 6},
        {"num_classes": 0},
        {"image_size": 20},
        {"variant": "XL"},
    ],
)
def test_more_than_the_checkpoint_has_is_the_caller_s_mistake(
    tmp_path, options
):
    path = _saved(tmp_path, _arrays())
    with pytest.raises(errors.UsageError):
        npz.from_npz(path, **options)


def test_the_real_checkpoint_has_the_published_sizes(shared_dir):
    whole = npz.from_npz(shared_dir / _REAL)
    assert whole.num_params == 5_717_416
    settings = {
        "source": "npz",
        "path": str(shared_dir / _REAL),
        "variant": "Ti/16",
        "num_layers": 3,
        "image_size": 32,
    }
    root = build.build(settings_lib.RootSettings(**settings))
    assert root.num_params == 1_484_162


def test_every_difference_is_named_in_one_sorted_line(tmp_path):
    arrays = _arrays()
    arrays["a_stranger"] = np.zeros(2, np.float32)
    arrays["head/odd"] = np.zeros(2, np.float32)
    arrays["embedding/bias"] = arrays["embedding/bias"].astype(np.float64)
    arrays["head/bias"] = np.zeros(4, np.float32)
    said = _refused(_saved(tmp_path, arrays))
    parts = [
        "'a_stranger': expected nothing, found float32 [2]",
        "'embedding/bias': expected float32 [64], found float64 [64]",
        "'head/bias': expected float32 [5], found float32 [4]",
        "'head/odd': expected nothing",
    ]
    places = [said.index(part) for part in parts]
    assert places == sorted(places)


def test_a_long_list_of_differences_ends_in_a_count(tmp_path):
    arrays = {k: v for k, v in _arrays().items() if "encoderblock_2" not in k}
    path = _saved(tmp_path, arrays)
    said = _refused(path, variant="mu")
    assert said.count("found nothing") == 6
    assert "and 10 more" in said
    with pytest.raises(vit_loader.MismatchError) as refused:
        npz.from_npz(path, variant="mu")
    assert len(refused.value.differences) == 16


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(tmp_path, value):
    arrays = _arrays()
    arrays["cls"][0, 0, 3] = value
    said = _refused(_saved(tmp_path, arrays))
    assert "'cls': expected finite values, found 1 that are not" in said


@pytest.mark.parametrize("name", sorted(_arrays()))
def test_any_missing_or_misshapen_array_is_refused(tmp_path, name):
    arrays = _arrays()
    value = arrays.pop(name)
    assert name.split("/")[-1] in _refused(_saved(tmp_path, arrays))
    arrays[name] = np.concatenate([value, value], axis=-1)
    _refused(_saved(tmp_path, arrays), variant="mu")
    arrays[name] = value[None]
    _refused(_saved(tmp_path, arrays))


def test_swapped_names_are_listed_side_by_side(tmp_path):
    arrays = _arrays()
    one, two = "cls", "Transformer/encoder_norm/scale"
    arrays[one], arrays[two] = arrays[two], arrays[one]
    _refused(_saved(tmp_path, arrays))
    arrays = _arrays()
    one, two = (
        f"Transformer/encoderblock_2/MlpBlock_3/Dense_{i}/kernel"
        for i in (0, 1)
    )
    arrays[one], arrays[two] = arrays[two], arrays[one]
    said = _refused(_saved(tmp_path, arrays))
    assert (
        f"{one!r}: expected float32 [64, 128], found float32 [128, 64]" in said
    )
    assert (
        f"{two!r}: expected float32 [128, 64], found float32 [64, 128]" in said
    )


def test_mixed_spellings_are_refused(tmp_path):
    arrays = _arrays()
    newer = _newer(arrays)
    mixed = {
        **{k: v for k, v in arrays.items() if "encoderblock_1" in k},
        **{k: v for k, v in newer.items() if "encoderblock_1" not in k},
    }
    said = _refused(_saved(tmp_path, mixed))
    assert "nothing" in said


def test_a_representation_layer_is_kept_before_the_head(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        **_arrays(),
        "pre_logits/kernel": rng.normal(size=(64, 24)).astype(np.float32),
        "pre_logits/bias": rng.normal(size=24).astype(np.float32),
        "head/kernel": rng.normal(size=(24, 5)).astype(np.float32),
    }
    root = npz.from_npz(_saved(tmp_path, arrays))
    assert root.family.representation_size == 24
    *trunk, layer, head = map(base.from_component, root.components)
    x = rng.uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    for part in trunk:
        x = part(x)
    hidden = np.tanh(
        np.asarray(x)[:, 0] @ arrays["pre_logits/kernel"]
        + arrays["pre_logits/bias"]
    )
    wanted = hidden @ arrays["head/kernel"] + arrays["head/bias"]
    np.testing.assert_allclose(head(layer(x)), wanted, atol=1e-5)


def _big_vision(arrays, place, prefix="", *, with_class=True):
    """The same weights as big_vision names them."""
    arrays = _newer(arrays)
    positions = arrays.pop(augreg_names.POSITIONS[0])
    if not with_class:
        # It has no class token there: what is added to it is added before.
        arrays["cls"] = arrays["cls"] + positions[:, :1]
        positions = positions[:, 1:]
    arrays[place] = positions
    return {prefix + name: value for name, value in arrays.items()}


@pytest.mark.parametrize("place", augreg_names.POSITIONS[1:])
@pytest.mark.parametrize("prefix", ["", "params/", "opt/target/"])
def test_big_vision_names_load_to_equal_bits(tmp_path, place, prefix):
    arrays = _big_vision(_arrays(), place, prefix)
    if prefix == "params/":
        arrays["opt/0/count"] = np.zeros((), np.int32)
        arrays["chrono/accum_examples"] = np.zeros((), np.float64)
    read = npz.from_npz(_saved(tmp_path, arrays), variant="mu")
    for one, two in zip(read.components, _root().components, strict=True):
        for name, value in two.weights.items():
            np.testing.assert_array_equal(one.weights[name], value)


def _outputs(root, x):
    for component in root.components:
        x = base.from_component(component)(x)
    return np.asarray(x)


def test_positions_without_a_class_token_give_equal_bits(tmp_path):
    arrays = _arrays()
    rng = np.random.default_rng(0)
    arrays["cls"] = rng.normal(size=(1, 1, 64)).astype(np.float32)
    x = rng.uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    wanted = _outputs(npz.from_npz(_saved(tmp_path, arrays)), x)
    changed = _big_vision(arrays, "pos_embedding", with_class=False)
    assert changed["pos_embedding"].shape == (1, 16, 64)
    root = npz.from_npz(_saved(tmp_path, changed))
    np.testing.assert_array_equal(_outputs(root, x), wanted)
    assert (
        npz.from_npz(_saved(tmp_path, changed), image_size=64).hparams[
            "ds_image_size"
        ]
        == 64
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MAPHead_0/probe", "pools by attention"),
        ("MixerBlock_0/LayerNorm_0/bias", "MLP-Mixer"),
        ("stem/kernel", "lacks cls"),
    ],
)
def test_relatives_are_refused_by_what_they_are(tmp_path, name, said):
    arrays = _arrays()
    del arrays["cls"]
    arrays[name] = np.zeros((1, 1, 64), np.float32)
    assert said in _refused(_saved(tmp_path, arrays))


def test_a_file_without_a_head_gets_one_of_zeros(tmp_path):
    arrays = {k: v for k, v in _arrays().items() if "head" not in k}
    root = npz.from_npz(_saved(tmp_path, arrays), num_classes=7)
    head = root.components[-1]
    assert head.weights["kernel"].shape == (64, 7)
    assert not head.weights["kernel"].any()


def test_a_file_in_a_bucket_is_read_like_a_local_one(tmp_path):
    content = (tmp_path / _saved(tmp_path, _arrays())).read_bytes()
    with tf.io.gfile.GFile("ram://bucket/some.npz", "wb") as file:
        file.write(content)
    read = npz.from_npz("ram://bucket/some.npz")
    np.testing.assert_array_equal(
        read.components[0].weights["kernel"], _arrays()["embedding/kernel"]
    )
    assert "absent" in _refused("ram://bucket/none.npz")


# The checkpoints that the ViT repository's README recommends.
_RECOMMENDED = {
    "Ti/16": "Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0",
    "S/32": "S_32-i21k-300ep-lr_0.001-aug_none-wd_0.1-do_0.0-sd_0.0",
    "S/16": "S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0",
    "B/32": "B_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0",
    "B/16": "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0",
    "L/16": "L_16-i21k-300ep-lr_0.001-aug_strong1-wd_0.1-do_0.0-sd_0.0",
    "R+Ti/16": "R_Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0",
    "R26+S/32": "R26_S_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0",
    "R50+L/32": (
        "R50_L_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1"
    ),
}
_QUERY = "augreg:name=Ti/16,ds=i21k,aug=none,wd=0.03,sd=0.0"


def test_a_query_names_the_published_file():
    for name, wanted in _RECOMMENDED.items():
        aug, wd, sd = re.search(
            r"aug_(\w+)-wd_([\d.]+)-do_[\d.]+-sd_([\d.]+)", wanted
        ).groups()
        query = f"augreg:name={name},ds=i21k,aug={aug},wd={wd},sd={sd}"
        seen = augreg_catalogue.resolve(query)
        assert seen == f"gs://vit_models/augreg/{wanted}.npz"
    assert (
        augreg_catalogue.file_name(
            name="B/16", ds="i1k", aug="strong2", wd="0.1", sd="0.1"
        )
        == "B_16-i1k-300ep-lr_0.001-aug_strong2-wd_0.1-do_0.1-sd_0.1.npz"
    )
    names = list(augreg_catalogue.file_names())
    assert len(names) == len(set(names)) == 10 * 2 * 7 * 2 * 2
    assert {f"{name}.npz" for name in _RECOMMENDED.values()} <= set(names)


def test_a_query_reads_a_folder_of_such_files(tmp_path):
    name = augreg_catalogue.resolve(_QUERY).rsplit("/", 1)[1]
    np.savez(tmp_path / name, **_arrays())
    root = npz.from_npz(f"{_QUERY},folder={tmp_path}")
    assert root.source == f"npz {name}"


def test_an_index_answers_for_its_folder(tmp_path):
    (tmp_path / "index.csv").write_text(
        "name,ds,aug,wd,sd,filename,adapt_ds,adapt_filename\n"
        "mu/8,i21k,none,0.03,0.0,one,cifar10,one_c10\n"
        "mu/8,i21k,none,0.03,0.0,one,cifar100,one_c100\n"
        "mu/8,i21k,none,0.1,0.0,two,cifar10,two_c10\n"
    )
    np.savez(tmp_path / "one.npz", **_arrays())
    query = f"augreg:folder={tmp_path},name=mu/8"
    assert npz.from_npz(f"{query},wd=0.030").source == "npz one.npz"
    found = augreg_catalogue.resolve(f"{query},wd=0.1,adapt_ds=cifar10")
    assert found.endswith("/two_c10.npz")
    with pytest.raises(errors.UsageError, match="fits 2 files"):
        augreg_catalogue.resolve(query)
    with pytest.raises(errors.UsageError, match="fits 0 files"):
        augreg_catalogue.resolve(f"{query},wd=0.5")
    (tmp_path / "index.csv").write_text("no,columns\n1,2\n")
    with pytest.raises(errors.CheckpointError, match="lacks the columns"):
        augreg_catalogue.resolve(query)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("augreg:", "has the part ''"),
        ("augreg:name", "has the part 'name'"),
        ("augreg:size=1", "has the part 'size=1'"),
        (f"{_QUERY},wd=0.1", "at most once"),
        (_QUERY.replace("none", "much"), "aug=much"),
        (_QUERY.replace(",sd=0.0", ""), "lacks sd"),
        (f"{_QUERY},adapt_ds=cifar10", "has adapt_ds"),
    ],
)
def test_a_query_that_cannot_be_is_refused(query, said):
    with pytest.raises(errors.UsageError, match=said) as refused:
        npz.from_npz(query)
    assert "\n" not in str(refused.value)


def test_another_variant_s_file_is_refused(tmp_path):
    said = _refused(_saved(tmp_path, _arrays()), variant="Ti/16")
    assert "not" in said and "variant" in said


def test_objects_are_never_unpickled(tmp_path):
    arrays = {**_arrays(), "cls": np.array([{}], object)}
    assert "cls" in _refused(_saved(tmp_path, arrays))


def test_no_file_a_folder_and_other_bytes_are_refused(tmp_path):
    assert "absent" in _refused(tmp_path / "none.npz")
    assert "folder" in _refused(tmp_path)
    (tmp_path / "text.npz").write_bytes(b"no zip at all")
    assert "no whole .npz" in _refused(tmp_path / "text.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    _refused(tmp_path / "empty.npz")
    with zipfile.ZipFile(tmp_path / "none_inside.npz", "w"):
        pass
    _refused(tmp_path / "none_inside.npz")


def _header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    return (
        b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
    )


@pytest.mark.parametrize(
    "content",
    [
        _header("(1000000000000,)"),
        _header("(99999999999999999999999999,)"),
        _header("(-1,)"),
        _header("(-2, -2)") + bytes(16),
        _header("(2,"),
        _header("'x'"),
        _header("(1.5,)"),
        _header("(2,)", "'|O'") + bytes(16),
        _header("(2,)", "[('a', '<f4')]") + bytes(8),
        _header("(2,)", "'nothing'") + bytes(8),
        _header("(2,)") + bytes(9),
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x07\x00" + bytes(20),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(20),
    ],
)
def test_a_header_that_lies_is_refused_without_memory(tmp_path, content):
    path = _saved(tmp_path, {k: v for k, v in _arrays().items() if k != "cls"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("cls.npy", content)
    tracemalloc.start()
    _refused(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(npz_reader, "NUM_BYTES_MAX", 1000)
    assert "more than 1000" in _refused(_saved(tmp_path, _arrays()))


def test_a_zip_bomb_is_refused_without_memory(tmp_path):
    # A gigabyte of zeros packs to a megabyte.
    path = _saved(tmp_path, {k: v for k, v in _arrays().items() if k != "cls"})
    num_bytes = 2**30
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as packed,
        packed.open("cls.npy", "w") as member,
    ):
        head = _header(f"({num_bytes // 4},)")
        member.write(head)
        for _ in range(num_bytes // 2**20):
            member.write(bytes(2**20))
    assert (tmp_path / path).stat().st_size < 4 * 2**20
    tracemalloc.start()
    _refused(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_an_array_held_twice_is_refused(tmp_path):
    path = _saved(tmp_path, _arrays())
    stream = io.BytesIO()
    np.save(stream, np.zeros((1, 1, 64), np.float32))
    with (
        pytest.warns(UserWarning, match="Duplicate"),
        zipfile.ZipFile(path, "a") as archive,
    ):
        archive.writestr("cls.npy", stream.getvalue())
    assert "twice" in _refused(path)


def test_files_cut_short_anywhere_are_refused(tmp_path):
    content = (tmp_path / _saved(tmp_path, _arrays())).read_bytes()
    path = tmp_path / "short.npz"
    for share in np.linspace(0.0, 0.999, 40):
        path.write_bytes(content[: int(len(content) * share)])
        _refused(path)


def test_changed_bytes_are_refused_or_change_nothing(tmp_path):
    content = (tmp_path / _saved(tmp_path, _arrays())).read_bytes()
    path = tmp_path / "changed.npz"
    rng = np.random.default_rng(0)
    wanted = _arrays()["cls"]
    for _ in range(60):
        changed = bytearray(content)
        # The end is the zip's directory, where damage does most.
        low = 0 if rng.random() < 0.5 else len(content) - 8000
        for place in rng.integers(low, len(content), 3):
            changed[place] = rng.integers(256)
        path.write_bytes(bytes(changed))
        try:
            root = npz.from_npz(path)
        except errors.CheckpointError as refused:
            assert "\n" not in str(refused)
        else:
            np.testing.assert_array_equal(
                root.components[1].weights["token"], wanted
            )
