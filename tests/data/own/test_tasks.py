"""Own images as a task: split by class, kept, and never used silently."""

from __future__ import annotations

import io
import itertools
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_munet import errors
from keras_munet.data import image_storage
from keras_munet.data import splitting
from keras_munet.data import tasks
from keras_munet.data.own import store as own_store
from keras_munet.data.own import tasks as own_tasks


def _image(size=(8, 8), color=(200, 30, 40), form="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, form)
    return buffer.getvalue()


def _folder(root, num_per_class=10, classes=("cat", "dog"), **options):
    for c, class_name in enumerate(classes):
        folder = root / class_name
        folder.mkdir(parents=True)
        for i in range(num_per_class):
            color = (100 * c, i, 7)
            (folder / f"{i:03}.png").write_bytes(_image(color=color, **options))
    return f"folder:{root}"


def _all(data):
    return [data.train, data.validation, data.test]


def test_a_folder_becomes_a_task_with_its_class_names(tmp_path):
    source = _folder(tmp_path / "my pets")
    data, skipped = own_tasks.build_data(source)
    assert data.name == "own/my_pets"
    assert data.class_names == ("cat", "dog")
    assert [len(s.labels) for s in _all(data)] == [16, 2, 2]
    # Red is the class and green the number: every file is there once.
    seen = sorted(
        (int(i[0, 0, 0]), int(i[0, 0, 1])) for s in _all(data) for i in s.images
    )
    assert seen == [(c, i) for c in (0, 100) for i in range(10)]
    for split in _all(data):
        assert (split.images[:, 0, 0, 0] == 100 * split.labels).all()
    assert skipped == []


def test_the_split_is_the_same_every_time_and_holds_every_class():
    labels = np.repeat(np.arange(5), [30, 3, 2, 1, 10]).astype(np.int32)
    options = {"validation_fraction": 0.1, "test_fraction": 0.1}
    rows = splitting.stratified(labels, "own/x", **options)
    again = splitting.stratified(labels, "own/x", **options)
    assert all((rows[s] == again[s]).all() for s in rows)
    counts = {
        s: np.bincount(labels[r], minlength=5).tolist() for s, r in rows.items()
    }
    assert counts == {
        "train": [24, 1, 1, 1, 8],
        "validation": [3, 1, 1, 0, 1],
        "test": [3, 1, 0, 0, 1],
    }
    assert sorted(np.concatenate(list(rows.values()))) == list(range(46))


def test_another_class_does_not_move_the_examples_of_a_class():
    options = {"validation_fraction": 0.2, "test_fraction": 0.2}
    one = np.zeros(20, np.int32)
    two = np.concatenate([one, np.ones(9, np.int32)])
    before = splitting.stratified(one, "own/x", **options)
    after = splitting.stratified(two, "own/x", **options)
    for split, rows in before.items():
        assert (after[split][after[split] < 20] == rows).all()


def test_splits_that_are_given_are_kept_and_missing_ones_drawn(tmp_path):
    for split, num in (("train", 20), ("test", 4)):
        _folder(tmp_path / split, num_per_class=num)
    data, _ = own_tasks.build_data(f"folder:{tmp_path}", name="own/given")
    assert [len(s.labels) for s in _all(data)] == [36, 4, 8]


def test_images_of_many_sizes_become_squares_that_are_stated(tmp_path):
    _folder(tmp_path / "a", size=(120, 100), classes=("x",))
    _folder(tmp_path / "b", size=(300, 200), classes=("y",))
    (tmp_path / "a" / "x").rename(tmp_path / "b" / "x")
    data, _ = own_tasks.build_data(f"folder:{tmp_path / 'b'}")
    # The median shorter side is 150.
    assert data.train.images.shape[1:] == (128, 128, 3)
    data, _ = own_tasks.build_data(f"folder:{tmp_path / 'b'}", side=40)
    assert data.train.images.shape[1:] == (40, 40, 3)


def test_images_of_one_shape_are_kept_as_they_are(tmp_path):
    source = _folder(tmp_path / "a", size=(9, 5))
    assert own_tasks.build_data(source).data.train.images.shape[1:] == (5, 9, 3)


def test_a_side_that_memory_cannot_hold_is_no_task_in_memory(
    tmp_path, monkeypatch
):
    source = _folder(tmp_path / "a")
    monkeypatch.setattr(image_storage, "NUM_BYTES_MAX", 20 * 16 * 16 * 3 - 1)
    with pytest.raises(errors.UsageError, match="keeps them in files"):
        own_tasks.build_data(source, side=16)
    pairs = [(np.zeros((8, 8, 3), np.uint8), i % 2) for i in range(20)]
    with pytest.raises(errors.UsageError, match="give a smaller side"):
        own_tasks.from_pairs("own/a", pairs, side=16)


def test_images_are_kept_large_enough_for_what_is_asked(tmp_path):
    for i, side in enumerate((230, 250, 270)):
        _folder(
            tmp_path / "a" / f"{i}",
            num_per_class=4,
            size=(side, side + 9),
            classes=("x",),
        )
    source = f"folder:{tmp_path / 'a'}"
    for image_size, expected in ((32, 160), (224, 224), (384, 250)):
        data, _ = own_tasks.build_data(source, image_size=image_size)
        assert data.train.images.shape[1:] == (expected, expected, 3)


def _malformed():
    """Returns files of 20 kinds of which no image can be had."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    files = {}
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, form)
        files[form] = buffer.getvalue()
    kinds = {
        f"the first third of a {form}": content[: len(content) // 3]
        for form, content in files.items()
    }
    png = files["PNG"]
    middle = len(png) // 2
    kinds |= {
        "nothing": b"",
        "zeros": b"\x00" * 100,
        "noise": noise.tobytes()[:500],
        "text": b"just text",
        "a page": b"<!doctype html><html></html>",
        "a drawing": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "an archive": b"PK\x03\x04" + bytes(60),
        "an array": b"\x93NUMPY\x01\x00v\x00{'descr': '|u1'}",
        "the head of a PNG": png[:50],
        "a PNG with a changed byte": (
            png[:middle] + bytes([png[middle] ^ 1]) + png[middle + 1 :]
        ),
        "a PNG without its head": png[8:],
        "a PNG of too many pixels": _png_head(60_000, 60_000),
        "floats": _encoded(np.ones((4, 4), np.float32), "TIFF"),
    }
    return kinds


def _encoded(array, form):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form)
    return buffer.getvalue()


def _png_head(width, height):
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    crc = struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + crc


def test_200_malformed_images_are_named_and_the_task_goes_on(tmp_path):
    source = _folder(tmp_path / "pets")
    clean, _ = own_tasks.build_data(source)
    kinds = _malformed()
    assert len(kinds) == 20
    expected = set()
    for i, kind in zip(range(200), itertools.cycle(kinds), strict=False):
        name = f"cat/bad{i:03}.png"
        (tmp_path / "pets" / name).write_bytes(kinds[kind])
        expected.add(name)
    data, skipped = own_tasks.build_data(source)
    assert {s.where for s in skipped} == expected
    assert len(skipped) == 200
    assert all(s.reason and "\n" not in s.reason for s in skipped)
    for split, same in zip(_all(data), _all(clean), strict=True):
        assert (split.images == same.images).all()
        assert (split.labels == same.labels).all()


def test_photographs_on_their_side_are_of_the_shape_they_are_seen_in(
    tmp_path,
):
    source = _folder(tmp_path / "pets", size=(9, 5))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = io.BytesIO()
    Image.new("RGB", (5, 9)).save(turned, "PNG", exif=exif)
    (tmp_path / "pets" / "cat" / "turned.png").write_bytes(turned.getvalue())
    data, skipped = own_tasks.build_data(source)
    assert data.train.images.shape[1:] == (5, 9, 3)
    assert skipped == []


def test_a_class_of_nothing_usable_is_named_and_left_out(tmp_path):
    source = _folder(tmp_path / "pets")
    (tmp_path / "pets" / "eel").mkdir()
    (tmp_path / "pets" / "eel" / "1.png").write_bytes(b"")
    data, skipped = own_tasks.build_data(source)
    assert data.class_names == ("cat", "dog")
    assert [s.where for s in skipped] == ["eel/1.png", "class 'eel'"]


def test_a_task_of_nothing_usable_is_refused(tmp_path):
    (tmp_path / "pets" / "eel").mkdir(parents=True)
    (tmp_path / "pets" / "eel" / "1.png").write_bytes(b"")
    with pytest.raises(errors.DataError, match=r"eel/1\.png: empty: 0 bytes"):
        own_tasks.build_data(f"folder:{tmp_path / 'pets'}")


def test_too_few_examples_for_three_splits_are_refused(tmp_path):
    source = _folder(tmp_path / "pets", num_per_class=2)
    with pytest.raises(
        errors.DataError, match="none for test; give at least 3"
    ):
        own_tasks.build_data(source)


def test_a_file_that_is_gone_is_named(tmp_path):
    _folder(tmp_path / "pets")
    rows = [
        f"pets/{c}/{i:03}.png,{c}" for c in ("cat", "dog") for i in range(11)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows]))
    data, skipped = own_tasks.build_data(f"table:{tmp_path / 't.csv'}")
    assert data.name == "own/t"
    assert sum(len(s.labels) for s in _all(data)) == 20
    assert [s.where for s in skipped] == [
        "line 12: pets/cat/010.png",
        "line 23: pets/dog/010.png",
    ]
    assert all("No such file" in s.reason for s in skipped)


def test_classes_that_are_numbers_are_in_the_order_of_numbers(tmp_path):
    source = _folder(tmp_path / "d", classes=("10", "9", "2"))
    assert own_tasks.build_data(source).data.class_names == ("2", "9", "10")


def test_arrays_become_a_task():
    images = np.zeros((20, 4, 5), np.uint8)
    labels = np.arange(20) % 2
    data = own_tasks.from_arrays("own/a", images, labels)
    assert data.class_names == ("0", "1")
    assert data.train.images.shape == (16, 4, 5, 1)
    with pytest.raises(errors.UsageError, match="must be uint8"):
        own_tasks.from_arrays("own/a", images.astype(np.float32), labels)
    with pytest.raises(errors.UsageError, match=r"must be \[n, height"):
        own_tasks.from_arrays("own/a", images, labels[:3])
    with pytest.raises(errors.DataError, match="labels lie in"):
        own_tasks.from_arrays("own/a", images, labels, class_names=["x"])


def test_a_tf_data_set_becomes_a_task():
    tf = pytest.importorskip("tensorflow")
    images = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 3), np.uint8)
    dataset = tf.data.Dataset.from_tensor_slices((images, np.arange(30) % 3))
    data = own_tasks.from_pairs("own/d", dataset, class_names=["a", "b", "c"])
    assert sum(len(s.labels) for s in _all(data)) == 30
    assert data.class_names == ("a", "b", "c")
    with pytest.raises(errors.UsageError, match=r"image 0 .* must be uint8"):
        own_tasks.from_pairs("own/d", dataset.batch(2))


def test_a_kept_task_is_read_as_it_was_and_not_written_again(tmp_path):
    built = own_tasks.build_data(_folder(tmp_path / "pets"))
    data_dir = str(tmp_path / "data")
    own_store.save(built.data, data_dir, built.skipped)
    read = tasks.load("private:own/pets", data_dir=f"/nowhere,{data_dir}")
    assert read.class_names == built.data.class_names
    for split, expected in zip(_all(read), _all(built.data), strict=True):
        assert (split.images == expected.images).all()
        assert (split.labels == expected.labels).all()
    assert own_store.listed(data_dir) == ["own/pets"]
    with pytest.raises(errors.DataError, match="is kept in"):
        own_store.save(built.data, data_dir)
    # Nothing but the task is left.
    assert [p.name for p in (tmp_path / "data" / "own").iterdir()] == ["pets"]


def test_a_kept_task_that_was_changed_is_refused(tmp_path):
    built = own_tasks.build_data(_folder(tmp_path / "pets"))
    folder = tmp_path / "own" / "pets"
    own_store.save(built.data, str(tmp_path))
    file = folder / "test_images.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(errors.DataError, match=r"test_images\.npy was changed"):
        tasks.load("own/pets", data_dir=str(tmp_path))
    (folder / "task.json").write_text(json.dumps({"schema": 1}))
    with pytest.raises(errors.DataError, match="is damaged"):
        tasks.load("own/pets", data_dir=str(tmp_path))


def test_a_task_that_is_not_kept_is_answered_with_the_command(tmp_path):
    with pytest.raises(
        errors.DataError, match=r"launch/tasks\.py prepare folder"
    ):
        tasks.load("own/pets", data_dir=str(tmp_path))


def test_a_folder_can_be_loaded_as_it_is_and_what_it_skips_is_told(tmp_path):
    source = _folder(tmp_path / "pets")
    (tmp_path / "pets" / "dog" / "bad.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"1 skipped: dog/bad\.png: empty"):
        data = tasks.load(source)
    assert data.name == "own/pets"


@pytest.mark.parametrize(
    "class_names", [{"a", "b"}, {"b": 0, "a": 1}, frozenset(("a", "b"))]
)
def test_class_names_without_an_order_are_refused(class_names):
    images = np.zeros([20, 4, 4, 3], np.uint8)
    labels = np.arange(20) % 2
    for made in (
        lambda: own_tasks.from_arrays(
            "own/x", images, labels, class_names=class_names
        ),
        lambda: own_tasks.from_pairs(
            "own/x", zip(images, labels, strict=True), class_names=class_names
        ),
    ):
        with pytest.raises(errors.UsageError, match="give a list"):
            made()


def test_masked_labels_are_refused():
    labels = np.ma.masked_array(np.arange(20) % 2, np.arange(20) == 3)
    with pytest.raises(errors.UsageError, match="masked"):
        own_tasks.from_arrays(
            "own/x", np.zeros([20, 4, 4, 3], np.uint8), labels
        )


def test_no_images_at_all_are_refused():
    with pytest.raises(errors.MunetError, match="own/x"):
        own_tasks.from_arrays(
            "own/x", np.zeros([0, 4, 4, 3], np.uint8), np.zeros(0, np.int32)
        )
