"""The digits that come with scikit-learn."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from keras_munet import errors
from keras_munet.data import types
from keras_munet.data.builtin import digits


def test_splits_are_disjoint_stratified_and_complete():
    data = types.checked(digits.load_digits())
    splits = [data.train, data.validation, data.test]
    assert [len(s.labels) for s in splits] == [1259, 179, 359]
    for split in splits:
        counts = np.bincount(split.labels, minlength=10)
        assert counts.min() >= 0.9 * counts.max()
    seen = [{i.tobytes() for i in s.images} for s in splits]
    assert not seen[0] & seen[2]
    assert not seen[0] & seen[1]
    assert not seen[1] & seen[2]


def test_pixels_use_the_whole_range():
    data = digits.load_digits()
    assert data.train.images.shape[1:] == (8, 8, 1)
    assert (data.train.images.min(), data.train.images.max()) == (0, 255)


def test_loading_twice_gives_the_same_split():
    first, second = digits.load_digits(), digits.load_digits()
    assert (first.train.images == second.train.images).all()
    assert (first.validation.labels == second.validation.labels).all()


def test_a_missing_scikit_learn_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(errors.DataError, match=r"keras_munet\[embedded\]"):
        digits.load_digits()
