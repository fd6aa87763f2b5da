"""Answers PredictionService requests where only TensorFlow is installed.

    python serving_process.py FOLDER

A stand-in for TensorFlow Serving: its own service and messages, over gRPC,
answered from the loaded signatures. It first forbids to import Keras and
keras_munet, prints its port and serves until its input is closed.
"""

from __future__ import annotations

import concurrent.futures
import sys

for name in ("keras", "tf_keras", "keras_munet"):
    sys.modules[name] = None

import grpc  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow_serving.apis import predict_pb2  # noqa: E402
from tensorflow_serving.apis import prediction_service_pb2_grpc  # noqa: E402


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, folder):
        self._signatures = tf.saved_model.load(folder).signatures

    def Predict(self, request, context):  # noqa: N802
        name = request.model_spec.signature_name
        if name not in self._signatures:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, name)
        try:
            inputs = {
                key: tf.constant(tf.make_ndarray(value))
                for key, value in request.inputs.items()
            }
            outputs = self._signatures[name](**inputs)
        except (tf.errors.OpError, TypeError, ValueError) as error:
            message = " ".join(str(error).split())[:500]
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(request.model_spec)
        for key, value in outputs.items():
            proto = tf.make_tensor_proto(value.numpy())
            response.outputs[key].CopyFrom(proto)
        return response


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
