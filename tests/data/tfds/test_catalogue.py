"""Which examples each split of a task takes."""

from __future__ import annotations

import collections

import pytest

from keras_munet import errors
from keras_munet.core import names
from keras_munet.data.tfds import catalogue
from keras_munet.data.tfds import catalogue_sources as sources


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        (["train", "validation", "test"], ("train", "validation", "test")),
        (["train", "test"], ("train[5%:]", "train[:5%]", "test")),
        (["train", "validation"], ("train[5%:]", "validation", "train[:5%]")),
        (["train"], ("train[10%:]", "train[5%:10%]", "train[:5%]")),
    ],
)
def test_a_missing_split_is_taken_from_the_start_of_train(available, expected):
    assert catalogue.plan("mnist", available)[:3] == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar100", ("train[:98%]", "train[98%:]", "test")),
        ("cmaterdb/telugu", ("train[20%:]", "train[:20%]", "test")),
        ("omniglot", ("train", "small1", "small2")),
        (
            "visual_domain_decathlon/dtd",
            ("train", "validation[:50%]", "validation[50%:]"),
        ),
    ],
)
def test_the_published_exceptions_hold(name, expected):
    assert catalogue.plan(name, ["train", "test"])[:3] == expected


def test_cifar10_and_imagenet_validate_on_data_sets_of_their_own():
    cifar = catalogue.plan("cifar10", ["train", "test"])
    assert cifar.validation_source.startswith("cifar10_1")
    assert (cifar.train, cifar.test) == ("train", "test")
    imagenet = catalogue.plan("imagenet2012", ["train", "validation"])
    assert imagenet.validation_source.startswith("imagenet_v2")
    assert imagenet.test == "validation"


def test_a_data_set_without_train_is_refused():
    with pytest.raises(errors.DataError, match="no train split: it has test"):
        catalogue.plan("some_set", ["test"])


def test_there_are_69_published_tasks_under_their_own_names():
    tasks = catalogue.tasks()
    assert len(tasks) == 69
    numbers = collections.Counter(t.benchmark for t in tasks.values())
    assert numbers == {
        "ViT": 3,
        "VTAB-full": 23,
        "VDD": 10,
        "characters": 8,
        "VTAB-1k": 25,
    }
    for name, task in tasks.items():
        assert names.split_private(name) == (name, False)
        assert task.source in sources.SOURCES


def test_a_small_task_differs_from_the_whole_in_its_examples_alone():
    tasks = catalogue.tasks()
    small = [t for t in tasks.values() if t.benchmark == "VTAB-1k"]
    for task in small:
        whole = tasks[task.name.removesuffix("/1k")]
        assert (task.source, task.label) == (whole.source, whole.label)
        assert task.num_classes == whole.num_classes
        assert task.plan.train == "train[:800]"
        if whole.benchmark == "VTAB-full":
            assert task.plan.test == whole.plan.test


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("svhn_cropped", ("train[:90%]", "train[90%:]", "test")),
        ("eurosat", ("train[:60%]", "train[60%:80%]", "train[80%:]")),
        ("clevr/count_all", ("train[:90%]", "train[90%:]", "validation")),
        (
            "smallnorb/label_azimuth",
            ("train", "test[:50%]", "test[50%:]"),
        ),
        ("caltech101/1k", ("train[:800]", "train[2754:2954]", "test")),
        (
            "kitti/count_vehicles/1k",
            ("train[:800]", "validation[:200]", "test"),
        ),
        (
            "smallnorb/label_azimuth/1k",
            ("train[:800]", "test[:200]", "test[50%:]"),
        ),
        (
            "dsprites/label_x_position/1k",
            ("train[:800]", "train[589824:590024]", "train[90%:]"),
        ),
    ],
)
def test_tasks_of_vtab_keep_its_splits(name, expected):
    assert catalogue.find(name).plan[:3] == expected
