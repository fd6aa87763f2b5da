"""A tiny network for three tasks, and its data."""

from __future__ import annotations

import keras
import numpy as np

from keras_munet.overparam import alternating_model
from keras_munet.overparam import model_transform
from keras_munet.overparam.experiments import settings as settings_lib

TASKS = {"depth": 1, "normals": 3, "segmentation": 4}
SIDE = 4
BATCH_SIZE = 4


def settings(**changes) -> settings_lib.Settings:
    """Returns an experiment of a network of two channels on a few images.

    Args:
      **changes: further settings, such as `method` and `num_epochs`.
    """
    return settings_lib.Settings(
        image_height=8,
        image_width=8,
        num_train=8,
        num_test=40,
        width=2,
        num_stages=1,
        batch_size=4,
        **changes,
    )


def network(norm: bool = True, **options) -> keras.Model:
    """Returns a trunk of two convolutions and a linear head per task."""
    keras.utils.set_random_seed(3)
    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", name="trunk0", **options)(
        image
    )
    if norm:
        x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Conv2D(4, 3, activation="relu", name="trunk1", **options)(
        x
    )
    outputs = {
        task: keras.layers.Dense(n, name=f"{task}_head")(x)
        for task, n in TASKS.items()
    }
    return keras.Model(image, outputs, name="tiny")


def factorized(
    model: keras.Model | None = None,
    optimizer: keras.optimizers.Optimizer | None = None,
    tasks=None,
    **options,
) -> alternating_model.AlternatingModel:
    """Returns it overparameterised and compiled, with plain descent."""
    wide = model_transform.overparameterize(
        network() if model is None else model, tasks, **options
    )
    wide.compile(
        optimizer or keras.optimizers.SGD(0.1, momentum=0.5),
        loss=dict.fromkeys(TASKS, "mse"),
    )
    return wide


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


def batches(steps: range):
    """Returns the images and labels of several steps, end to end."""
    parts = [batch(step) for step in steps]
    return (
        np.concatenate([images for images, _ in parts]),
        {
            task: np.concatenate([labels[task] for _, labels in parts])
            for task in TASKS
        },
    )


def fit(model: keras.Model, steps: range, **options):
    """Trains on the batches of some steps, in order."""
    return model.fit(
        *batches(steps),
        batch_size=BATCH_SIZE,
        shuffle=False,
        verbose=0,
        **options,
    )
