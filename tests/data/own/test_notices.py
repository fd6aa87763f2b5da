"""What is odd in own images is said, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from keras_munet.data import tasks
from keras_munet.data.own import notices as own_notices
from keras_munet.data.own import prepare
from keras_munet.data.own import scan
from keras_munet.data.own import tasks as own_tasks


def _write(root, files):
    """Writes noise: equal seeds give equal pixels."""
    for name, seed in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), "u1")
        Image.fromarray(pixels).save(path)
    return f"folder:{root}"


def _plain(num=12, classes=("ant", "bee"), first=0):
    return {
        f"{name}/{i:02}.png": first + 100 * c + i
        for c, name in enumerate(classes)
        for i in range(num)
    }


def _notices(root, files):
    first, *others = own_tasks.build_data(_write(root, files)).data.notices
    assert first.startswith("the source is read as ")
    return tuple(others)


def test_a_plain_task_has_no_notice(tmp_path):
    assert _notices(tmp_path, _plain()) == ()


def test_how_the_source_is_read_is_told_first(tmp_path):
    source = _write(tmp_path, _plain())
    (tmp_path / ".cache").mkdir()
    for name in ("1", "2"):
        (tmp_path / "ant" / f".{name}.png").write_bytes(b"x")
        (tmp_path / "bee" / f"{name}.png").write_bytes(b"")
    assert own_tasks.build_data(source).data.notices == (
        "the source is read as CLASS/IMAGE: 2 classes; 5 left out (3 hidden, "
        "2 empty: 0 bytes)",
    )


def test_classes_that_a_split_lacks_are_named(tmp_path):
    files = _plain() | {"rare/1.png": 900, "couple/1.png": 901}
    files["couple/2.png"] = 902
    assert _notices(tmp_path, files) == (
        "validation has no image of 1 of 4 classes, so the search does not "
        "measure them: 'rare'",
        "test has no image of 2 of 4 classes, so the reported accuracy does "
        "not measure them: 'couple', 'rare'",
    )


def test_a_class_of_test_alone_is_named(tmp_path):
    files = {f"train/{name}": seed for name, seed in _plain().items()}
    files |= {
        f"test/{name}": seed
        for name, seed in _plain(2, ("ant", "bee", "new"), 500).items()
    }
    told = "\n".join(_notices(tmp_path, files))
    assert "train has no image of 1 of 3 classes, so no path can learn" in told


def test_a_single_class_is_told(tmp_path):
    (told,) = _notices(tmp_path, _plain(classes=("only",)))
    assert "a single class, 'only'" in told


@pytest.mark.parametrize("form", ["bmp", "png", "tiff"])
def test_equal_pixels_in_two_splits_are_told_whatever_the_file(form, tmp_path):
    files = {f"train/{name}": seed for name, seed in _plain().items()}
    files |= {
        f"test/{name}": seed for name, seed in _plain(4, first=500).items()
    }
    source = _write(tmp_path, files)
    Image.open(tmp_path / "train/ant/01.png").save(
        tmp_path / f"test/ant/copy.{form}"
    )
    told = own_tasks.build_data(source).data.notices
    places = f"test/ant/copy.{form} = train/ant/01.png"
    # Of train, a tenth is drawn to validate.
    assert any(places in text and "1 image is in" in text for text in told)


def test_equal_pixels_under_two_classes_are_told(tmp_path):
    files = _plain() | {"bee/copy.png": 3}
    told = " ".join(_notices(tmp_path, files))
    assert "1 image is in the classes 'ant', 'bee'" in told
    assert "ant/03.png = bee/copy.png" in told


def test_a_file_that_a_table_lists_repeatedly_is_told(tmp_path):
    files = _plain()
    _write(tmp_path, files)
    lines = [f"{name},{name[:3]}" for name in files]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["path,label", *lines, *lines[:3]]))
    told = " ".join(own_tasks.build_data(f"table:{table}").data.notices)
    assert "line 26: ant/00.png" in told
    assert "line 2: ant/00.png" in told


def test_images_that_look_empty_are_told():
    low, high = np.array([0, 1]), np.array([1, 12])
    (told,) = own_notices.range_notices(low, high)
    assert told.startswith("all pixels lie in 0 to 12 of 0 to 255")
    (told,) = own_notices.range_notices(
        np.array([0, 7, 9]), np.array([255, 7, 9]), ["a", "b", "c"]
    )
    assert told == "2 images have a single value in every pixel: b, c"
    assert own_notices.range_notices(np.array([0]), np.array([255])) == []


def test_arrays_of_ones_instead_of_255_are_told():
    images = np.random.default_rng(0).integers(0, 2, (30, 4, 4), np.uint8)
    data = own_tasks.from_arrays("own/x", images, np.arange(30) % 2)
    assert "all pixels lie in 0 to 1" in " ".join(data.notices)


def test_names_that_nearly_agree_are_told():
    labels = {s: np.arange(5) for s in ("train", "validation", "test")}
    names = ["Cat", "cat", "1", "1.0", "01"]
    assert own_notices.class_notices(names, labels) == [
        "the classes 'Cat', 'cat' differ in capitals only",
        "the classes '1', '1.0', '01' differ in zeros only",
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["10.0", "9.0", "0.0"], ["0.0", "9.0", "10.0"]),
        (["-1", "+2", "10"], ["-1", "+2", "10"]),
        (["2.5", "10.25", "1"], ["1", "2.5", "10.25"]),
        (["10", "9", "a"], ["10", "9", "a"]),
        (["1" * 5000, "9"], ["9", "1" * 5000]),
    ],
)
def test_labels_that_are_numbers_are_in_the_order_of_numbers(given, expected):
    assert scan._class_order(set(given)) == expected


def test_notices_are_kept_with_the_task(tmp_path):
    source = _write(tmp_path / "p", _plain() | {"rare/1.png": 77})
    built = prepare.prepare_task(source, str(tmp_path), name="own/p")
    read = tasks.load("own/p", data_dir=str(tmp_path))
    assert len(read.notices) == 3
    assert read.notices == built.data.notices


def test_files_that_an_export_refuses_are_counted_by_kind():
    (notice,) = own_notices.file_notices(
        ["TIFF", "", "WEBP", "TIFF"], [0, 0, 0, 0]
    )
    assert "2 TIFF, 1 WEBP" in notice
    assert own_notices.file_notices(["", ""], [0, 0]) == []


def test_the_bits_of_16_bit_files_are_told():
    (notice,) = own_notices.file_notices([""] * 3, [12, 0, 12])
    assert "2 use 12 bits" in notice
    (notice,) = own_notices.file_notices([""] * 3, [12, 8, 12])
    assert "1 use 8 bits, 2 use 12 bits" in notice
    assert "brightness" in notice
