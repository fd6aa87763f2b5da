"""What a checked task guarantees."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_munet import errors
from keras_munet.data import records


def _split(num=4, shape=(5, 6, 1), high=3):
    images = np.zeros((num, *shape), np.uint8)
    return records.Split(images, np.arange(num, dtype=np.int32) % high)


def _task(**changes):
    task = records.TaskData(
        "t", 3, ("a", "b", "c"), _split(), _split(), _split()
    )
    return dataclasses.replace(task, **changes)


def test_a_sound_task_is_returned_as_it_is():
    task = _task()
    assert records.checked(task) is task


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": ("a",)}, "3 classes and 1 class names"),
        ({"test": _split(num=0)}, "test split .* at least one example"),
        ({"train": _split(shape=(5, 6, 4))}, "width, 1 or 3"),
        ({"validation": _split(shape=(5, 5, 1))}, "one shape"),
        ({"validation": _split(num=5, high=5)}, r"\[0, 4\].* in \[0, 2\]"),
        (
            {"train": records.Split(np.zeros((1, 2, 2, 1)), np.zeros(1))},
            "uint8 and int32",
        ),
        (
            {
                "train": records.Split(
                    np.zeros((2, 2, 2, 1), np.uint8), np.zeros(1, np.int32)
                )
            },
            "one label per image",
        ),
    ],
)
def test_an_unsound_task_is_refused_in_one_line(changes, words):
    with pytest.raises(errors.DataError, match=words) as caught:
        records.checked(_task(**changes))
    assert "\n" not in str(caught.value)


def test_a_negative_label_is_refused():
    bad = records.Split(
        np.zeros((2, 5, 6, 1), np.uint8), np.array([-1, 0], np.int32)
    )
    with pytest.raises(errors.DataError, match=r"\[-1, 0\]"):
        records.checked(_task(test=bad))
