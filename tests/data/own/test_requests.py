"""Preparing what is prepared says whether it is what is asked for."""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_munet import errors
from keras_munet.data import folders
from keras_munet.data import tasks
from keras_munet.data.own import prepare
from keras_munet.data.own import store as own_store


def _image(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), "u1")
    Image.fromarray(pixels).save(path)


@pytest.fixture
def source(tmp_path):
    for i in range(12):
        _image(tmp_path / "pets" / ("cat", "dog")[i % 2] / f"{i}.png", i)
    return f"folder:{tmp_path / 'pets'}"


def _prepare(source, tmp_path, **options):
    return prepare.prepare_task(
        source, str(tmp_path / "data"), name="own/p", **options
    )


def _difference(source, tmp_path, **options):
    options = {"side": 0, "image_size": 32, **options}
    return own_store.request_difference(
        "own/p", str(tmp_path / "data"), source, **options
    )


def _add(root):
    _image(root / "cat" / "new.png", 99)


def _remove(root):
    (root / "dog" / "1.png").unlink()


def _change(root):
    _image(root / "dog" / "1.png", 99)


def _move(root):
    (root / "dog" / "1.png").rename(root / "cat" / "1.png")


def _rename_class(root):
    (root / "dog").rename(root / "hound")


# What happens to the source; what is said of it.
CHANGES = {
    "a file more": (_add, "1 file added (cat/new.png)"),
    "a file less": (_remove, "1 file removed (dog/1.png)"),
    "other pixels": (_change, "1 file changed (dog/1.png)"),
    "another class": (_move, "1 file added (cat/1.png), 1 file removed (dog"),
    "a class renamed": (_rename_class, "6 files added (hound/1.png, hound/11"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_source_that_changed_is_told(kind, source, tmp_path):
    change, words = CHANGES[kind]
    _prepare(source, tmp_path)
    assert _difference(source, tmp_path) == ""
    change(tmp_path / "pets")
    assert words in _difference(source, tmp_path)


def test_options_that_differ_are_told(source, tmp_path):
    _prepare(source, tmp_path)
    assert "--side=16 is given, it was 0" in _difference(
        source, tmp_path, side=16
    )
    assert "--image_size=64 is given, it was 32" in _difference(
        source, tmp_path, image_size=64
    )


def test_a_table_whose_labels_changed_is_told(source, tmp_path):
    del source
    table = tmp_path / "t.csv"
    rows = [f"pets/{('cat', 'dog')[i % 2]}/{i}.png,{i % 2}" for i in range(12)]
    table.write_text("\n".join(["path,label", *rows]))
    _prepare(f"table:{table}", tmp_path)
    table.write_text("\n".join(["path,label", *rows[:-1], rows[-1][:-1] + "0"]))
    assert "1 file changed (line 13" in _difference(f"table:{table}", tmp_path)


def test_a_copy_of_the_source_elsewhere_is_the_same(source, tmp_path):
    _prepare(source, tmp_path)
    shutil.copytree(tmp_path / "pets", tmp_path / "copy")
    assert _difference(f"folder:{tmp_path / 'copy'}", tmp_path) == ""


def test_a_copy_of_equal_times_and_sizes_is_compared_by_content(tmp_path):
    for folder, level in (("one", 10), ("two", 200)):
        for i in range(12):
            path = tmp_path / folder / "ab"[i % 2] / f"{i}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (level + i,) * 3).save(path)
            os.utime(path, (1e9, 1e9))
    _prepare(f"folder:{tmp_path / 'one'}", tmp_path)
    assert "12 files changed" in _difference(
        f"folder:{tmp_path / 'two'}", tmp_path
    )


def test_unchanged_files_are_not_read_again(source, tmp_path, monkeypatch):
    _prepare(source, tmp_path)
    _change(tmp_path / "pets")
    read = []
    original = prepare.sources.Example.read

    def spied(example):
        read.append(example.where)
        return original(example)

    monkeypatch.setattr(prepare.sources.Example, "read", spied)
    assert "1 file changed" in _difference(source, tmp_path)
    assert read == ["dog/1.png"]


def test_another_request_is_refused_and_replaces_where_it_may(source, tmp_path):
    _prepare(source, tmp_path)
    before = (tmp_path / "data/own/p/task.json").read_bytes()
    with pytest.raises(own_store.ExistsError, match="--side=4 is given"):
        _prepare(source, tmp_path, side=4)
    assert (tmp_path / "data/own/p/task.json").read_bytes() == before
    _prepare(source, tmp_path, side=4, replace=True)
    data = tasks.load("own/p", data_dir=str(tmp_path / "data"))
    assert data.train.images.shape[1:] == (4, 4, 3)
    # Nothing of the earlier one is left.
    assert os.listdir(tmp_path / "data/own") == ["p"]


def test_a_replacement_that_fails_leaves_the_earlier_task(source, tmp_path):
    _prepare(source, tmp_path)
    for path in (tmp_path / "pets").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(errors.DataError, match="no usable image"):
        _prepare(source, tmp_path, replace=True)
    tasks.load("own/p", data_dir=str(tmp_path / "data"))
    assert os.listdir(tmp_path / "data/own") == ["p"]


@pytest.mark.parametrize("has_exchange", [True, False])
def test_folders_change_places(has_exchange, tmp_path, monkeypatch):
    if not has_exchange:
        monkeypatch.setattr(folders.ctypes, "CDLL", lambda _: object())
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    root = folders.epath.Path(tmp_path)
    folders.exchange(root / "a", root / "b")
    assert os.listdir(tmp_path / "a") == ["b"]
    assert os.listdir(tmp_path / "b") == ["a"]
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_several_that_prepare_the_same_at_once_all_succeed(source, tmp_path):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        built = list(pool.map(lambda _: _prepare(source, tmp_path), range(4)))
    assert len({b.data.train.images.tobytes() for b in built}) == 1
    assert os.listdir(tmp_path / "data/own") == ["p"]


def test_several_that_replace_at_once_all_succeed(source, tmp_path):
    _prepare(source, tmp_path)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda side: _prepare(
                    source, tmp_path, side=side, replace=True
                ),
                (3, 4, 5, 6),
            )
        )
    data = tasks.load("own/p", data_dir=str(tmp_path / "data"))
    assert data.train.images.shape[1] in (3, 4, 5, 6)
    assert os.listdir(tmp_path / "data/own") == ["p"]


def test_one_that_loses_to_another_request_is_told(
    source, tmp_path, monkeypatch
):
    save = own_store.save

    def slow(data, data_dir, **options):
        monkeypatch.setattr(own_store, "save", save)
        _prepare(source, tmp_path, side=4)
        return save(data, data_dir, **options)

    monkeypatch.setattr(own_store, "save", slow)
    with pytest.raises(own_store.ExistsError, match="--side=0 is given"):
        _prepare(source, tmp_path)


def test_what_an_earlier_version_prepared_is_still_read(source, tmp_path):
    built = _prepare(source, tmp_path)
    folder = tmp_path / "data/own/p"
    index = json.loads((folder / "task.json").read_text())
    for key in ("request", "files", "notices"):
        del index[key]
    (folder / "task.json").write_text(json.dumps(index))
    (folder / "source.json").unlink()
    data = tasks.load("own/p", data_dir=str(tmp_path / "data"))
    assert (data.test.images == built.data.test.images).all()
    assert _difference(source, tmp_path) is None
    with pytest.raises(own_store.ExistsError):
        _prepare(source, tmp_path)
