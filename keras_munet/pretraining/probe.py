"""How much a frozen root knows: a linear classifier on its class token.

Invariant: the root is not changed, and the test split decides nothing.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_munet.data import preprocessing
from keras_munet.data import records
from keras_munet.roots import root as root_lib
from keras_munet.vit import base
from keras_munet.vit import layers as _layers  # noqa: F401  registers

_PENALTIES = tuple(10.0**power for power in range(-4, 4))
_BATCH_SIZE = 512


def linear_probe(root: root_lib.Root, data: records.TaskData) -> float:
    """Returns the test accuracy of a ridge regression on a root's features.

    Args:
      root: all but its head is used.
      data: the task; its validation split chooses the penalty.
    """
    layers = [base.from_component(c) for c in root.components[:-1]]
    size = root.hparams["ds_image_size"]

    @tf.function(autograph=False, reduce_retracing=True)
    def embed(images):
        x = preprocessing.evaluation_images(images, size)
        for layer in layers:
            x = layer(x)
        return x[:, 0]

    def features(split: records.Split) -> np.ndarray:
        starts = range(0, len(split.images), _BATCH_SIZE)
        parts = [
            embed(tf.constant(split.images[i : i + _BATCH_SIZE]))
            for i in starts
        ]
        return np.concatenate(parts).astype(np.float64)

    train = features(data.train)
    mean, scale = train.mean(0), train.std(0) + 1e-6

    def standard(x: np.ndarray) -> np.ndarray:
        return np.pad((x - mean) / scale, ((0, 0), (0, 1)), constant_values=1)

    x = standard(train)
    targets = np.eye(data.num_classes)[data.train.labels]
    gram, moments = x.T @ x / len(x), x.T @ targets / len(x)
    validation, test = (
        standard(features(part)) for part in (data.validation, data.test)
    )

    def accuracy(weights: np.ndarray, x: np.ndarray, split) -> float:
        return float(((x @ weights).argmax(1) == split.labels).mean())

    fits = [
        np.linalg.solve(gram + penalty * np.eye(len(gram)), moments)
        for penalty in _PENALTIES
    ]
    best = max(fits, key=lambda w: accuracy(w, validation, data.validation))
    return accuracy(best, test, data.test)
