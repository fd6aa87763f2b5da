"""Roots from folders of ViTs as transformers and timm keep them."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors import numpy as safetensors

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.data import safetensors_reader
from keras_munet.models import layer_factory
from keras_munet.roots import build
from keras_munet.roots import hugging_face

_WIDTH, _HEADS, _MLP, _PATCH, _SIDE, _DEPTH = 192, 3, 16, 4, 8, 2
_CLASSES = 5
_HF = {
    "model_type": "vit",
    "hidden_act": "gelu",
    "num_attention_heads": _HEADS,
    "layer_norm_eps": 1e-12,
}
_TIMM = {"architecture": "vit_tiny_patch4_8", "num_classes": _CLASSES}
_NAMES = {
    "hf": {
        "token": "vit.embeddings.cls_token",
        "positions": "vit.embeddings.position_embeddings",
        "patches": "vit.embeddings.patch_embeddings.projection",
        "block": "vit.encoder.layer.",
        "norm_0": "layernorm_before",
        "out": "attention.output.dense",
        "norm_1": "layernorm_after",
        "mlp_0": "intermediate.dense",
        "mlp_1": "output.dense",
        "norm": "vit.layernorm",
        "head": "classifier",
    },
    "timm": {
        "token": "cls_token",
        "positions": "pos_embed",
        "patches": "patch_embed.proj",
        "block": "blocks.",
        "norm_0": "norm1",
        "out": "attn.proj",
        "norm_1": "norm2",
        "mlp_0": "mlp.fc1",
        "mlp_1": "mlp.fc2",
        "norm": "norm",
        "head": "head",
    },
}


def _arrays(kind, seed=0):
    """Random weights of a ViT, in the names of `kind`."""
    rng = np.random.default_rng(seed)
    n = _NAMES[kind]

    def draw(*shape):
        return (0.2 * rng.normal(size=shape)).astype(np.float32)

    arrays = {
        n["token"]: draw(1, 1, _WIDTH),
        n["positions"]: draw(1, (_SIDE // _PATCH) ** 2 + 1, _WIDTH),
        f"{n['patches']}.weight": draw(_WIDTH, 3, _PATCH, _PATCH),
        f"{n['patches']}.bias": draw(_WIDTH),
    }

    def dense(name, rows, columns):
        arrays[f"{name}.weight"] = draw(rows, columns) / 4
        arrays[f"{name}.bias"] = draw(rows)

    def normed(name):
        arrays[f"{name}.weight"] = 1 + draw(_WIDTH)
        arrays[f"{name}.bias"] = draw(_WIDTH)

    for i in range(_DEPTH):
        stem = f"{n['block']}{i}."
        normed(stem + n["norm_0"])
        if kind == "hf":
            for which in ("query", "key", "value"):
                dense(f"{stem}attention.attention.{which}", _WIDTH, _WIDTH)
        else:
            dense(f"{stem}attn.qkv", 3 * _WIDTH, _WIDTH)
        dense(stem + n["out"], _WIDTH, _WIDTH)
        normed(stem + n["norm_1"])
        dense(stem + n["mlp_0"], _MLP, _WIDTH)
        dense(stem + n["mlp_1"], _WIDTH, _MLP)
    normed(n["norm"])
    dense(n["head"], _CLASSES, _WIDTH)
    return arrays


def _reference(kind, arrays, pixels, mean, std, epsilon):
    """Returns the logits of `[n, side, side, 3]` pixels in [0, 1], float64."""
    a = {name: value.astype(np.float64) for name, value in arrays.items()}
    n = _NAMES[kind]

    def dense(x, name):
        return x @ a[f"{name}.weight"].T + a[f"{name}.bias"]

    def normed(x, name):
        centered = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt((centered**2).mean(-1, keepdims=True) + epsilon)
        return centered / deviation * a[f"{name}.weight"] + a[f"{name}.bias"]

    def heads(x):
        return x.reshape(*x.shape[:2], _HEADS, -1).transpose(0, 2, 1, 3)

    grid = _SIDE // _PATCH
    x = (np.asarray(pixels, np.float64) - mean) / std
    x = x.reshape(-1, grid, _PATCH, grid, _PATCH, 3)
    x = np.einsum("ngihjc,ocij->ngho", x, a[f"{n['patches']}.weight"])
    x = x.reshape(len(x), grid**2, _WIDTH) + a[f"{n['patches']}.bias"]
    first = np.broadcast_to(a[n["token"]], (len(x), 1, _WIDTH))
    x = np.concatenate([first, x], 1) + a[n["positions"]]
    for i in range(_DEPTH):
        stem = f"{n['block']}{i}."
        y = normed(x, stem + n["norm_0"])
        if kind == "hf":
            attention = f"{stem}attention.attention."
            parts = [dense(y, attention + k) for k in ("query", "key", "value")]
        else:
            parts = np.split(dense(y, f"{stem}attn.qkv"), 3, axis=-1)
        query, key, value = map(heads, parts)
        scores = query @ key.swapaxes(2, 3) / math.sqrt(query.shape[-1])
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        y = scores / scores.sum(-1, keepdims=True) @ value
        x = x + dense(y.swapaxes(1, 2).reshape(x.shape), stem + n["out"])
        y = dense(normed(x, stem + n["norm_1"]), stem + n["mlp_0"])
        y = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
        x = x + dense(y, stem + n["mlp_1"])
    return dense(normed(x, n["norm"])[:, 0], n["head"])


def _folder(path, kind, arrays=None, **changes):
    arrays = arrays if arrays is not None else _arrays(kind)
    config = {**(_HF if kind == "hf" else _TIMM), **changes}
    (path / "config.json").write_text(json.dumps(config))
    safetensors.save_file(arrays, path / "model.safetensors")
    return arrays


def _logits(root, pixels):
    """Returns the root's answers to pixels in [0, 1]."""
    x = pixels * 2 - 1
    for component in root.components:
        layer = layer_factory.make_layer(component.spec, component.spec.name)
        layer.build()
        layer_factory.assign_values(layer, component.spec, component.weights)
        x = layer(x)
    return np.asarray(x)


@pytest.fixture
def pixels():
    rng = np.random.default_rng(1)
    return rng.random((3, _SIDE, _SIDE, 3)).astype(np.float32)


@pytest.mark.parametrize("kind", ["hf", "timm"])
@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ([0.5] * 3, [0.5] * 3),
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ([0.0] * 3, [1.0] * 3),
    ],
)
def test_a_root_has_the_answers_of_the_model(kind, mean, std, pixels, tmp_path):
    changes = {}
    if kind == "timm":
        changes["pretrained_cfg"] = {"mean": mean, "std": std}
    arrays = _folder(tmp_path, kind, **changes)
    if kind == "hf":
        (tmp_path / "preprocessor_config.json").write_text(
            json.dumps({"image_mean": mean, "image_std": std})
        )
    root = build.build(
        settings_lib.RootSettings(source=f"hf:{tmp_path}", image_size=_SIDE),
        num_classes=_CLASSES,
    )
    assert root.source == f"hf {tmp_path.name}"
    epsilon = 1e-12 if kind == "hf" else 1e-6
    wanted = _reference(kind, arrays, pixels, mean, std, epsilon)
    assert np.ptp(wanted) > 0.1
    np.testing.assert_allclose(_logits(root, pixels), wanted, atol=2e-4)


_ANSWER = """
import sys
import numpy as np
import torch
import transformers

folder, sizes = sys.argv[1], dict(zip(sys.argv[2::2], map(int, sys.argv[3::2])))
torch.manual_seed(0)
model = transformers.ViTForImageClassification(
    transformers.ViTConfig(**sizes)
).eval()
model.save_pretrained(folder)
images = torch.from_numpy(np.load(folder + "/images.npy"))
with torch.no_grad():
    np.save(folder + "/logits.npy", model(pixel_values=images).logits.numpy())
"""


@pytest.mark.slow
def test_answers_are_those_of_transformers(pixels, tmp_path):
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    sizes = {
        "hidden_size": _WIDTH,
        "num_hidden_layers": _DEPTH,
        "num_attention_heads": _HEADS,
        "intermediate_size": _MLP,
        "image_size": _SIDE,
        "patch_size": _PATCH,
        "num_labels": _CLASSES,
    }
    np.save(tmp_path / "images.npy", pixels.transpose(0, 3, 1, 2) * 2 - 1)
    # Beside TensorFlow in one process, importing it may end the process.
    arguments = [str(word) for item in sizes.items() for word in item]
    subprocess.run(
        [sys.executable, "-c", _ANSWER, str(tmp_path), *arguments], check=True
    )
    root = hugging_face.from_folder(tmp_path)
    wanted = np.load(tmp_path / "logits.npy")
    np.testing.assert_allclose(_logits(root, pixels), wanted, atol=1e-5)


def test_half_precision_and_a_missing_head_are_read(tmp_path):
    headless = {
        name.removeprefix("vit."): value.astype(np.float16)
        for name, value in _arrays("hf").items()
        if not name.startswith("classifier")
    }
    headless["pooler.dense.weight"] = np.zeros((_WIDTH, _WIDTH), np.float16)
    _folder(tmp_path, "hf", headless)
    root = hugging_face.from_folder(tmp_path, num_classes=3, num_layers=1)
    assert root.hparams == {"num_layers": 1, "ds_image_size": _SIDE}
    (norm,) = (c for c in root.components if c.spec.name == "encoder_norm")
    np.testing.assert_array_equal(
        norm.weights["scale"], headless["layernorm.weight"].astype(np.float32)
    )
    assert not root.components[-1].weights["kernel"].any()


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("hf", {"model_type": "bert"}, "model_type 'bert'"),
        ("hf", {"model_type": None}, "model_type None"),
        ("hf", {"hidden_act": "gelu_new"}, "hidden_act 'gelu_new'"),
        ("hf", {"qkv_bias": False}, "qkv_bias False"),
        ("hf", {"num_attention_heads": 5}, "query/kernel"),
        ("hf", {"num_attention_heads": 0}, "no numbers above 0"),
        ("hf", {"layer_norm_eps": "x"}, "no numbers above 0"),
        ("timm", {"architecture": "resnet50"}, "architecture 'resnet50'"),
        ("timm", {"global_pool": "avg"}, "global_pool 'avg'"),
        ("timm", {"pretrained_cfg": []}, "pretrained_cfg"),
        ("timm", {"model_args": "x"}, "model_args"),
        ("timm", {"pretrained_cfg": {"std": [0, 1, 1]}}, "std.*three numbers"),
        ("timm", {"pretrained_cfg": {"mean": "x"}}, "mean.*three numbers"),
        ("timm", {"pretrained_cfg": {"mean": [0, 1]}}, "mean.*three numbers"),
    ],
)
def test_another_model_is_refused(kind, changes, words, tmp_path):
    _folder(tmp_path, kind, **changes)
    with pytest.raises(errors.CheckpointError, match=words) as caught:
        hugging_face.from_folder(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.pop("norm.bias"),
        lambda arrays: arrays.update({"dist_token": np.zeros(3, np.float32)}),
        lambda arrays: arrays.update({"norm.bias": np.zeros(3, np.float32)}),
        lambda arrays: arrays.update(
            {"blocks.0.attn.qkv.bias": np.zeros(3 * _WIDTH + 1, np.float32)}
        ),
        lambda arrays: arrays["norm.bias"].fill(np.nan),
    ],
)
def test_loading_is_strict_both_ways(change, tmp_path):
    arrays = _arrays("timm")
    change(arrays)
    _folder(tmp_path, "timm", arrays)
    with pytest.raises(errors.CheckpointError, match="does not fit the ViT"):
        hugging_face.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", None, "cannot be read"),
        ("model.safetensors", None, "cannot be read"),
        ("config.json", b"[]", "no JSON object"),
        ("config.json", b"{", "no JSON object"),
        ("model.safetensors", b"", "a header of 0 bytes"),
        ("model.safetensors", b"\xff" * 40, "states a header"),
        ("model.safetensors", b"\x02" + bytes(7) + b"[]", "named arrays"),
        ("model.safetensors", b"\x03" + bytes(7) + b"{x}", "no JSON header"),
    ],
)
def test_a_damaged_folder_is_refused(file, content, words, tmp_path):
    _folder(tmp_path, "hf")
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(errors.CheckpointError, match=words):
        hugging_face.from_folder(tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 12]},
        {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [0, -16]},
        {"dtype": "F32", "shape": [4.0], "data_offsets": [0, 16]},
        {"dtype": "I8", "shape": [4], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [4]},
        {"dtype": ["F32"], "shape": [4], "data_offsets": [0, 16]},
        [],
    ],
)
def test_a_header_that_lies_takes_no_memory(entry, tmp_path):
    _folder(tmp_path, "hf")
    header = json.dumps({"cls_token": entry}).encode()
    (tmp_path / "model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + bytes(16)
    )
    with pytest.raises(errors.CheckpointError, match="cls_token"):
        hugging_face.from_folder(tmp_path)


def test_a_pipe_in_place_of_the_weights_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    os.mkfifo(path)
    with pytest.raises(errors.CheckpointError, match="is no regular file"):
        safetensors_reader.Archive(path)
