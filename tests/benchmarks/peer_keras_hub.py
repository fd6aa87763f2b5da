"""keras-hub's ViT, compiled as Keras does by default. See `peer.py`.

python peer_keras_hub.py float32|bfloat16
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import keras_hub
import peer
import tensorflow as tf


def make_run(shape: peer.Shape):
    """Returns what `peer.serve` needs."""
    if sys.argv[1] == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    sides = shape.image_size, shape.image_size, peer.NUM_CHANNELS
    backbone = keras_hub.models.ViTBackbone(
        image_shape=sides,
        patch_size=(peer.PATCH_SIZE, peer.PATCH_SIZE),
        num_layers=shape.num_layers,
        num_heads=peer.NUM_HEADS,
        hidden_dim=peer.WIDTH,
        mlp_dim=peer.MLP_DIM,
    )
    model = keras_hub.models.ViTImageClassifier(backbone, shape.num_classes)
    model.compile(
        keras.optimizers.SGD(peer.LEARNING_RATE, momentum=peer.MOMENTUM),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    images, labels = map(tf.constant, peer.batch(shape))
    said = {
        "num_params": model.count_params(),
        "version": f"Keras {keras.__version__}, TensorFlow {tf.__version__}",
    }
    # The very step that `fit` runs, without the cost of an epoch.
    return peer.timed(lambda: model.train_on_batch(images, labels)), said


if __name__ == "__main__":
    peer.serve(make_run)
