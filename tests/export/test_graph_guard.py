"""`--verify` refuses graphs that do more than compute, before anything runs."""

from __future__ import annotations

import json
import os
import pathlib
import random
import shutil

import export_samples
import fuzz_mutations
import numpy as np
import pytest
import tensorflow as tf

from keras_munet import errors
from keras_munet.export import golden_outputs
from keras_munet.export import graph_guard
from keras_munet.export import saved_model_reader

_SPEC = tf.TensorSpec([None, None, None, 3], tf.uint8)


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """An export with all options; treat it as read-only."""
    folder = tmp_path_factory.mktemp("export")
    system = export_samples.system(folder / "system", {"a": 3, "b": 2})
    out = system.export(
        folder / "served", classify=True, webp=True, weights="int8"
    )
    return pathlib.Path(out)


def _cond(op):
    def run(place, images):
        return tf.cond(
            tf.size(images) > 0, lambda: op(place, images), lambda: 0.0
        )

    return run


def _write(place, images):
    write = tf.raw_ops.WriteFile(filename=place, contents="x")
    with tf.control_dependencies([write]):
        return tf.reduce_sum(tf.cast(images, tf.float32))


def _read(place, images):
    del images
    return tf.cast(tf.strings.length(tf.io.read_file(place)), tf.float32)


def _list(place, images):
    del images
    return tf.cast(tf.size(tf.io.matching_files(place)), tf.float32)


def _python(place, images):
    def touch(_):
        pathlib.Path(place).touch()
        return np.float32(0)

    return tf.numpy_function(touch, [images], tf.float32)


def _print(place, images):
    tf.print(tf.size(images), output_stream=f"file://{place}")
    return 0.0


def _save(place, images):
    tf.raw_ops.SaveV2(
        prefix=place,
        tensor_names=["x"],
        shape_and_slices=[""],
        tensors=[images],
    )
    return 0.0


def _data(place, images):
    lines = tf.data.TextLineDataset(place)
    return lines.reduce(0.0, lambda n, _: n + 1.0)


def _debug(place, images):
    seen = tf.raw_ops.DebugIdentity(
        input=images, debug_urls=[f"file://{place}"]
    )
    return tf.reduce_sum(tf.cast(seen, tf.float32))


def _loop(place, images):
    return tf.while_loop(
        lambda n: n < 1.0, lambda n: (n + 1.0 + _write(place, images),), (0.0,)
    )[0]


def _saved(folder, body, place, *, at_load=False):
    """Writes a SavedModel that looks like an export."""

    class Model(tf.Module):
        @tf.function(input_signature=[_SPEC])
        def answer(self, images):
            sums = tf.zeros([]) if at_load else body(str(place), images)
            return {"logits": tf.zeros([tf.shape(images)[0], 2]) + sums}

    model = Model()
    if at_load:

        class Resource(tf.saved_model.experimental.TrackableResource):
            def _create_resource(self):
                return tf.raw_ops.HashTableV2(
                    key_dtype=tf.string, value_dtype=tf.int64
                )

            def _initialize(self):
                body(str(place), tf.zeros([1, 2, 2, 3], tf.uint8))

        model.resource = Resource()
    names = ("predict_a", "all_tasks", "features")
    tf.saved_model.save(
        model, str(folder), signatures=dict.fromkeys(names, model.answer)
    )
    task = {"key": "a", "signatures": {"predict": "predict_a"}, "path_id": "x"}
    described = {
        "tasks": {"a": task},
        "weights": "float32",
        "feature_component": None,
    }
    (folder / saved_model_reader.SIGNATURES_FILE).write_text(
        json.dumps(described)
    )
    index = {**described, "outputs": [], "tasks": {"a": "x"}}
    np.savez_compressed(
        folder / golden_outputs.FILE,
        images=np.zeros((1, 4, 4, 3), np.uint8),
        png=np.frombuffer(b"x", np.uint8),
        jpeg=np.frombuffer(b"x", np.uint8),
        values=np.zeros(0, "f4"),
        index=np.frombuffer(json.dumps(index).encode(), np.uint8),
    )
    return folder


@pytest.mark.parametrize(
    "body",
    [
        *(_write, _read, _list, _python, _print, _save, _data, _debug, _loop),
        *(_cond(_write), _cond(_python)),
    ],
)
def test_a_graph_that_reaches_out_is_not_run(tmp_path, body):
    place = tmp_path / "outside"
    folder = _saved(tmp_path / "sent", body, place)
    with pytest.raises(errors.StoreError, match="is not run") as refused:
        golden_outputs.replay(folder, folder)
    assert "\n" not in str(refused.value)
    assert not place.exists()


def test_a_graph_that_reaches_out_when_it_is_loaded_is_not_loaded(tmp_path):
    place = tmp_path / "outside"
    # Saving runs it once.
    folder = _saved(tmp_path / "sent", _write, place, at_load=True)
    place.unlink(missing_ok=True)
    with pytest.raises(errors.StoreError, match="'WriteFile'"):
        golden_outputs.replay(folder, folder)
    assert not place.exists()


def test_own_exports_only_compute(export):
    graph_guard.check(export)
    assert golden_outputs.replay(export, export).num_outputs


def test_a_model_of_common_keras_layers_only_computes(tmp_path):
    import keras

    layers = keras.layers
    images = layers.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, activation="gelu")(images)
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(3)(x))
    x = layers.Dropout(0.5)(layers.MaxPooling2D()(layers.ReLU()(x)))
    x = layers.LayerNormalization()(layers.Reshape((-1, 4))(x))
    x = layers.MultiHeadAttention(2, 2)(x, x) + x
    x = layers.GaussianNoise(0.1)(layers.UnitNormalization()(x))
    model = keras.Model(images, layers.GlobalAveragePooling1D()(x))
    model.export(tmp_path / "saved", verbose=False)
    graph_guard.check(tmp_path / "saved")


@pytest.mark.parametrize("odd", ["pbtxt", "cpb", "pipe", "dangling", "none"])
def test_only_files_that_an_export_has_are_loaded(export, tmp_path, odd):
    folder = pathlib.Path(shutil.copytree(export, tmp_path / "sent"))
    if odd == "pipe":
        os.mkfifo(folder / "variables" / "pipe")
    elif odd == "dangling":
        (folder / "x").symlink_to(tmp_path / "absent")
    elif odd == "none":
        (folder / "saved_model.pb").unlink()
    else:
        (folder / f"saved_model.{odd}").touch()
    with pytest.raises(errors.StoreError, match="is not run"):
        golden_outputs.replay(folder, export)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10**6,
        "[]",
        "null",
        '{"tasks": []}',
        '{"tasks": {"a": {}}, "weights": 1, "feature_component": 1}',
        '{"tasks": {"a": {"key": 1, "signatures": {"p": "q"}, "path_id": 1}},'
        ' "weights": 1, "feature_component": 1}',
        '{"tasks": {"a": {"key": "a", "signatures": ["all_tasks"]}}}',
    ],
    ids=range(7),
)
def test_odd_descriptions_are_refused_in_one_line(export, tmp_path, text):
    folder = pathlib.Path(shutil.copytree(export, tmp_path / "sent"))
    (folder / saved_model_reader.SIGNATURES_FILE).write_text(text)
    with pytest.raises(errors.StoreError) as refused:
        golden_outputs.replay(folder, export)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"index": np.frombuffer(b"[" * 10**6, np.uint8)},
        {"index": np.frombuffer(b"{}", np.uint8)},
        {"index": np.frombuffer(b'{"outputs": [[1]]}', np.uint8)},
        {"index": np.zeros(3, object)},
        {"images": np.zeros((1, 4, 4, 3), np.float32)},
        {"images": np.zeros((0,), np.uint8)},
        {"values": np.zeros((1 << 27,), np.uint64)},
        {"png": np.zeros(3, np.int64)},
    ],
    ids=range(8),
)
def test_odd_recordings_are_refused_in_one_line(export, tmp_path, changes):
    folder = pathlib.Path(shutil.copytree(export, tmp_path / "sent"))
    with np.load(folder / golden_outputs.FILE) as kept:
        arrays = {**dict(kept), **changes}
    np.savez_compressed(folder / golden_outputs.FILE, **arrays)
    with pytest.raises(errors.StoreError) as refused:
        golden_outputs.replay(export, folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "seeds"),
    [
        (saved_model_reader.SIGNATURES_FILE, range(4)),
        (golden_outputs.FILE, range(40, 46)),
        ("saved_model.pb", range(60, 66)),
    ],
)
def test_an_export_with_changed_bytes_is_refused_or_answers(
    export, name, seeds, tmp_path
):
    folder = tmp_path / "served"
    shutil.copytree(export, folder)
    whole = (folder / name).read_bytes()
    num_refused = 0
    for seed in seeds:
        rng = random.Random(seed)
        if name == saved_model_reader.SIGNATURES_FILE:
            changed = fuzz_mutations.json_like(json.loads(whole), rng)
            content = json.dumps(changed).encode()
        else:
            content = fuzz_mutations.bytes_like(whole, rng)
        (folder / name).write_bytes(content)
        try:
            golden_outputs.replay(folder, folder)
        except errors.MunetError as error:
            assert "\n" not in str(error), seed
            num_refused += 1
    assert num_refused > len(seeds) // 4
