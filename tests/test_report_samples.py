"""Pictures of the embedded tasks on the page of a report."""

from __future__ import annotations

import base64
import io
import re
import sys

import numpy as np
import pytest
import report_samples
from PIL import Image

from keras_munet.data import tasks
from keras_munet.report import page
from keras_munet.report import samples
from keras_munet.report import summary as summary_lib


def _pixels(address):
    kind, _, content = address.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


@pytest.mark.parametrize("task", tasks.embedded_names())
def test_a_strip_holds_the_first_training_image_of_each_class(task):
    strip = samples.strip(task)
    data = tasks.load(task)
    pixels = _pixels(strip.address)
    height, width = data.train.images.shape[1:3]
    assert strip.class_names == data.class_names
    assert strip.problem == ""
    num_columns = min(17, data.num_classes)
    for label in range(data.num_classes):
        row, column = divmod(label, num_columns)
        top, left = row * (height + 1) + 1, column * (width + 1) + 1
        first = np.flatnonzero(data.train.labels == label)[0]
        tile = pixels[top : top + height, left : left + width]
        assert (tile == data.train.images[first, ..., 0]).all()
    assert len(strip.address) < 60_000


def _report(tmp_path, *task_names):
    directory = report_samples.create(tmp_path, task_names)
    head = directory.objects.put(report_samples.component("head", 3, 1))
    for name in task_names:
        report_samples.publish(directory, name, [head], directory.root)
    return page.render(summary_lib.read(tmp_path))


def test_the_page_shows_embedded_tasks_and_names_the_others(tmp_path):
    text = _report(tmp_path, "digits", "mnist", "own/cats")
    assert text.count("<img ") == 1
    address = re.search(r'<img src="([^"]+)"', text)[1]
    assert _pixels(address).shape == (10, 91)
    assert 'alt="digits: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"' in text
    assert ("Not shown, as their data lie elsewhere: mnist, own/cats.") in text
    assert "http:" not in text
    assert "https:" not in text


def test_a_task_whose_data_cannot_be_had_here_is_told_in_a_sentence(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    text = _report(tmp_path, "digits", "glyphs/digits")
    assert text.count("<img ") == 1
    assert "needs scikit-learn, which is not installed" in text


def test_a_page_without_tasks_has_no_samples(tmp_path):
    report_samples.create(tmp_path)
    assert "Samples" not in page.render(summary_lib.read(tmp_path))
