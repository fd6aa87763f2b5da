"""Letters of several scripts, drawn as if by hand."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from keras_munet import errors
from keras_munet.data import types
from keras_munet.data.builtin import glyphs

NUM_CLASSES = {
    "glyphs/cyrillic": 33,
    "glyphs/digits": 10,
    "glyphs/greek": 24,
    "glyphs/latin": 26,
}


@pytest.fixture(scope="module", params=sorted(NUM_CLASSES))
def task(request):
    started = time.perf_counter()
    data = types.checked(glyphs.load_glyphs(request.param))
    # Bounded loosely: other programs may use the machine.
    assert time.perf_counter() - started < 60.0
    return data


def _flat(images):
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def test_every_class_has_the_same_number_of_images(task):
    assert task.num_classes == NUM_CLASSES[task.name]
    assert len(set(task.class_names)) == task.num_classes
    for name, num_images in glyphs.NUM_PER_CLASS.items():
        split = getattr(task, name)
        assert (np.bincount(split.labels) == num_images).all()
        assert split.images.shape[1:] == (32, 32, 1)


def test_no_image_is_drawn_twice(task):
    splits = [task.train, task.validation, task.test]
    seen = {i.tobytes() for s in splits for i in s.images}
    assert len(seen) == sum(len(s.labels) for s in splits)


def test_a_task_is_learnable_but_not_trivial(task):
    train = _flat(task.train.images)
    centroids = np.stack(
        [train[task.train.labels == k].mean(0) for k in range(task.num_classes)]
    )
    scores = _flat(task.test.images) @ _flat(centroids).T
    accuracy = (scores.argmax(1) == task.test.labels).mean()
    assert 5.0 / task.num_classes < accuracy < 0.9


def test_no_image_is_blank(task):
    contrast = np.ptp(task.train.images.astype(np.int32), axis=(1, 2, 3))
    assert contrast.min() > 50


def test_drawing_twice_gives_the_same_images():
    first = glyphs.load_glyphs("glyphs/digits")
    second = glyphs.load_glyphs("glyphs/digits")
    assert (first.train.images == second.train.images).all()
    assert (first.test.labels == second.test.labels).all()


def test_the_greek_letters_leave_out_the_final_sigma():
    assert "ς" not in glyphs.ALPHABETS["glyphs/greek"]


def test_a_missing_matplotlib_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(errors.DataError, match=r"keras_munet\[embedded\]"):
        glyphs.load_glyphs("glyphs/digits")
