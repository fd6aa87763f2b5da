"""Answers PredictionService requests where only TensorFlow is installed.

    python serving_process.py FOLDER

A stand-in for TensorFlow Serving: its own service and messages, over gRPC,
answered from the loaded signatures. Predict takes any signature, Classify one
with its method name, examples in and labels out, as the server does. It first
forbids to import Keras and keras_munet, prints its port and serves until its
input is closed.
"""

from __future__ import annotations

import concurrent.futures
import pathlib
import sys

for name in ("keras", "tf_keras", "keras_munet"):
    sys.modules[name] = None

import grpc  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow.core.protobuf import saved_model_pb2  # noqa: E402
from tensorflow_serving.apis import classification_pb2  # noqa: E402
from tensorflow_serving.apis import predict_pb2  # noqa: E402
from tensorflow_serving.apis import prediction_service_pb2_grpc  # noqa: E402


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, folder):
        self._signatures = tf.saved_model.load(folder).signatures
        file = pathlib.Path(folder) / "saved_model.pb"
        saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
        self._defined = saved.meta_graphs[0].signature_def

    def Predict(self, request, context):  # noqa: N802
        inputs = {
            key: tf.constant(tf.make_ndarray(value))
            for key, value in request.inputs.items()
        }
        outputs = self._answer(request, inputs, context)
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(request.model_spec)
        for key, value in outputs.items():
            proto = tf.make_tensor_proto(value.numpy())
            response.outputs[key].CopyFrom(proto)
        return response

    def Classify(self, request, context):  # noqa: N802
        name = request.model_spec.signature_name
        if self._defined[name].method_name != "tensorflow/serving/classify":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, name)
        examples = [
            example.SerializeToString()
            for example in request.input.example_list.examples
        ]
        inputs = {"inputs": tf.constant(examples, tf.string)}
        outputs = self._answer(request, inputs, context)
        response = classification_pb2.ClassificationResponse()
        for labels, scores in zip(
            outputs["classes"].numpy(), outputs["scores"].numpy(), strict=True
        ):
            classes = response.result.classifications.add().classes
            for label, score in zip(labels, scores, strict=True):
                classes.add(label=label, score=score)
        return response

    def _answer(self, request, inputs, context):
        name = request.model_spec.signature_name
        if name not in self._signatures:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, name)
        try:
            return self._signatures[name](**inputs)
        except (tf.errors.OpError, TypeError, ValueError) as error:
            message = " ".join(str(error).split())[:500]
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)


def main():
    pool = concurrent.futures.ThreadPoolExecutor(2)
    # As TensorFlow Serving has it.
    server = grpc.server(
        pool, options=[("grpc.max_receive_message_length", -1)]
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Service(sys.argv[1]), server
    )
    port = server.add_insecure_port("localhost:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    main()
