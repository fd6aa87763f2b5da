"""Pictures of the embedded tasks on the page of a report."""

from __future__ import annotations

import base64
import io
import sys

import numpy as np
import pytest
import report_samples
from PIL import Image

from keras_munet.data import tasks
from keras_munet.report import page
from keras_munet.report import page_data
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


def _strips(tmp_path, *task_names, **options):
    directory = report_samples.create(tmp_path, task_names)
    head = directory.objects.put(report_samples.component("head", 3, 1))
    for name in task_names:
        report_samples.publish(directory, name, [head], directory.root)
    return page_data.build_page_data(
        summary_lib.read_summary(tmp_path), **options
    )["strips"]


def test_the_page_shows_the_classes_of_embedded_tasks(tmp_path):
    (strip,) = _strips(tmp_path, "digits", "mnist", "own/cats")
    assert strip["task"] == "digits"
    assert _pixels(strip["address"]).shape == (10, 91)
    assert strip["classes"] == [str(n) for n in range(10)]


def test_a_task_whose_data_cannot_be_had_here_is_told_in_a_sentence(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    lacking, shown = _strips(tmp_path, "digits", "glyphs/digits")
    assert "needs scikit-learn, which is not installed" in lacking["problem"]
    assert lacking["address"] == ""
    assert shown["problem"] == ""


def test_a_page_without_tasks_has_no_samples(tmp_path):
    report_samples.create(tmp_path)
    shown = page.render_page(summary_lib.read_summary(tmp_path))
    assert 'id="samples"' not in shown
