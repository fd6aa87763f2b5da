"""A folder of photographs, from the files to served answers.

The served model answers to each file as evaluation does to the stored image,
whichever way the camera was held and whatever kind the file is.
"""

from __future__ import annotations

import io
import json
import pathlib

import numpy as np
import photo_samples
import pytest
import tensorflow as tf
from PIL import Image

import keras_munet
from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.export import golden_outputs

_TASK = photo_samples.TASK
_NUM_PER_CLASS = photo_samples.NUM_PER_CLASS
_file = photo_samples.file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with 198 pictures in CLASS/IMAGE, prepared and evolved."""
    base = tmp_path_factory.mktemp("photos")
    photo_samples.build(base)
    return base


@pytest.fixture(scope="module")
def system(folder):
    data = settings_lib.DataSettings(data_dir=str(folder / "data"))
    return keras_munet.System.open(folder / "system", data)


@pytest.fixture(scope="module")
def predict_bytes(folder):
    loaded = tf.saved_model.load(str(folder / "served"))
    return loaded.signatures["predict_bytes_own_photos"]


def _files(folder):
    for path in sorted((folder / "PHOTOS").glob("*/*")):
        yield path.parent.name, path.read_bytes()


def test_served_accuracy_is_the_reported_one_picture_by_picture(
    folder, system, predict_bytes
):
    data = system.data(_TASK)
    signature = tf.saved_model.load(str(folder / "served")).signatures[
        "predict_own_photos"
    ]
    # What evaluation reads, by the bytes of the stored image.
    stored = {}
    num_right = 0
    for split in (data.train, data.validation, data.test):
        for image, label in zip(split.images, split.labels, strict=True):
            images = np.broadcast_to(image, (*image.shape[:2], 3))[np.newaxis]
            logits = signature(images=tf.constant(images))["logits"].numpy()[0]
            stored[logits.tobytes()] = int(label)
            if split is data.test:
                num_right += int(logits.argmax()) == label
    names = list(data.class_names)
    num_files = 0
    for label, content in _files(folder):
        answer = predict_bytes(encoded=tf.constant([content]))
        logits = answer["logits"].numpy()[0]
        # The same bits as of one stored image, and its label.
        assert stored[logits.tobytes()] == names.index(label)
        num_files += 1
    assert num_files == len(stored) == 3 * _NUM_PER_CLASS
    reported = system.evaluate([_TASK])[_TASK]["test_accuracy"]
    assert reported == pytest.approx(num_right / len(data.test))


def test_pictures_of_any_size_get_the_stored_size_first(folder, predict_bytes):
    described = json.loads((folder / "served" / "signatures.json").read_text())
    height, width = described["tasks"][_TASK]["stored"]
    image = Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (300, 200, 3), np.uint8)
    )
    kept = image.resize((width, height), Image.Resampling.BILINEAR)
    whole, small = (
        predict_bytes(encoded=tf.constant([_file(i, "BMP", 1)]))["logits"]
        for i in (image, kept)
    )
    # Pillow rounds twice: half a level apart at most.
    np.testing.assert_allclose(whole, small, atol=0.05)


def test_verify_replays_original_files(folder, system, tmp_path):
    out = tmp_path / "served"
    system.export(out)
    with_files = golden_outputs.replay(out, out).num_outputs
    without = golden_outputs.replay(
        folder / "served", folder / "served"
    ).num_outputs
    # Logits and scores of 4 files; the fixture's system knew no data.
    assert with_files == without + 8
    # Replayed by an export of the same path, too.
    assert (
        golden_outputs.replay(folder / "served", out).num_outputs == with_files
    )


def test_an_unknown_export_option_is_refused_with_the_nearest(system, tmp_path):
    with pytest.raises(errors.UsageError, match="did you mean weights"):
        system.export(tmp_path / "x", weigths="int8")
    with pytest.raises(errors.UsageError, match="webp is 1; it takes"):
        system.export(tmp_path / "x", webp=1)
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_webp_is_decoded_by_exports_that_were_made_so(
    system, predict_bytes, tmp_path
):
    content = _file(
        Image.fromarray(np.full((30, 20, 3), 90, np.uint8)), "WEBP", 1
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="send one of"):
        predict_bytes(encoded=tf.constant([content]))
    out = system.export(tmp_path / "served", webp=True)
    served = tf.saved_model.load(out).signatures["predict_bytes_own_photos"]
    png = _file(Image.open(io.BytesIO(content)), "PNG", 1)
    by_webp, by_png = (
        served(encoded=tf.constant([data]))["logits"].numpy()
        for data in (content, png)
    )
    assert (by_webp == by_png).all()
    # TensorFlow Serving 2.19 has no such operation.
    graph = (tmp_path / "served" / "saved_model.pb").read_bytes()
    assert b"DecodeWebP" in graph
    plain = system.export(tmp_path / "plain")
    assert (
        b"DecodeWebP" not in pathlib.Path(plain, "saved_model.pb").read_bytes()
    )
