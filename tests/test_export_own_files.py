"""A folder of photographs, from the files to served answers.

The served model answers to each file as evaluation does to the stored image,
whichever way the camera was held and whatever kind the file is.
"""

from __future__ import annotations

import io
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_munet
from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.data import own_preparing
from keras_munet.export import canary

_TASK = "own/photos"
_NUM_PER_CLASS = 66
_ORIENTATION = 0x0112
_BACK = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def _picture(rng, label):
    """Returns an upright picture that is bright at the top, left or nowhere."""
    height, width = rng.integers(40, 90, 2)
    pixels = rng.integers(0, 90, (height, width, 3)).astype(np.uint8)
    if label == "top":
        pixels[: height // 3] += 140
    if label == "left":
        pixels[:, : width // 3] += 140
    return Image.fromarray(pixels)


def _file(image, kind, orientation):
    """Returns the file of a camera that was held as `orientation` says."""
    options = {}
    if kind in ("JPEG", "PNG"):
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        options["exif"] = exif
        turn = _BACK[orientation]
        image = image if turn is None else image.transpose(turn)
    if kind == "JPEG":
        options["quality"] = 95
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with 198 pictures in CLASS/IMAGE, prepared and evolved."""
    base = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    kinds = ("JPEG", "PNG", "GIF", "BMP")
    for label in ("top", "left", "none"):
        (base / "PHOTOS" / label).mkdir(parents=True)
        for i in range(_NUM_PER_CLASS):
            kind = kinds[i % 4] if i % 3 else "JPEG"
            content = _file(_picture(rng, label), kind, 1 + i % 8)
            path = base / "PHOTOS" / label / f"{i}.{kind.lower()}"
            path.write_bytes(content)
    own_preparing.prepare(
        f"folder:{base}/PHOTOS", str(base / "data"), name=_TASK
    )
    settings = settings_lib.Settings.from_dict(
        {
            "task_names": [_TASK],
            "num_task_iters": 1,
            "num_samples_per_task": 2,
            "children_per_generation": 2,
            "num_validations_per_path_training": 4,
            "batch_size": 16,
            "root": {"source": "packaged", "num_layers": 1},
            "search": {"force_finetune_components": ["*"]},
            "hparams": {
                "opt_lr": 0.05,
                "ds_crop": False,
                "ds_flip_left_right": False,
            },
            "data": {"data_dir": str(base / "data")},
        }
    )
    system = keras_munet.System.create(base / "system", settings)
    system.run()
    keras_munet.System.open(base / "system").export(base / "served")
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
    with_files = canary.replay(out, out).num_outputs
    without = canary.replay(folder / "served", folder / "served").num_outputs
    # Logits and scores of 4 files; the fixture's system knew no data.
    assert with_files == without + 8
    # Replayed by an export of the same path, too.
    assert canary.replay(folder / "served", out).num_outputs == with_files


def test_an_unknown_export_option_is_refused_with_the_nearest(system, tmp_path):
    with pytest.raises(errors.UsageError, match="did you mean weights"):
        system.export(tmp_path / "x", weigths="int8")
    with pytest.raises(errors.UsageError, match="webp is 1; it takes"):
        system.export(tmp_path / "x", webp=1)
    assert not (tmp_path / "x").exists()


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
