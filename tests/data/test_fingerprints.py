"""The fingerprint of data follows from their content and costs little."""

from __future__ import annotations

import dataclasses
import hashlib
import io

import numpy as np
import pytest

from keras_munet.core import fingerprint
from keras_munet.data import fingerprints
from keras_munet.data import tasks
from keras_munet.data.own import store as own_store
from keras_munet.data.own import tasks as own_tasks
from keras_munet.data.tfds import array_files


def _data(seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (40, 6, 5, 3), np.uint8)
    return own_tasks.from_arrays("own/a", images, np.arange(40) % 2)


def test_an_array_is_hashed_as_the_file_that_numpy_writes_of_it():
    for array in (
        np.arange(12, dtype=np.uint8).reshape(2, 3, 2, 1),
        np.arange(7, dtype=np.int32),
        np.zeros((0, 3, 3, 1), np.uint8),
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4).transpose(1, 0, 2),
    ):
        file = io.BytesIO()
        np.save(file, np.ascontiguousarray(array))
        expected = hashlib.sha256(file.getvalue()).hexdigest()
        assert fingerprints.digest_split(array) == f"sha256:{expected}"


def test_a_long_array_is_hashed_in_blocks(monkeypatch):
    array = np.random.default_rng(0).integers(0, 9, (50, 4), np.int32)
    whole = fingerprints.digest_split(array)
    monkeypatch.setattr(fingerprints, "_NUM_BLOCK_BYTES", 48)
    assert fingerprints.digest_split(array) == whole


def test_one_pixel_or_label_changes_it():
    data = _data()
    before = fingerprints.of(data)
    images = data.test.images.copy()
    images[-1, -1, -1, -1] ^= 1
    split = dataclasses.replace(data.test, images=images)
    now = fingerprints.of(dataclasses.replace(data, test=split))
    assert (
        fingerprint.data_difference(before, now) == "the images of test differ"
    )
    labels = data.train.labels[::-1].copy()
    split = dataclasses.replace(data.train, labels=labels)
    now = fingerprints.of(dataclasses.replace(data, train=split))
    assert (
        fingerprint.data_difference(before, now) == "the labels of train differ"
    )


def test_kept_data_have_the_fingerprint_of_those_in_memory(
    tmp_path, monkeypatch
):
    data = _data()
    own_store.save(data, str(tmp_path))
    loaded = tasks.load("own/a", data_dir=str(tmp_path))
    assert fingerprints.of(loaded) == fingerprints.of(data)
    # Neither hashes a pixel nor reads one.
    monkeypatch.setattr(fingerprints, "digest_split", None)
    found = tasks.prepared_fingerprint("own/a", data_dir=str(tmp_path))
    monkeypatch.undo()
    assert found == (("0", "1"), fingerprints.of(data))


def test_array_files_are_known_by_their_recorded_checksums(tmp_path):
    def write(name, changes=0):
        rows = np.zeros((6, 2, 2, 1), np.uint8)
        rows[5] = changes
        writer = array_files.Writer(tmp_path / name, rows.shape, np.uint8, 4)
        writer.append(0, rows)
        writer.finish()
        return array_files.file_digest(tmp_path / name)

    assert write("a") == write("b")
    assert write("c", changes=1) != write("d")


@pytest.mark.parametrize("name", ["digits", "glyphs/digits"])
def test_tasks_without_kept_data_have_one_only_when_loaded(name, tmp_path):
    assert tasks.prepared_fingerprint(name, data_dir=str(tmp_path)) is None
    first = fingerprints.of(tasks.load(name))
    assert first == fingerprints.of(tasks.load(f"private:{name}"))
