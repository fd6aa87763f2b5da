"""Weights of classes: what a config may say and what follows from it."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from sklearn.utils import class_weight

from keras_munet import errors
from keras_munet.core import class_weights
from keras_munet.core import settings as settings_lib


def _settings(value):
    return settings_lib.Settings.from_dict({"data": {"class_weights": value}})


def test_the_examples_of_the_docstrings_hold():
    tested = doctest.testmod(class_weights)
    assert (tested.failed, tested.attempted) == (0, 2)


def test_balanced_weights_are_those_of_scikit_learn():
    labels = np.repeat([0, 1, 2], [5, 30, 400])
    expected = class_weight.compute_class_weight(
        "balanced", classes=np.arange(3), y=labels
    )
    found = class_weights.of_classes("auto", "abc", np.bincount(labels))
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("setting", "counts"),
    [
        ("auto", [3, 50, 7]),
        ("auto", [3, 0, 7]),
        ({"b": 4}, [10, 10, 10]),
        ({"a": 0.5, "c": 2}, [1, 99, 0]),
    ],
)
def test_the_mean_weight_of_the_images_is_1(setting, counts):
    weights = class_weights.of_classes(
        class_weights.normalize(setting), "abc", counts
    )
    assert np.average(weights, weights=counts) == pytest.approx(1)
    assert min(weights) > 0


@pytest.mark.parametrize(
    ("setting", "counts"),
    [("none", [1, 9]), ("auto", [5, 5]), ({"a": 3, "b": 3}, [1, 9])],
)
def test_equal_weights_are_none(setting, counts):
    text = class_weights.normalize(setting)
    assert class_weights.of_classes(text, "ab", counts) == ()


def test_a_mapping_and_its_text_are_one_setting():
    first, second, third = map(
        _settings, ({"b": 2, "a": 1}, '{"a": 1, "b": 2.0}', '{"b":2,"a":1.0}')
    )
    assert first == second == third
    assert first.to_json()["data"]["class_weights"] == '{"a":1.0,"b":2.0}'
    assert settings_lib.Settings.from_dict(first.to_json()) == first
    assert _settings("none") == settings_lib.Settings()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("balanced", "takes none, auto or weights by class name"),
        ("", "takes none, auto"),
        ("[1, 2]", "takes none, auto"),
        ({}, "takes none, auto"),
        (3, "takes none, auto"),
        (None, "takes none, auto"),
        ({"a": 0}, "a number above 0"),
        ({"a": -1.5}, "a number above 0"),
        ({"a": float("nan")}, "a number above 0"),
        ('{"a": Infinity}', "a number above 0"),
        ({"a": 1e7}, "at most 1,000,000"),
        ({"a": True}, "a number above 0"),
        ({"a": "2"}, "a number above 0"),
        ({7: 2}, "gives class 7"),
    ],
)
def test_what_is_no_weight_is_refused(value, words):
    with pytest.raises(errors.UsageError, match=r"data\.class_weights") as e:
        _settings(value)
    assert words in str(e.value)


def test_a_class_that_a_task_lacks_is_refused():
    class_weights.check('{"a":2.0}', "t", ("a", "b"))
    with pytest.raises(errors.UsageError, match=r"class 'A'.*task 't'.*a, b"):
        class_weights.check('{"A":2.0}', "t", ("a", "b"))
