"""Converts a task's path to a file for LiteRT (TensorFlow Lite)."""

from __future__ import annotations

import tensorflow as tf

from keras_munet.export import formats


def _convert(classifier: formats.Classifier) -> bytes:
    """Returns the bytes of a `.tflite` file.

    For `bfloat16` kernels are stored as float16, which the format has, and for
    `int8` the converter quantises them.
    """
    module = tf.Module()
    module.predict = classifier.function
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [classifier.function.get_concrete_function()], module
    )
    if classifier.weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if classifier.weights == "bfloat16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


FORMAT = formats.ExportFormat(
    ".tflite", _convert, ("float32", "bfloat16", "int8")
)
