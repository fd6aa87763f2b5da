"""The real data sets of the characters benchmark, where they are present."""

from __future__ import annotations

import pathlib
import socket

import numpy as np
import pytest
import tensorflow as tf

from keras_munet.data import preprocessing
from keras_munet.data import tasks
from keras_munet.data.tfds import builders as tfds_builders
from keras_munet.data.tfds import catalogue
from keras_munet.data.tfds import catalogue_sources as sources

# Source files of its publisher; omniglot is prepared already.
MANUAL = ("mnist", "kmnist", "cmaterdb/devanagari", "emnist/digits")
BATCH_SIZE = 256


def _loaded(name, shared_dir, tmp_path):
    """Returns the data of a task and where they are prepared."""
    if name == "omniglot":
        folder = shared_dir / "data" / "tfds"
        return tasks.load(name, data_dir=str(folder)), folder
    manual = shared_dir / "data" / "tfds_manual"
    if not (manual / name).is_dir():
        pytest.skip(f"source files of {name} are absent")
    options = tasks.DataOptions(data_dir=str(tmp_path), manual_dir=str(manual))
    assert tasks.prepare(name, options) == [f"{name}: prepared {name}"]
    return tasks.load(name, data_dir=str(tmp_path)), tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MANUAL, "omniglot"])
def test_a_real_set_is_prepared_offline_with_the_published_counts(
    name, shared_dir, tmp_path, monkeypatch
):
    def refuse(*args, **kwargs):
        raise AssertionError("a task reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    data, folder = _loaded(name, shared_dir, tmp_path)
    info = tfds_builders.open_in(name, str(folder)).info
    stated = {split: s.num_examples for split, s in info.splits.items()}
    assert stated == sources.SOURCES[name].num_examples
    counts = [len(s) for s in (data.train, data.validation, data.test)]
    plan = catalogue.find(name).plan
    taken = {p.partition("[")[0] for p in plan[:3]}
    assert sum(counts) == sum(stated[split] for split in taken)
    assert data.num_classes == info.features["label"].num_classes
    # An epoch, as training and evaluation read it.
    seen = 0
    hparams, jitter = preprocessing.augment_hparams(
        {
            "ds_area_range_min": 0.05,
            "ds_aspect_ratio_range_min": 0.75,
            "ds_flip_left_right": True,
        }
    )
    varied = tf.function(
        lambda images: preprocessing.training_images(
            images, 32, tf.constant([0, 1]), hparams, jitter
        )
    )
    for start in range(0, len(data.train), BATCH_SIZE):
        rows = np.arange(start, min(start + BATCH_SIZE, len(data.train)))
        images, labels = data.train.batch(rows)
        pixels = varied(images)
        assert pixels.shape == (len(rows), 32, 32, 3)
        assert np.abs(pixels.numpy()).max() <= 1.0
        seen += len(labels)
    assert seen == counts[0]
    # Every class is there to be learned; omniglot has some in test alone.
    if name != "omniglot":
        assert len(np.unique(data.train.labels)) == data.num_classes


def test_what_is_present_is_what_the_tests_name(shared_dir):
    found = pathlib.Path(shared_dir, "data", "tfds_manual")
    names = {p.name for p in found.iterdir()}
    assert names <= {name.partition("/")[0] for name in MANUAL}
