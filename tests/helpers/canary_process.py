"""Answers an export's canary where only TensorFlow is installed.

    python canary_process.py FOLDER > ANSWERS

It first forbids to import Keras and keras_munet. It sends the inputs that the
export keeps to each signature whose answers are recorded. ANSWERS is JSON:
`tensorflow`, the version, and `values`, a list for each recorded output, in
the order of the record.
"""

from __future__ import annotations

import json
import pathlib
import sys

for name in ("keras", "tf_keras", "keras_munet"):
    sys.modules[name] = None

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402


def _example(file):
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(file)
    return example.SerializeToString()


def main():
    folder = pathlib.Path(sys.argv[1])
    signatures = tf.saved_model.load(str(folder)).signatures
    answers = {}
    values = []
    with np.load(folder / "canary.npz") as canary:
        files = [canary["png"].tobytes(), canary["jpeg"].tobytes()]
        inputs = {
            "images": tf.constant(canary["images"]),
            "encoded": tf.constant(files),
            "inputs": tf.constant([_example(file) for file in files]),
        }
        outputs = json.loads(canary["index"].tobytes())["outputs"]
    for signature, output, _, _ in outputs:
        if signature not in answers:
            (key,) = signatures[signature].structured_input_signature[1]
            answers[signature] = signatures[signature](**{key: inputs[key]})
        values.append(answers[signature][output].numpy().tolist())
    json.dump({"tensorflow": tf.__version__, "values": values}, sys.stdout)


if __name__ == "__main__":
    main()
