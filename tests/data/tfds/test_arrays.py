"""Data sets larger than memory: array files beside the records of TFDS."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_munet import errors
from keras_munet.data import image_storage
from keras_munet.data import tasks
from keras_munet.data.tfds import array_files
from keras_munet.data.tfds import arrays as tfds_arrays
from keras_munet.data.tfds import builders as tfds_builders
from keras_munet.data.tfds import reading as tfds_reading
from keras_munet.data.tfds import tasks as tfds_tasks

NUM_EXAMPLES = 200


class ShardedTask(tfds.core.GeneratorBasedBuilder):
    """Images of many sizes in seven files; image i is filled with i."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            disable_shuffling=True,
            features=tfds.features.FeaturesDict(
                {
                    "label": tfds.features.ClassLabel(num_classes=5),
                    "half": tfds.features.ClassLabel(num_classes=2),
                    "image": tfds.features.Image(shape=(None, None, 3)),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(NUM_EXAMPLES):
            image = np.full((20 + i % 7, 30, 3), i, np.uint8)
            image[..., 1] = 0
            half = 2 * i // NUM_EXAMPLES
            yield i, {"label": i % 5, "half": half, "image": image}


@pytest.fixture(scope="module")
def sharded_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    ShardedTask(data_dir=folder).download_and_prepare(
        download_config=tfds.download.DownloadConfig(num_shards=7)
    )
    assert len(list(folder.rglob("*tfrecord*"))) == 7
    return folder


@pytest.fixture
def little_memory(monkeypatch):
    """What may be in memory is less than the data set at any side."""
    monkeypatch.setattr(image_storage, "NUM_BYTES_MAX", 50_000)
    # Several chunks a split, and several batches a chunk.
    monkeypatch.setattr(array_files, "_CHUNK_BYTES", 16 * 32 * 32 * 3)
    monkeypatch.setattr(tfds_reading, "_READ_BATCH", 6)


@pytest.fixture
def data_dir(sharded_dir, tmp_path):
    """Array files are written to a folder of their own."""
    return f"{tmp_path},{sharded_dir}"


def _splits(data):
    return [data.train, data.validation, data.test]


def _prepare(data_dir, image_size=32):
    return tfds_tasks.prepare_task(
        "sharded_task", data_dir=data_dir, image_size=image_size
    )


def test_array_files_hold_what_memory_would_hold(
    data_dir, little_memory, monkeypatch
):
    assert len(_prepare(data_dir)) == 3
    mapped = tasks.load("sharded_task", data_dir=data_dir)
    monkeypatch.undo()
    monkeypatch.setattr(image_storage, "SIDES", (32,))
    held = tasks.load("sharded_task", data_dir=data_dir)
    assert [len(s) for s in _splits(mapped)] == [180, 10, 10]
    for split, expected in zip(_splits(mapped), _splits(held), strict=True):
        assert not split.resident
        assert expected.resident
        assert isinstance(split.images, np.memmap)
        assert not isinstance(split.labels, np.memmap)
        assert (split.images == expected.images).all()
        assert (split.labels == expected.labels).all()
    # In the order of the source, over the ends of its files.
    assert mapped.test.images[:, 0, 0, 0].tolist() == list(range(10))
    assert mapped.train.labels[:7].tolist() == [0, 1, 2, 3, 4, 0, 1]
    pixels, labels = mapped.train.batch(np.array([170, 3]))
    assert pixels[:, 0, 0, 0].tolist() == [190, 23]
    assert labels.tolist() == [0, 3]


def test_what_is_prepared_is_checked_and_not_written_again(
    data_dir, little_memory, tmp_path
):
    _prepare(data_dir)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npy")}
    assert len(files) == 6
    assert _prepare(data_dir) == []
    assert files == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npy")}
    damaged = next(p for p in files if "images" in str(p))
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(bytes(content))
    with pytest.raises(errors.DataError, match="were changed; remove that"):
        _prepare(data_dir)


def test_another_size_has_files_of_its_own(data_dir, little_memory):
    _prepare(data_dir, 32)
    with pytest.raises(errors.DataError, match="--image_size=48") as caught:
        tasks.load("sharded_task", data_dir=data_dir, image_size=48)
    assert "\n" not in str(caught.value)
    assert "not prepared" in str(caught.value)
    assert len(_prepare(data_dir, 48)) == 3
    for size in (32, 48):
        data = tasks.load("sharded_task", data_dir=data_dir, image_size=size)
        assert data.test.images.shape == (10, size, size, 3)


@pytest.mark.parametrize("num_kept", [0, 1, 3, 10])
def test_an_interrupted_preparation_goes_on_and_ends_in_the_same_bytes(
    num_kept, data_dir, little_memory, tmp_path, monkeypatch
):
    _prepare(data_dir)
    files = {
        p.relative_to(tmp_path): p.read_bytes()
        for p in tmp_path.rglob("*")
        if p.is_file()
    }
    other = tmp_path / "other"
    append = array_files.Writer.append

    def stopped(self, start, rows):
        if self.num_done == 16 * num_kept:
            # As a pressed key would, in the middle.
            raise KeyboardInterrupt
        append(self, start, rows)

    places = data_dir.replace(str(tmp_path), str(other), 1)
    with monkeypatch.context() as patch:
        patch.setattr(array_files.Writer, "append", stopped)
        with pytest.raises(KeyboardInterrupt):
            _prepare(places)
    images = other / "arrays/sharded_task/1.0.0/32x32x3/train_20_200/images"
    assert not images.exists()
    assert array_files.num_bytes_written(images) == (
        128 + 16 * num_kept * 32 * 32 * 3
    )
    with pytest.raises(errors.DataError, match="not prepared"):
        tasks.load("sharded_task", data_dir=places)
    _prepare(places)
    again = {
        p.relative_to(other): p.read_bytes()
        for p in other.rglob("*")
        if p.is_file()
    }
    assert again == files


def test_records_that_end_early_are_no_array(
    data_dir, little_memory, tmp_path, monkeypatch
):
    batches = tfds_reading.batches

    def fewer(builder, instruction, form, **options):
        for images, labels in batches(builder, instruction, form, **options):
            yield images[:-1], labels[:-1]

    monkeypatch.setattr(tfds_reading, "batches", fewer)
    with pytest.raises(errors.DataError, match="where its index says"):
        _prepare(data_dir)
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_full_disk_is_told_before_anything_is_written(
    data_dir, little_memory, tmp_path, monkeypatch
):
    monkeypatch.setattr(array_files, "_SPARE_BYTES", 2**60)
    with pytest.raises(errors.DataError, match="GiB free; name another"):
        _prepare(data_dir)
    assert not list(tmp_path.iterdir())


def test_array_files_are_not_written_to_a_bucket(little_memory, sharded_dir):
    parts = {"train": _part(sharded_dir)}
    with pytest.raises(errors.DataError, match="name a local folder first"):
        tfds_arrays.prepare_parts(parts, "gs://bucket/data", False)


def test_tasks_that_differ_in_their_labels_share_the_images(
    data_dir, little_memory, sharded_dir, tmp_path
):
    _prepare(data_dir)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npy")}
    part = _part(sharded_dir, label="half")
    assert tfds_arrays.load_parts(part, data_dir) is None
    assert len(tfds_arrays.prepare_parts({"train": part}, data_dir, False)) == 1
    split = tfds_arrays.load_parts(part, data_dir)
    assert split.labels.tolist() == [0] * 80 + [1] * 100
    assert split.images[0, 0, 0, 0] == 20
    assert all(p.stat().st_mtime_ns == then for p, then in files.items())
    assert len(list(tmp_path.rglob("*.npy"))) == len(files) + 1


def _part(sharded_dir, label="label"):
    builder = tfds_builders.open_in("sharded_task", str(sharded_dir))
    form = tfds_reading.form(
        "sharded_task",
        builder.info.features,
        NUM_EXAMPLES,
        label=label,
        side_max=image_storage.SIDE_MAX,
        pixel_max=255,
        image_size=32,
    )
    return tfds_arrays.Part(builder, "train", 20, NUM_EXAMPLES, form)
