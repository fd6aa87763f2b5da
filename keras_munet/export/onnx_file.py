"""Converts a task's path to an ONNX file and runs it once.

Invariant: a file is returned only if ONNX Runtime's scores for images of noise
are those of TensorFlow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_munet import errors
from keras_munet.core import plugins
from keras_munet.export import formats

# Operators of ONNX 1.12, which runtimes since 2022 read.
_OPSET = 17
_NUM_IMAGES = 4
_TOLERANCE = 1e-4


def _require() -> None:
    """Raises UsageError where a package is missing."""
    for package in ("onnx", "tf2onnx", "onnxruntime"):
        plugins.import_extra(
            *(package, "onnx", "format onnx needs"),
            otherwise="leave out the format",
        )


def _convert(classifier: formats.Classifier) -> bytes:
    """Returns the bytes of an `.onnx` file.

    Raises:
      StoreError: its scores differ from TensorFlow's.
    """
    import onnxruntime
    import tf2onnx

    model, _ = tf2onnx.convert.from_function(
        classifier.function,
        input_signature=classifier.function.input_signature,
        opset=_OPSET,
    )
    data = model.SerializeToString()
    size = classifier.image_size
    images = np.random.default_rng(0).integers(
        0, 256, (_NUM_IMAGES, size, size, 3), np.uint8
    )
    session = onnxruntime.InferenceSession(
        data, providers=["CPUExecutionProvider"]
    )
    (scores,) = session.run(["scores"], {"images": images})
    difference = _largest(scores - classifier.function(images)["scores"])
    if not difference <= _TOLERANCE:
        raise errors.StoreError(
            f"ONNX Runtime's scores differ by {difference:.2g} from "
            f"TensorFlow's, more than {_TOLERANCE:g}; leave out format onnx"
        )
    return data


def _largest(values: Any) -> float:
    return float(np.max(np.abs(np.asarray(values))))


FORMAT = formats.ExportFormat(".onnx", _convert, ("float32",), _require)
