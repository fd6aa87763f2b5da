"""`System.predict`: the labels of files and arrays, as evaluation has them."""

from __future__ import annotations

import pathlib

import export_samples
import keras
import numpy as np
import photo_samples
import picture_samples
import pytest
import tensorflow as tf
from PIL import Image

import keras_munet
from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.data.own import images as own_images
from keras_munet.system import inference

_SAMPLES = picture_samples.samples()


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A system of two tasks and its export, `served`; read-only."""
    folder = tmp_path_factory.mktemp("inference")
    system = export_samples.system(folder / "system", {"a": 5, "b": 2})
    system.export(folder / "served")
    return system, folder / "served"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with a file of every kind."""
    folder = tmp_path_factory.mktemp("pictures")
    for i, sample in enumerate(_SAMPLES):
        (folder / f"{i:03}").write_bytes(sample.content)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    base = tmp_path_factory.mktemp("photos")
    photo_samples.build(base)
    return base


def _scores(prediction, num_classes):
    return [prediction.scores[f"class {i}"] for i in range(num_classes)]


def test_every_kind_of_file_gets_the_scores_of_its_pixels(system, pictures):
    system, served = system
    answers = system.predict("a", pictures)
    exported = inference.predict(
        inference.exported_classifier(served, "a"), [pictures]
    )
    # The same function on the same pixels: the same bits.
    assert answers == exported
    model = system.model("a", include_preprocessing=True)
    assert len(answers) == len(_SAMPLES)
    for i, (sample, answer) in enumerate(zip(_SAMPLES, answers, strict=True)):
        assert answer.path == str(pictures / f"{i:03}"), sample.kind
        pixels = own_images.decoded(sample.content)
        pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        expected = tf.nn.softmax(model(pixels[np.newaxis]))[0].numpy()
        np.testing.assert_allclose(
            _scores(answer, 5), expected, atol=2e-6, err_msg=sample.kind
        )
        assert answer.label == f"class {expected.argmax()}"
        assert answer.score == max(answer.scores.values())
        assert next(iter(answer.scores)) == answer.label


def test_the_accuracy_on_own_files_is_that_of_evaluate(photos):
    task = photo_samples.TASK
    data = settings_lib.DataSettings(data_dir=str(photos / "data"))
    system = keras_munet.System.open(photos / "system", data)
    split = system.data(task).test
    names = system.data(task).class_names
    files = system.predict(task, photos / "PHOTOS", batch_size=7)
    assert len(files) == 3 * photo_samples.NUM_PER_CLASS
    file_scores = np.array([[f.scores[n] for n in names] for f in files])
    num_right = num_right_of_files = 0
    answers = system.predict(task, split.images, batch_size=7)
    for answer, label in zip(answers, split.labels, strict=True):
        # The file that the stored picture was made from.
        scores = np.array([answer.scores[n] for n in names])
        apart = abs(file_scores - scores).max(axis=1)
        file = files[apart.argmin()]
        assert apart.min() < 1e-5
        assert pathlib.Path(file.path).parent.name == names[label]
        num_right += answer.label == names[label]
        num_right_of_files += file.label == names[label]
    reported = system.evaluate([task])[task]["test_accuracy"]
    assert reported == num_right / len(split) == num_right_of_files / len(split)


@pytest.mark.parametrize("component", [None, "encoderblock_0"])
def test_features_of_files_are_those_of_their_pixels(
    system, pictures, tmp_path, component
):
    system, _ = system
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"\x89PNG\r\n\x1a\nrest")
    found = system.features(
        "a",
        component,
        images_or_paths=[f"{pictures}/00*", damaged],
        batch_size=4,
    )
    labels = system.predict("a", [f"{pictures}/00*", damaged])
    assert [f.path for f in found] == [p.path for p in labels]
    assert [f.reason for f in found] == [p.reason for p in labels]
    assert found[-1].values is None and found[-1].reason
    model = system.features("a", component)
    prepare = system.model("a", include_preprocessing=True).layers[1]
    for sample, features in zip(_SAMPLES, found[:-1], strict=False):
        pixels = own_images.decoded(sample.content)
        pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        expected = model(prepare(pixels[np.newaxis]))[0].numpy()
        np.testing.assert_allclose(
            features.values, expected, atol=1e-5, err_msg=sample.kind
        )


def test_features_of_arrays_need_no_file(system):
    system, _ = system
    images = np.stack([picture_samples.COLORS] * 3)
    found = system.features("b", images_or_paths=images)
    assert [f.path for f in found] == [None] * 3
    np.testing.assert_allclose(found[0].values, found[2].values, atol=1e-5)
    assert system.features("b", images_or_paths=[]) == []
    with pytest.raises(errors.UsageError, match="no component 'x'"):
        system.features("b", "x", images_or_paths=images)


def test_own_files_get_one_answer_from_system_and_export(photos):
    task = photo_samples.TASK
    system = keras_munet.System.open(photos / "system")
    exported = inference.exported_classifier(photos / "served", None)
    answers = system.predict(task, photos / "PHOTOS")
    assert answers == inference.predict(exported, photos / "PHOTOS")
    # A trained path: right more often than one in three.
    folders = [pathlib.Path(a.path).parent.name for a in answers]
    right = [a.label == f for a, f in zip(answers, folders, strict=True)]
    assert np.mean(right) > 0.5


def test_a_file_that_cannot_be_read_is_a_row_and_changes_no_other(
    system, tmp_path
):
    system, _ = system
    good = Image.fromarray(picture_samples.COLORS)
    for name in ("1.png", "5.png"):
        good.save(tmp_path / name)
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "2.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "3.jpg").write_bytes(b"")
    (tmp_path / "4.txt").write_text("label,path\n")
    (tmp_path / "6.png").symlink_to(tmp_path / "absent")
    (tmp_path / "7").mkdir()
    (tmp_path / "8").symlink_to(tmp_path)
    (tmp_path / ".hidden.png").write_bytes(b"x")
    answers = system.predict("b", [tmp_path, "none/*.png", tmp_path / "7"])
    reasons = {
        pathlib.Path(a.path).name: a.reason for a in answers if not a.label
    }
    assert sorted(reasons) == [
        "*.png", "2.png", "3.jpg", "4.txt", "6.png", "7", "8"
    ]  # fmt: skip
    assert "damaged" in reasons["2.png"]
    assert reasons["3.jpg"] == "empty: 0 bytes"
    assert reasons["4.txt"] == "not an image"
    assert "No such file" in reasons["6.png"]
    assert reasons["8"] == "a link to a folder"
    assert "no file matches" in reasons["*.png"]
    assert all(a.score is None and not a.scores for a in answers if a.reason)
    labelled = [a for a in answers if a.label]
    assert [pathlib.Path(a.path).name for a in labelled] == ["1.png", "5.png"]
    (alone,) = system.predict("b", tmp_path / "1.png")
    for answer in labelled:
        np.testing.assert_allclose(
            _scores(answer, 2), _scores(alone, 2), rtol=1e-5
        )


def test_a_file_is_answered_once_and_brackets_are_a_name(system, tmp_path):
    system, _ = system
    for name in ("b.png", "a[1].png", "in/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    asked = [tmp_path / "a[1].png", tmp_path, f"{tmp_path}/**/*.png"]
    found = [str(a.path) for a in system.predict("a", asked)]
    assert found == [
        str(tmp_path / name) for name in ("a[1].png", "b.png", "in/c.png")
    ]


def test_arrays_of_any_size_get_the_answer_of_their_file(system, tmp_path):
    system, _ = system
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(0, 256, shape).astype(np.uint8)
        for shape in ((9, 20, 3), (33, 7, 1), (16, 16, 3))
    ]
    answers = system.predict("a", arrays, batch_size=2)
    for i, array in enumerate(arrays):
        Image.fromarray(np.squeeze(array)).save(tmp_path / f"{i}.png")
    files = system.predict("a", tmp_path, batch_size=2)
    assert [a.scores for a in answers] == [f.scores for f in files]
    assert all(a.path is None for a in answers)
    batch = np.stack([arrays[2]] * 3)
    for given in (batch, tf.constant(batch)):
        answers = system.predict("a", given)
        assert [a.label for a in answers] == [files[2].label] * 3
    assert system.predict("a", []) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros([2, 4, 4, 3]), r"picture 0 is \[4, 4, 3\] float64"),
        (np.zeros([4, 4, 3], np.uint8), r"picture 0 is \[4, 3\] uint8"),
        (np.zeros([1, 4, 4, 4], np.uint8), r"\[4, 4, 4\] uint8"),
        ([np.zeros([0, 4, 3], np.uint8)], "0 x 4 pixels"),
        (["a.png", np.zeros([4, 4, 3], np.uint8)], "picture 0 is str"),
        ([b"bytes"], "picture 0 is bytes"),
        (3, "int is given"),
    ],
)
def test_what_is_no_picture_is_refused(system, given, message):
    with pytest.raises(errors.UsageError, match=message):
        system[0].predict("a", given)


@pytest.mark.parametrize("size", [0, -1, 1.5, "8", True])
def test_a_batch_size_below_1_is_refused(system, size):
    with pytest.raises(errors.UsageError, match="give a whole number from 1"):
        system[0].predict("a", [], batch_size=size)


def test_the_task_may_be_left_out_where_there_is_one(system):
    system, served = system
    for ask in (
        lambda task: system.predict(task, []),
        lambda task: inference.exported_classifier(served, task),
    ):
        with pytest.raises(errors.UsageError, match="name one of: a, b"):
            ask(None)
        with pytest.raises(errors.UsageError, match="it has: a, b"):
            ask("c")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace('"predict_bytes"', '"predict_byte"'),
        lambda text: text.replace("predict_bytes_a", "predict_bytes_x"),
        lambda text: text.replace('"class 4"', "4"),
        lambda text: text.replace('"tasks"', '"task"'),
        lambda text: text[:-9],
    ],
)
def test_a_damaged_export_is_refused(system, tmp_path, damage):
    served = tmp_path / "served"
    served.symlink_to(system[1])
    copied = tmp_path / "copied"
    copied.mkdir()
    for path in served.iterdir():
        if path.name != "signatures.json":
            (copied / path.name).symlink_to(path)
    text = (served / "signatures.json").read_text()
    (copied / "signatures.json").write_text(damage(text))
    with pytest.raises(errors.StoreError, match="is no export"):
        inference.exported_classifier(copied, "a")


def test_a_published_path_that_changes_is_used(system, tmp_path):
    own = export_samples.system(tmp_path / "system", {"a": 3})
    image = np.zeros([1, 5, 5, 3], np.uint8)
    before = own.predict("a", image)
    assert own.predict("a", image) == before
    assert own.predict(None, image) == before
    assert len(system[0].predict("b", image)[0].scores) == 2
    assert len(system[0].predict("a", image)[0].scores) == 5


def test_a_model_takes_raw_pictures_and_survives_saving(system, tmp_path):
    system, _ = system
    image = picture_samples.COLORS[np.newaxis]
    model = system.model("a", include_preprocessing=True)
    plain = system.model("a")
    names = tuple(f"class {i}" for i in range(5))
    assert model.class_names == plain.class_names == names
    logits = model.predict(image, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(image, verbose=0), logits)
    assert not any(isinstance(x, keras.layers.Lambda) for x in model.layers)
    both = system.model(["a", "b"], include_preprocessing=True)
    assert dict(both.class_names) == {"a": names, "b": names[:2]}
    np.testing.assert_allclose(both(image)["a"], logits, atol=1e-5)


def test_raw_pictures_first_get_the_stored_size(photos):
    system = keras_munet.System.open(photos / "system")
    task = photo_samples.TASK
    path = photos / "PHOTOS" / "top" / "0.jpeg"
    pixels = own_images.decoded(path.read_bytes())
    model = system.model(task, include_preprocessing=True)
    scores = tf.nn.softmax(model(pixels[np.newaxis]))[0].numpy()
    (answer,) = system.predict(task, path)
    np.testing.assert_allclose(
        [answer.scores[name] for name in model.class_names], scores, rtol=1e-4
    )
