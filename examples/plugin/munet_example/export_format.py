"""Adds a file per task with the sizes of its input and output."""

from __future__ import annotations

import json

from keras_munet import plugins


def _convert(classifier: plugins.Classifier) -> bytes:
    traced = classifier.function.get_concrete_function()
    scores = traced.structured_outputs["scores"]
    sizes = {
        "image_size": classifier.image_size,
        "num_classes": scores.shape[-1],
    }
    return json.dumps(sizes).encode()


SIZES = plugins.ExportFormat(".json", _convert, ("float32", "bfloat16", "int8"))
