"""Adds a file per task with the sizes of its input and output."""

from __future__ import annotations

import json

from keras_munet.export import formats


def _convert(classifier: formats.Classifier) -> bytes:
    traced = classifier.function.get_concrete_function()
    scores = traced.structured_outputs["scores"]
    sizes = {
        "image_size": classifier.image_size,
        "num_classes": scores.shape[-1],
    }
    return json.dumps(sizes).encode()


SIZES = formats.ExportFormat(".json", _convert, ("float32", "bfloat16", "int8"))
