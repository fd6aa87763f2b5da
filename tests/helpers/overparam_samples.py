"""A tiny network for three tasks, its data, and trainers of it."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from keras_munet.overparam import model_transform
from keras_munet.overparam import training
from keras_munet.train.devices import strategy as strategy_lib

TASKS = {"depth": 1, "normals": 3, "segmentation": 4}
SIDE = 4
BATCH_SIZE = 4


def network() -> keras.Model:
    """Returns a trunk of two convolutions and a linear head per task."""
    keras.utils.set_random_seed(3)
    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", name="trunk0")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Conv2D(4, 3, activation="relu", name="trunk1")(x)
    outputs = {
        task: keras.layers.Dense(n, name=f"{task}_head")(x)
        for task, n in TASKS.items()
    }
    return keras.Model(image, outputs, name="tiny")


def factorized() -> keras.Model:
    """Returns the same, overparameterised."""
    return model_transform.overparameterize(network())


def network_without_norm() -> keras.Model:
    """Returns a network whose outputs do not depend on the rest of a batch."""
    keras.utils.set_random_seed(3)
    image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(3, 3, activation="relu", name="trunk")(image)
    outputs = {
        task: keras.layers.Dense(n, name=f"{task}_head")(x)
        for task, n in TASKS.items()
    }
    return keras.Model(image, outputs)


def without_norm() -> keras.Model:
    """Returns the same, overparameterised."""
    return model_transform.overparameterize(network_without_norm())


def squared_error(labels, outputs):
    """Returns (sum, count) of squared differences; NaN labels count not."""
    known = tf.math.is_finite(labels)
    labels = tf.where(known, labels, 0.0)
    squares = tf.where(known, (outputs - labels) ** 2, 0.0)
    return tf.reduce_sum(squares), tf.reduce_sum(tf.cast(known, tf.float32))


def batch(step: int):
    """Returns (images, labels by task), the same for the same step."""
    rng = np.random.default_rng([7, step])
    side = SIDE - 2
    images = rng.standard_normal((BATCH_SIZE, SIDE, SIDE, 3), np.float32)
    labels = {
        task: rng.standard_normal((BATCH_SIZE, side, side, n), np.float32)
        for task, n in TASKS.items()
    }
    return images, labels


def trainer(make_model=factorized, strategy="one_device", **options):
    """Returns a trainer with plain gradient descent, unless told otherwise."""
    options.setdefault(
        "shared_optimizer", lambda: keras.optimizers.SGD(0.1, momentum=0.5)
    )
    return training.Trainer(
        strategy_lib.make_strategy(strategy),
        make_model,
        dict.fromkeys(TASKS, squared_error),
        **options,
    )


def values(made: training.Trainer) -> dict[str, np.ndarray]:
    """Returns copies of all that the next steps depend on."""
    return {
        name: np.array(v.value.numpy())
        for name, v in made.state_variables().items()
    }
