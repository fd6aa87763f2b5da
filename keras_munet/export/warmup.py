"""Requests that TensorFlow Serving replays before it serves a model.

Invariant: each is a `PredictionLog` of TensorFlow Serving's API, byte for byte
what its own library writes (tests/export/test_serving.py compares them).
Without it the first real request of every signature waits for TensorFlow's
graph optimisation. The few fields are written here, so that an export needs
no further package: numbers from tensorflow_serving/apis/*.proto.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

# Where TensorFlow Serving looks for them, and how many it reads.
FILE = "assets.extra/tf_serving_warmup_requests"
NUM_REQUESTS_MAX = 1000
# Field numbers.
_LOG_PREDICT = 6
_PREDICT_LOG_REQUEST = 1
_REQUEST_MODEL_SPEC = 1
_REQUEST_INPUTS = 2
_SPEC_NAME = 1
_SPEC_SIGNATURE = 3
_ENTRY_KEY = 1
_ENTRY_VALUE = 2
_LENGTH_DELIMITED = 2


def write_warmup(
    folder: pathlib.Path,
    model_name: str,
    requests: Iterable[tuple[str, str, Any]],
) -> None:
    """Writes the requests of a SavedModel.

    Args:
      folder: of the SavedModel.
      model_name: the name that it is served under.
      requests: (signature, input name, array) of each.
    """
    path = folder / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, (signature, key, value) in enumerate(requests):
            if number == NUM_REQUESTS_MAX:
                break
            request = predict_request(model_name, signature, key, value)
            log = _field(_PREDICT_LOG_REQUEST, request)
            writer.write(_field(_LOG_PREDICT, log))


def predict_request(
    model_name: str, signature: str, key: str, value: Any
) -> bytes:
    """Returns a serialised `PredictRequest` of one input."""
    spec = _field(_SPEC_NAME, model_name.encode())
    spec += _field(_SPEC_SIGNATURE, signature.encode())
    tensor = tf.make_tensor_proto(value).SerializeToString()
    entry = _field(_ENTRY_KEY, key.encode()) + _field(_ENTRY_VALUE, tensor)
    return _field(_REQUEST_MODEL_SPEC, spec) + _field(_REQUEST_INPUTS, entry)


def _field(number: int, data: bytes) -> bytes:
    """Returns a length-delimited field (Protocol Buffers, "Encoding")."""
    tag = number << 3 | _LENGTH_DELIMITED
    return _varint(tag) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])
