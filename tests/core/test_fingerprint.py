"""Data of one name are the same, or one line says how they differ."""

from __future__ import annotations

import dataclasses
import json

import pytest

from keras_munet import errors
from keras_munet.core import fingerprint as lib


def _digest(text):
    return lib.digest_text(text.encode().hex().zfill(64)[:64])


def _fingerprint(*, shape=(8, 8, 3), with_files=True, **changes):
    splits = {
        name: lib.SplitFingerprint(
            num_examples=10,
            labels=_digest("labels"),
            images=_digest("images"),
            files=_digest("files") if with_files else "",
        )
        for name in lib.SPLITS
    }
    splits["test"] = dataclasses.replace(splits["test"], **changes)
    return lib.DataFingerprint(shape, splits)


NAMES = ("cat", "dog", "eel")
# Class names at hand; what is said of them.
CLASSES = {
    "renamed": (("cat", "dog", "eels"), "class 'eels' is new, class 'eel' is"),
    "in another order": (("dog", "cat", "eel"), "class 0 is 'dog', it was"),
    "one more": ((*NAMES, "fox"), "4 classes instead of 3, class 'fox' is new"),
    "one less": (NAMES[:2], "2 classes instead of 3, class 'eel' is missing"),
    "of another script": (("cat", "dog", "угорь"), r"class '\u0443"),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_classes_that_differ_are_named(kind):
    names, words = CLASSES[kind]
    now = _fingerprint()
    with pytest.raises(errors.DataError) as caught:
        lib.refuse_other_data("own/pets", (NAMES, None), (names, now))
    assert words in str(caught.value)
    assert "task 'own/pets' was trained on other data" in str(caught.value)
    assert "\n" not in str(caught.value)


# What differs; what is said of it.
DATA = {
    "one image more": ({"num_examples": 11}, "test has 11 images, it had 10"),
    "labels": ({"labels": _digest("x")}, "the labels of test differ"),
    "files": ({"files": _digest("x")}, "the images of test differ"),
    "pixels without files": (
        {"images": _digest("x"), "files": ""},
        "the images of test differ",
    ),
}


@pytest.mark.parametrize("kind", DATA)
def test_data_that_differ_are_refused(kind):
    changes, words = DATA[kind]
    before, now = _fingerprint(), _fingerprint(**changes)
    assert lib.data_difference(before, before) == ""
    assert words in lib.data_difference(before, now)
    with pytest.raises(errors.DataError, match=words):
        lib.refuse_other_data("own/x", (NAMES, before), (NAMES, now))


def test_the_same_files_at_another_size_are_the_same_data():
    before = _fingerprint()
    smaller = _fingerprint(shape=(4, 4, 3), images=_digest("small"))
    assert lib.data_difference(before, smaller) == ""
    before = _fingerprint(with_files=False)
    smaller = _fingerprint(shape=(4, 4, 3), with_files=False)
    assert "stored as 4 x 4 x 3" in lib.data_difference(before, smaller)


def test_a_record_without_classes_or_fingerprint_refuses_nothing():
    now = _fingerprint()
    lib.refuse_other_data("own/x", ((), None), (NAMES, now))


def test_a_fingerprint_is_read_back_and_a_malformed_one_is_refused():
    before = dataclasses.replace(_fingerprint(), notices=("odd",))
    value = json.loads(json.dumps(before.to_json()))
    assert lib.DataFingerprint.from_json(value) == before
    wrong = [
        {**value, "image_shape": [8, 8]},
        {**value, "image_shape": [8, 8, True]},
        {**value, "image_shape": "888"},
        {**value, "notices": [1]},
        {**value, "notices": ["x"] * 1000},
        {**value, "more": 1},
        {**value, "splits": {}},
        {**value, "splits": {**value["splits"], "more": {}}},
    ]
    for changes in ({"labels": ""}, {"images": "x"}, {"num_examples": -1}):
        train = {**value["splits"]["train"], **changes}
        wrong.append({**value, "splits": {**value["splits"], "train": train}})
    for one in wrong:
        with pytest.raises(ValueError, match="its data are no fingerprint"):
            lib.DataFingerprint.from_json(one)


def test_notices_are_bounded():
    kept = lib.bounded_notices(["x" * 9_999, *map(str, range(99))])
    assert len(kept) == 50
    assert len(kept[0]) == 500
    assert kept[-1] == "and 51 more notices"
    before = dataclasses.replace(_fingerprint(), notices=kept)
    assert lib.DataFingerprint.from_json(before.to_json()) == before
