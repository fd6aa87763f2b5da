"""Serves an export by KServe's own server.

    python serve_kserve.py --model_dir=FOLDER

Each `predict_<task>` and `predict_bytes_<task>` is a model of that name; its
inputs and outputs, in KServe's protocol V2, are those of the signature. Files
are base64 in JSON.
"""

from __future__ import annotations

import argparse
import base64

import kserve
import tensorflow as tf
from kserve import errors


def _tensor(array):
    """Returns a tensor; text in it becomes the bytes that it stands for."""
    if array.dtype != object:
        return tf.constant(array)
    files = [
        base64.b64decode(value, validate=True)
        if isinstance(value, str)
        else value
        for value in array.flat
    ]
    return tf.reshape(tf.constant(files, tf.string), array.shape)


class Signature(kserve.Model):
    """Answers the requests to one signature of a SavedModel."""

    def __init__(self, name, function):
        super().__init__(name)
        self._function, self.ready = function, True

    def predict(self, payload, headers=None, response_headers=None):
        """Returns what the signature answers, or refuses the request."""
        if not isinstance(payload, kserve.InferRequest):
            raise errors.InvalidInput("send it to /v2/models/<model>/infer")
        try:
            inputs = {i.name: _tensor(i.as_numpy()) for i in payload.inputs}
            answer = self._function(**inputs)
        except (tf.errors.InvalidArgumentError, TypeError, ValueError) as error:
            raise errors.InvalidInput(str(error)) from error
        outputs = [
            kserve.InferOutput(name, list(value.shape), "FP32", value.numpy())
            for name, value in answer.items()
        ]
        return kserve.InferResponse(payload.id or "", self.name, outputs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
    parser.add_argument("--model_dir", required=True, help="of an export")
    functions = tf.saved_model.load(parser.parse_args().model_dir).signatures
    kserve.ModelServer().start(
        [
            Signature(name, function)
            for name, function in functions.items()
            if name.startswith("predict_")
        ]
    )
