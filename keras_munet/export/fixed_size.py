"""Writes a task's path as a SavedModel for converters, without resizing.

OpenVINO and TF.js have no operation for TensorFlow's resize that averages
pixels, with which the signatures for images of any size begin.
"""

from __future__ import annotations

import pathlib
import tempfile

import tensorflow as tf

from keras_munet.export import formats


def _convert(classifier: formats.Classifier) -> dict[str, bytes]:
    """Returns the files of a SavedModel by their paths in its folder."""
    module = tf.Module(name="keras_munet")
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=classifier.function)
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(pathlib.Path(folder).rglob("*"))
            if path.is_file()
        }


FORMAT = formats.ExportFormat("", _convert, ("float32",))
