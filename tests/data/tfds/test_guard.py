"""Prepared data of others name classes and files; nothing of that is run."""

from __future__ import annotations

import json
import os
import random
import sys

import fuzz_mutations
import pytest
import tensorflow_datasets as tfds

from keras_munet import errors
from keras_munet.data.tfds import builders as tfds_builders
from keras_munet.data.tfds import guard as tfds_guard

_IMAGE = {
    "pythonClassName": "tensorflow_datasets.core.features.image_feature.Image",
    "image": {"shape": {"dimensions": ["-1", "-1", "3"]}, "dtype": "uint8"},
}


def _prepared(folder, feature, **info):
    sent = folder / "sent" / "1.0.0"
    sent.mkdir(parents=True)
    base = {
        "name": "sent",
        "version": "1.0.0",
        "fileFormat": "array_record",
        "splits": [{"name": "train", "numBytes": "0", "shardLengths": ["0"]}],
    }
    (sent / "dataset_info.json").write_text(json.dumps({**base, **info}))
    whole = {
        "pythonClassName": "tensorflow_datasets.core.features.features_dict"
        ".FeaturesDict",
        "featuresDict": {"features": {"image": feature}},
    }
    (sent / "features.json").write_text(json.dumps(whole))
    return sent


@pytest.fixture
def payload(tmp_path, monkeypatch):
    text = "import pathlib; pathlib.Path(__file__).with_name('RAN').touch()"
    (tmp_path / "page_data.py").write_text(text)
    # However it came to be looked into.
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    assert not (tmp_path / "RAN").exists()
    assert "payload" not in sys.modules


@pytest.mark.parametrize(
    "name",
    [
        "payload.Feature",
        "payload.inner.Feature",
        "payload",
        "os.path",
        "tensorflow_datasets.scripts.cli.main.Feature",
        "",
    ],
)
def test_a_feature_class_that_is_not_loaded_is_refused(payload, name):
    _prepared(payload, {**_IMAGE, "pythonClassName": name})
    with pytest.raises(errors.DataError, match="TFDS cannot open") as refused:
        tfds_builders.find("sent", str(payload))
    assert "\n" not in str(refused.value)


def test_a_feature_class_in_the_old_form_is_refused(payload):
    sent = _prepared(payload, _IMAGE)
    old = {"type": "payload.Feature", "content": {}}
    (sent / "features.json").write_text(json.dumps(old))
    with pytest.raises(errors.DataError, match=r"class 'payload\.Feature'"):
        tfds_builders.find("sent", str(payload))


def test_the_module_of_a_data_set_is_a_name_and_no_more(payload):
    _prepared(payload, _IMAGE, moduleName="payload")
    builder = tfds_builders.find("sent", str(payload))
    assert list(builder.info.features) == ["image"]
    assert builder.info.splits["train"].num_examples == 0


def test_outside_of_a_data_sets_opening_tfds_is_as_it_was(payload, monkeypatch):
    find = tfds.features.FeatureConnector.cls_from_name
    with tfds_guard.no_imports(), pytest.raises(ValueError, match="own"):
        find("absent_module.Feature")
    with pytest.raises(ValueError, match="Could not import absent_module"):
        find("absent_module.Feature")


@pytest.mark.parametrize("odd", ["pipe", "device", "large", "deep"])
@pytest.mark.parametrize(
    "name", ["features.json", "dataset_info.json", "x.array_record-00000"]
)
def test_odd_files_of_a_data_set_are_refused_before_they_are_read(
    tmp_path, name, odd
):
    file = _prepared(tmp_path, _IMAGE) / name
    file.unlink(missing_ok=True)
    if odd == "pipe":
        os.mkfifo(file)
    elif odd == "device":
        file.symlink_to("/dev/zero")
    elif odd == "large":
        with file.open("wb") as opened:
            opened.truncate(1 << 40)
    else:
        file.write_text("[" * 10**6)
    if name.startswith("x.") and odd in ("large", "deep"):
        # Records may be large and are not read here.
        tfds_guard.refuse_odd_files(tmp_path / "sent")
        return
    with pytest.raises(errors.DataError) as refused:
        tfds_builders.find("sent", str(tmp_path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("file", ["features.json", "dataset_info.json"])
def test_changed_metadata_are_refused_or_read_and_run_nothing(
    file, payload, tmp_path
):
    sent = _prepared(tmp_path, _IMAGE)
    whole = (sent / file).read_text()
    num_refused = 0
    for seed in range(60):
        rng = random.Random(seed)
        if seed % 2:
            changed = json.dumps(
                fuzz_mutations.json_like(json.loads(whole), rng)
            ).encode()
        else:
            changed = fuzz_mutations.bytes_like(whole.encode(), rng)
        (sent / file).write_bytes(changed)
        try:
            tfds_builders.find("sent", str(tmp_path))
        except errors.MunetError as error:
            assert "\n" not in str(error), seed
            num_refused += 1
    assert num_refused > 15
