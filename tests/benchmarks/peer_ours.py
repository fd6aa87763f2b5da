"""This project's training of one child, all of it trained. See `peer.py`.

    python peer_ours.py float32|bfloat16

Unlike the other programs it also picks and augments the batch within a step,
and clips gradients; `input_secs` says what the former takes.
"""

from __future__ import annotations

import os
import statistics
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import operations
import ours
import peer
import tensorflow as tf

from keras_munet import version
from keras_munet.core import settings
from keras_munet.data import preprocessing
from keras_munet.models.vit import flops
from keras_munet.roots import root as root_lib

# Timed together.
_NUM_STEPS = 3


def make_run(shape: peer.Shape):
    """Returns what `peer.serve` needs."""
    root = root_lib.random(
        "Ti/16",
        num_layers=shape.num_layers,
        image_size=shape.image_size,
        num_classes=shape.num_classes,
    )
    bench = ours.Bench(
        shape.batch_size, shape.image_size, _NUM_STEPS, sys.argv[1]
    )
    child = ours.full_child(root.components)

    def run(num_steps: int) -> list[float]:
        turns = -(-num_steps // _NUM_STEPS)
        return [bench.step_secs([child]) for _ in range(turns)]

    layout = [component.spec for component in root.components]
    places = {spec.name for spec in layout}
    said = {
        "num_params": root.num_params,
        # Per image: of every layer in full, and without what is left out.
        "model_macs": flops.training_cost(layout, places),
        "needed_macs": operations.of_generation([child]),
        "version": f"{version.__version__}, TensorFlow {tf.__version__}",
        "input_secs": _input_secs(shape),
    }
    return run, said


def _input_secs(shape: peer.Shape) -> float:
    """Returns the seconds that augmenting one batch takes, a median."""
    hparams, _ = preprocessing.augment_hparams(settings.DEFAULT_HPARAMS)
    hparams = type(hparams)(*map(tf.constant, hparams))
    augment = tf.function(preprocessing.training_images, autograph=False)
    images = tf.cast((peer.batch(shape)[0] + 1) * 127.5, tf.uint8)
    seed = tf.constant([1, 2])
    run = peer.timed(lambda: augment(images, shape.image_size, seed, hparams))
    return statistics.median(run(7)[2:])


if __name__ == "__main__":
    peer.serve(make_run)
