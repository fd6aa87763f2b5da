"""What the catalogue states, against what the installed TFDS says itself.

TFDS ships no split sizes, but its descriptions, configs and code name most of
them. `docs/tasks.md` says where the others were compared.
"""

from __future__ import annotations

import importlib
import inspect

import pytest
import tensorflow_datasets as tfds
from etils import epath

from keras_munet.data.tfds import builders as tfds_builders
from keras_munet.data.tfds import catalogue_sources as sources
from keras_munet.data.tfds import offline as tfds_offline

# How the description of a data set or of its config puts its counts.
STATED = {
    "cifar10": "{train} training images and {test} test images",
    "cifar10_1/v4": "v4 contains {test:,} images",
    "cmaterdb/bangla": "of total {total} Bangla numerals",
    "cmaterdb/devanagari": "of total {total} Devanagari numerals",
    "cmaterdb/telugu": "of total {total} Telugu numerals",
    "dsprites": "N = {total} total images",
    "eurosat/rgb": "10 classes with {total} labeled",
    "imagenet2012": "text file is {test:,} lines",
    "kitti": "contains {total} training images",
    "kmnist": "{total:,} images",
    "oxford_flowers102": (
        "(totalling {train} images each). The test set consists of the "
        "remaining {test} images"
    ),
    "resisc45": "contains {total:,} images, covering 45",
    "sun397/tfds": (
        "{train:,} training images, {validation:,} validation images and "
        "{test:,} test images"
    ),
}


@pytest.mark.parametrize("name", STATED)
def test_the_description_of_a_data_set_states_the_catalogues_counts(
    name, tmp_path
):
    with tfds_offline.quiet():
        builder = tfds_builders.open_in(name, str(tmp_path))
    described = [builder.info.description]
    if builder.builder_config:
        described.append(builder.builder_config.description or "")
    counts = sources.SOURCES[name].num_examples
    words = STATED[name].format(**counts, total=sum(counts.values()))
    assert words in " ".join(" ".join(described).split())


def test_patch_camelyon_states_its_total_with_a_point(tmp_path):
    builder = tfds_builders.open_in("patch_camelyon", str(tmp_path))
    total = sum(sources.SOURCES["patch_camelyon"].num_examples.values())
    assert f"{total:,}".replace(",", ".") in builder.info.description


@pytest.mark.parametrize("config", ["digits", "letters"])
def test_the_configs_of_emnist_hold_the_catalogues_counts(config):
    found = tfds.builder_cls("emnist").builder_configs[config]
    assert sources.SOURCES[f"emnist/{config}"].num_examples == {
        "train": found.train_examples,
        "test": found.test_examples,
    }


@pytest.mark.parametrize("name", ["mnist", "kmnist"])
def test_the_code_that_reads_mnist_holds_the_catalogues_counts(name):
    module = importlib.import_module(tfds.builder_cls(name).__module__)
    assert sources.SOURCES[name].num_examples == {
        "train": module._TRAIN_EXAMPLES,
        "test": module._TEST_EXAMPLES,
    }


def test_the_code_that_reads_retinas_holds_the_catalogues_counts():
    name = "diabetic_retinopathy_detection"
    code = inspect.getsource(tfds.builder_cls(name))
    counts = sources.SOURCES[f"{name}/btgraham-300"].num_examples
    for split in ("train", "validation", "test"):
        assert f"# {counts[split]:,} examples." in code


def test_the_lists_that_come_with_tfds_are_as_long_as_the_splits():
    package = epath.Path(tfds.__file__).parent
    for file, split in (("tr", "train"), ("va", "validation"), ("te", "test")):
        path = package / "image_classification" / f"sun397_tfds_{file}.txt"
        counts = sources.SOURCES["sun397/tfds"].num_examples
        assert len(path.read_text().splitlines()) == counts[split]
    path = package / "datasets" / "imagenet2012" / "validation_labels.txt"
    counts = sources.SOURCES["imagenet2012"].num_examples
    assert len(path.read_text().splitlines()) == counts["validation"]


def test_omniglot_states_its_number_of_characters(tmp_path):
    builder = tfds_builders.open_in("omniglot", str(tmp_path))
    num_classes = builder.info.features["label"].num_classes
    described = " ".join(builder.info.description.split())
    assert f"{num_classes} different handwritten characters" in described
