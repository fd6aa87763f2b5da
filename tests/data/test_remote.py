"""Prepared data on gs://, which a file system in memory stands for.

TensorFlow reads the records themselves in C++, where nothing can stand for a
bucket; only their names are led to the disk.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_munet import errors
from keras_munet.data import folders
from keras_munet.data import image_storage
from keras_munet.data import tasks
from keras_munet.data.own import store as own_store
from keras_munet.data.own import tasks as own_tasks
from keras_munet.data.tfds import tasks as tfds_tasks

BUCKET = "gs://bucket/data"


class RemoteTask(tfds.core.GeneratorBasedBuilder):
    """Forty images of many sizes; image i is filled with i."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            disable_shuffling=True,
            features=tfds.features.FeaturesDict(
                {
                    "label": tfds.features.ClassLabel(names=["a", "b"]),
                    "image": tfds.features.Image(shape=(None, None, 1)),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(40):
            yield i, {"label": i % 2, "image": np.full((9, 8 + i, 1), i, "u1")}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("remote")
    RemoteTask(data_dir=folder).download_and_prepare()
    return folder


@pytest.fixture
def bucket():
    with tfds.testing.MockFs() as files:
        yield files


@pytest.fixture
def filled_bucket(bucket, prepared, monkeypatch):
    local = bucket._to_tmp(BUCKET)
    shutil.copytree(prepared, local)
    read = tf.data.TFRecordDataset
    monkeypatch.setattr(
        tf.data,
        "TFRecordDataset",
        lambda names, *args, **options: read(
            tf.strings.regex_replace(names, f"^{BUCKET}", str(local)),
            *args,
            **options,
        ),
    )


def test_data_of_tfds_are_read_from_a_bucket(filled_bucket):
    described = tfds_tasks.describe("remote_task", BUCKET)
    assert described.prepared == (True,)
    data = tasks.load("remote_task", data_dir=f"{BUCKET},/nowhere")
    assert data.class_names == ("a", "b")
    assert len(data.train) == 36
    assert data.test.images[:, 0, 0, 0].tolist() == [0, 1]


def test_array_files_are_made_on_a_disk_from_a_bucket(
    filled_bucket, tmp_path, monkeypatch
):
    monkeypatch.setattr(image_storage, "NUM_BYTES_MAX", 40 * 32 * 32 - 1)
    data_dir = f"{tmp_path},{BUCKET}"
    with pytest.raises(errors.DataError, match="name a local folder first"):
        tfds_tasks.prepare_task("remote_task", data_dir=BUCKET)
    assert len(tfds_tasks.prepare_task("remote_task", data_dir=data_dir)) == 3
    data = tasks.load("remote_task", data_dir=data_dir)
    assert not data.train.resident
    assert data.train.images[:, 0, 0, 0].tolist() == list(range(4, 40))


def test_a_bucket_that_cannot_be_reached_is_no_damage(bucket, filled_bucket):
    for file in bucket._to_tmp(BUCKET).rglob("*tfrecord*"):
        file.unlink()
    with pytest.raises(errors.DataError) as caught:
        tasks.load("remote_task", data_dir=BUCKET)
    message = str(caught.value)
    assert "check the network and your access" in message
    assert "delete" not in message
    assert "\n" not in message


def test_own_images_are_kept_in_a_bucket(bucket):
    images = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 3), "u1")
    data = own_tasks.from_arrays("own/d", images, np.arange(30) % 3)
    own_store.save(data, BUCKET)
    assert own_store.listed(BUCKET) == ["own/d"]
    read = tasks.load("own/d", data_dir=f"/nowhere,{BUCKET}")
    assert (read.train.images == data.train.images).all()
    assert (read.test.labels == data.test.labels).all()


def test_a_bucket_is_no_disk():
    assert folders.is_remote(BUCKET)
    assert not folders.is_remote("/data")
