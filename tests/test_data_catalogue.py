"""Which examples each split of a task takes."""

from __future__ import annotations

import pytest

from keras_munet import errors
from keras_munet.data import catalogue


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        (["train", "validation", "test"], ("train", "validation", "test")),
        (["train", "test"], ("train[5%:]", "train[:5%]", "test")),
        (["train", "validation"], ("train[5%:]", "validation", "train[:5%]")),
        (["train"], ("train[10%:]", "train[:5%]", "train[5%:10%]")),
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
