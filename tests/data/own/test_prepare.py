"""Own images that are more than memory may hold, kept in files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from keras_munet import errors
from keras_munet.data import image_storage
from keras_munet.data import tasks
from keras_munet.data.own import prepare
from keras_munet.data.own import store as own_store
from keras_munet.data.own import tasks as own_tasks
from keras_munet.data.tfds import array_files

SIDE = 24


def _file(i, grey=False):
    pixels = np.random.default_rng(i).integers(0, 256, (20 + i, 30, 3), "u1")
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if grey else pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def source(tmp_path):
    for c, class_name in enumerate(("cat", "dog")):
        folder = tmp_path / "pets" / class_name
        folder.mkdir(parents=True)
        for i in range(15):
            (folder / f"{i:02}.png").write_bytes(_file(15 * c + i, i % 4 == 0))
        (folder / "bad.png").write_bytes(_file(1)[:-40])
    return f"folder:{tmp_path / 'pets'}"


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(
        image_storage, "NUM_BYTES_MAX", 30 * SIDE * SIDE * 3 - 1
    )
    monkeypatch.setattr(prepare, "_NUM_BLOCK_BYTES", 4 * SIDE * SIDE * 3)


def _splits(data):
    return [data.train, data.validation, data.test]


def test_files_hold_what_memory_would_hold(
    source, tmp_path, little_memory, monkeypatch
):
    data_dir = str(tmp_path / "data")
    kept = prepare.prepare_task(source, data_dir, side=SIDE)
    read = tasks.load("own/pets", data_dir=data_dir)
    monkeypatch.undo()
    held = own_tasks.build_data(source, side=SIDE)
    assert held.skipped == kept.skipped
    assert {s.where for s in kept.skipped} == {"cat/bad.png", "dog/bad.png"}
    assert read.class_names == held.data.class_names == ("cat", "dog")
    for data in (kept.data, read):
        for split, expected in zip(
            _splits(data), _splits(held.data), strict=True
        ):
            assert not split.resident
            assert expected.resident
            assert (split.images == expected.images).all()
            assert (split.labels == expected.labels).all()
    assert own_store.listed(data_dir) == ["own/pets"]
    own_store.verify("own/pets", data_dir)
    with pytest.raises(errors.DataError, match=r"--side=9 .* is kept in"):
        prepare.prepare_task(source, data_dir, side=9)


def test_what_memory_may_hold_is_kept_as_before(source, tmp_path):
    kept = prepare.prepare_task(source, str(tmp_path), side=SIDE)
    assert kept.data.train.resident
    assert (tmp_path / "own" / "pets" / "train_images.npy").is_file()
    own_store.verify("own/pets", str(tmp_path))


def test_an_image_that_changes_meanwhile_stops_it_and_leaves_nothing(
    source, tmp_path, little_memory
):
    passes = []

    def progress(images):
        passes.append(len(images))
        if len(passes) == 2:
            (tmp_path / "pets" / "dog" / "07.png").write_bytes(b"")
        return images

    data_dir = tmp_path / "data"
    with pytest.raises(errors.DataError) as caught:
        prepare.prepare_task(
            source, str(data_dir), side=SIDE, progress=progress
        )
    assert "dog/07.png was changed meanwhile: empty" in str(caught.value)
    assert not list((data_dir / "own").iterdir())


def test_a_changed_byte_is_found_when_it_is_prepared_again(
    source, tmp_path, little_memory
):
    prepare.prepare_task(source, str(tmp_path), side=SIDE)
    file = tmp_path / "own" / "pets" / "test_images" / "array.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(errors.DataError, match="rows 0 to 4 were changed"):
        own_store.verify("own/pets", str(tmp_path))


def test_no_space_and_no_disk_are_told_before_a_byte_is_written(
    source, tmp_path, little_memory, monkeypatch
):
    with pytest.raises(errors.DataError, match="name a local folder"):
        prepare.prepare_task(source, "gs://bucket/data", side=SIDE)
    monkeypatch.setattr(array_files, "_SPARE_BYTES", 2**60)
    with pytest.raises(errors.DataError, match="GiB free; name another"):
        prepare.prepare_task(source, str(tmp_path / "data"), side=SIDE)
    assert not (tmp_path / "data").exists()
