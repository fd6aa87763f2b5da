"""What smaller weights cost in accuracy, on the tasks' own test data.

    python tests/benchmarks/export_weights.py --workdir=DIR [--data_dir=DIR]
        [--manual_dir=DIR] [--num_images_max=2000]

Exports an evolved system with float32, bfloat16 and int8 weights and a LiteRT
file per task, and answers every task's test images with each. The pixels are
resized to the model's size before, as a LiteRT file wants them.
"""

from __future__ import annotations

import os
import pathlib
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "helpers"))

import numpy as np
import tensorflow as tf
from absl import app
from absl import flags
from absl import logging

import keras_munet
from keras_munet.core import names
from keras_munet.core import settings as settings_lib
from keras_munet.data import preprocessing
from keras_munet.export import options

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "An evolved system.", required=True
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data.")
_MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Source files.")
_NUM_IMAGES_MAX = flags.DEFINE_integer("num_images_max", 2000, "Per task.")
_BATCH_SIZE = 100


def _inputs(system, name) -> tuple[np.ndarray, np.ndarray]:
    """Returns test images of the model's size, uint8, and labels."""
    split = system.data(name).test
    count = min(len(split.labels), _NUM_IMAGES_MAX.value)
    size = system.tasks[name].published.hparams["ds_image_size"]
    pixels = preprocessing.evaluation_images(split.images[:count], size)
    images = np.rint((np.array(pixels) + 1.0) * 127.5).astype(np.uint8)
    return images, split.labels[:count]


def _scores(ask, images) -> np.ndarray:
    return np.concatenate(
        [
            np.array(ask(images=images[at : at + _BATCH_SIZE])["scores"])
            for at in range(0, len(images), _BATCH_SIZE)
        ]
    )


def main(argv: list[str]) -> None:
    """Measures and prints a table."""
    del argv
    logging.set_verbosity(logging.ERROR)
    data = settings_lib.DataSettings(
        data_dir=_DATA_DIR.value, manual_dir=_MANUAL_DIR.value
    )
    system = keras_munet.System.open(_WORKDIR.value, data)
    inputs = {name: _inputs(system, name) for name in system.tasks}
    expected = {}
    for name, (images, _) in inputs.items():
        model = system.model(name)
        size = images.shape[1]

        # The batch is free, as it is in an export: TensorFlow adds in another
        # order where a graph's shapes are fixed.
        @tf.function(
            autograph=False,
            input_signature=[
                tf.TensorSpec([None, size, size, 3], tf.uint8, "images")
            ],
        )
        def ask(images, model=model, size=size):
            pixels = preprocessing.evaluation_images(images, size)
            return {"scores": tf.nn.softmax(model(pixels))}

        expected[name] = _scores(ask, images)
    print(
        "| weights | bytes | largest score error | same top class | accuracy "
        "(of the system) | LiteRT: bytes | score error | same top class |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for weights in options.WEIGHT_TYPES:
        with tempfile.TemporaryDirectory() as base:
            out = pathlib.Path(
                system.export(f"{base}/out", weights=weights, tflite=True)
            )
            print(_row(out, weights, inputs, expected), flush=True)


def _row(out, weights, inputs, expected) -> str:
    loaded = tf.saved_model.load(str(out))
    apart: dict[str, list[float]] = {"served": [], "lite": []}
    same: dict[str, list[float]] = {"served": [], "lite": []}
    right, right_before = [], []
    num_bytes = (out / "variables").glob("*.data*")
    lite_bytes = list((out / "tflite").iterdir())
    for name, (images, labels) in inputs.items():
        key = names.signature_name(name)
        lite = tf.lite.Interpreter(str(out / "tflite" / f"{key}.tflite"))
        asked = {
            "served": loaded.signatures[f"predict_{key}"],
            "lite": lite.get_signature_runner(),
        }
        before = expected[name]
        for kind, ask in asked.items():
            given = tf.constant(images) if kind == "served" else images
            found = _scores(ask, given)
            apart[kind].append(np.abs(found - before).max())
            same[kind].extend(found.argmax(1) == before.argmax(1))
            if kind == "served":
                right.extend(found.argmax(1) == labels)
                right_before.extend(before.argmax(1) == labels)
    return (
        f"| {weights} | {sum(p.stat().st_size for p in num_bytes):,} | "
        f"{max(apart['served']):.2g} | {np.mean(same['served']):.2%} | "
        f"{np.mean(right):.4f} ({np.mean(right_before):.4f}) | "
        f"{sum(p.stat().st_size for p in lite_bytes):,} | "
        f"{max(apart['lite']):.2g} | {np.mean(same['lite']):.2%} |"
    )


if __name__ == "__main__":
    app.run(main)
