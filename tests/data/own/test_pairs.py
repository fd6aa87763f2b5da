"""Labels and images of notebooks are taken as they are meant, or refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from keras_munet import errors
from keras_munet.data.own import pairs as own_pairs
from keras_munet.data.own import tasks as own_tasks

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3), np.uint8)
LABELS = np.arange(30) % 3


# Labels and class names; what is said of them.
LABELS_REFUSED = {
    "below 0": (LABELS - 1, (), "the labels -1, 0, 1; they must be the whole"),
    "from 10": (LABELS + 10, (), "the labels 10, 11, 12"),
    "every second": (LABELS * 2, (), "the labels 0, 2, 4"),
    "beyond 32 bits": (LABELS + 2**40, (), "the labels 1099511627776"),
    "a multiple of 2**32": (LABELS * 2**32, "abc", "class names"),
    "beyond with names": (LABELS.astype("u8") << 32, ["a", "b", "c"], "lie in"),
    "floats": (LABELS + 0.5, (), "labels whole numbers"),
    "whole floats": (LABELS * 1.0, (), "labels whole numbers"),
    "truth values": (LABELS > 1, (), "labels whole numbers"),
    "texts": (np.array(["a", "b", "c"] * 10), (), "labels whole numbers"),
    "one-hot": (np.eye(3, dtype=int)[LABELS], (), r"labels of shape \(30, 3\)"),
    "ragged": ([[1], [2, 3]] * 15, (), "what is no array"),
    "a name twice": (LABELS, ["a", "b", "a"], "2 classes named 'a'"),
    "a name twice, composed": (LABELS, ["\xe9", "e\u0301", "x"], "2 classes"),
    "a name that is a number": (LABELS, ["a", "b", 3], "every class needs"),
    "an empty name": (LABELS, ["a", "b", " "], "every class needs"),
    "too few names": (LABELS, ["a", "b"], r"must lie in \[0, 1\]"),
}


@pytest.mark.parametrize("kind", LABELS_REFUSED)
def test_labels_are_checked_before_they_are_narrowed(kind):
    labels, names, words = LABELS_REFUSED[kind]
    with pytest.raises(errors.MunetError, match=words) as caught:
        own_tasks.from_arrays("own/x", IMAGES, labels, class_names=names)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", "u8"])
def test_whole_numbers_of_every_width_are_labels(dtype):
    data = own_tasks.from_arrays("own/x", IMAGES, LABELS.astype(dtype))
    assert data.class_names == ("0", "1", "2")


def test_a_class_that_no_image_has_is_told():
    names = ["a", "b", "c", "d"]
    data = own_tasks.from_arrays("own/x", IMAGES, LABELS, class_names=names)
    assert "'d'" in " ".join(data.notices)


@pytest.mark.parametrize("splits", [["train"] * 29, ["dev"] * 30, [0] * 30])
def test_splits_that_are_none_are_refused(splits):
    with pytest.raises(errors.UsageError, match="is given the splits"):
        own_tasks.from_arrays("own/x", IMAGES, LABELS, given_splits=splits)


def test_images_without_pixels_are_refused():
    for images in (IMAGES[:, :0], [[1], [2, 3]]):
        with pytest.raises(errors.UsageError):
            own_tasks.from_arrays("own/x", images, LABELS[: len(images)])


# Pairs; what is said of them.
PAIRS_REFUSED = {
    "half labels": (((i, 0.5) for i in IMAGES), "label 0 .* is float64"),
    "one-hot": (((i, np.eye(3)[0]) for i in IMAGES), "one-hot label"),
    "a list": (((i, [1]) for i in IMAGES), r"of shape \(1,\)"),
    "texts": (((i, "cat") for i in IMAGES), "label 0 .* is <U3"),
    "nothing": (((i, None) for i in IMAGES), "label 0 .* is object"),
    "four channels": (
        ((np.zeros((4, 4, 4), np.uint8), 0) for _ in range(9)),
        "image 0",
    ),
    "no pixels": (((IMAGES[0][:0], 0) for _ in range(9)), "image 0"),
    "triples": (((i, 0, 1.0) for i in IMAGES), "pair 0 .* of 3 parts"),
    "records": (({"image": i, "label": 0} for i in IMAGES), "pair 0 .* dict"),
    "images alone": ((i for i in IMAGES), "pair 0 .* ndarray"),
    "numbers": (range(9), "pair 0 .* is int"),
    "a late one": (
        ((i, n if n < 20 else 0.5) for n, i in enumerate(IMAGES)),
        "label 20",
    ),
}


@pytest.mark.parametrize("kind", PAIRS_REFUSED)
def test_pairs_of_another_kind_are_refused(kind):
    pairs, words = PAIRS_REFUSED[kind]
    with pytest.raises(errors.UsageError, match=words):
        own_tasks.from_pairs("own/x", pairs)


def _endless():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    yield "repeat", data.repeat()
    yield "repeat then map", data.repeat().map(lambda i, k: (i, k))
    yield "repeat then filter", data.repeat().filter(lambda *_: True)
    yield (
        "shuffled each time",
        data.shuffle(30).repeat().filter(lambda *_: True),
    )
    yield "a cycle", itertools.cycle(zip(IMAGES, LABELS, strict=True))
    yield "a numpy iterator", data.repeat().as_numpy_iterator()


def test_data_that_never_end_are_refused():
    for kind, pairs in _endless():
        with pytest.raises(errors.UsageError, match="do not end"):
            own_tasks.from_pairs("own/x", pairs)
            pytest.fail(kind)


def test_data_that_fill_the_memory_are_refused(monkeypatch):
    monkeypatch.setattr(own_pairs, "_NUM_BYTES_MAX", 20_000)
    rng = np.random.default_rng(0)

    def noise(num=10**9):
        for i in range(num):
            yield rng.integers(0, 256, (9, 9, 3), np.uint8), i % 3

    with pytest.raises(errors.UsageError, match="take more than"):
        own_tasks.from_pairs("own/x", noise())
    # Of a list, the caller holds all already.
    own_tasks.from_pairs("own/x", list(noise(60)))
    monkeypatch.undo()
    monkeypatch.setattr(own_pairs, "_NUM_IMAGES_MAX", 50)
    with pytest.raises(errors.UsageError, match="more than 50"):
        own_tasks.from_pairs("own/x", noise())


def test_data_that_are_repeated_and_end_are_taken():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    taken = own_tasks.from_pairs("own/x", data.repeat().take(60))
    assert len(taken.train) == 48
