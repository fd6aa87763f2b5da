"""Measures the answers of published paths on test images, for a report.

Invariant: predictions are those of `System.model`, on every test image once
up to a given number; nothing is written into the system.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np

from keras_munet.core import classification_metrics
from keras_munet.data import types
from keras_munet.report import predictions as predictions_lib

if TYPE_CHECKING:
    from keras_munet.store import task_state
    from keras_munet.system import system as system_lib

NUM_EXAMPLES_MAX = 10_000
NUM_SAMPLES = 12
_BATCH_SIZE = 128
_TILE_PIXELS_MAX = 96


def measure_predictions(
    system: system_lib.System,
    task_name: str,
    *,
    num_examples_max: int = NUM_EXAMPLES_MAX,
    num_samples: int = NUM_SAMPLES,
) -> predictions_lib.Predictions:
    """Returns what a task's published path answers on its test images.

    Args:
      system: the system.
      task_name: one of its tasks.
      num_examples_max: use at most this many test images, evenly spread.
      num_samples: how many images to show; up to half of them are wrong ones.

    Raises:
      UsageError: the system has no such task.
      DataError: its data are missing or damaged.
    """
    from keras_munet.system import validation

    (name,) = validation.published_names([task_name], system.tasks)
    split = system.data(name).test
    num = min(len(split), num_examples_max)
    chosen = _spread(np.arange(len(split)), num)
    path = None
    # Another job may publish a better path meanwhile.
    while path != (path := (state := system.tasks[name]).published):
        probs = _probs(system, name, split, chosen, state)
    labels = np.asarray(split.labels)[chosen]
    if state.thresholds is None:
        predicted = probs.argmax(axis=1)
        right = labels == predicted
        confusion = classification_metrics.confusion_cells(labels, predicted)
    else:
        predicted = probs >= np.array(state.thresholds)
        right = (labels == predicted).all(axis=1)
        confusion = ()
    samples = []
    for i in _sample(right, num_samples):
        image, _ = split.batch(chosen[i : i + 1])
        samples.append(
            predictions_lib.Sample(
                address=address(image[0]),
                label=_label(labels[i]),
                predicted=_label(predicted[i]),
                prob=round(float(probs[i].max()), 4),
            )
        )
    return predictions_lib.Predictions(
        path_id=path.id,
        num_examples=num,
        num_correct=int(right.sum()),
        confusion=confusion,
        samples=tuple(samples),
    )


def _label(value: np.ndarray) -> predictions_lib.Label:
    """Returns a class, or of an image's flags the classes that it has."""
    return tuple(map(int, np.flatnonzero(value))) if value.ndim else int(value)


def _probs(
    system: system_lib.System,
    name: str,
    split: types.Split,
    chosen: np.ndarray,
    state: task_state.TaskState,
) -> np.ndarray:
    """Returns `[n, num_classes] float32` scores."""
    import tensorflow as tf

    from keras_munet.data import preprocessing
    from keras_munet.models.vit import keras_state

    with keras_state.default_keras_state():
        model = system.model(name)

    hparams = state.published.hparams
    activation = getattr(tf.nn, state.target.activation)

    @tf.function(reduce_retracing=True)
    def probs_of(images: tf.Tensor) -> tf.Tensor:
        pixels = preprocessing.evaluation_images(
            images,
            int(hparams["ds_image_size"]),
            preprocessing.antialias(hparams),
        )
        return activation(model(pixels, training=False))

    parts = []
    for start in range(0, len(chosen), _BATCH_SIZE):
        images, _ = split.batch(chosen[start : start + _BATCH_SIZE])
        parts.append(probs_of(tf.constant(images)).numpy())
    return np.concatenate(parts)


def _sample(right: np.ndarray, num: int) -> np.ndarray:
    """Returns which images to show, in their order.

    A page of right answers says little: as many wrong ones are shown as there
    are, up to half, evenly spread like the others.
    """
    wrong = np.flatnonzero(~right)
    hits = np.flatnonzero(right)
    num_wrong = min(len(wrong), max(num // 2, num - len(hits)))
    num_found = min(len(hits), num - num_wrong)
    return np.sort(
        np.concatenate([_spread(wrong, num_wrong), _spread(hits, num_found)])
    )


def _spread(values: np.ndarray, num: int) -> np.ndarray:
    if not num:
        return values[:0]
    at = np.linspace(0, len(values) - 1, num).round().astype(np.int64)
    return values[at]


def address(image: np.ndarray) -> str:
    """Returns a `[height, width, 1 or 3] uint8` image as a `data:` address."""
    from PIL import Image

    grey = image.shape[-1] == 1 or (image == image[..., :1]).all()
    picture = Image.fromarray(image[..., 0] if grey else image)
    picture.thumbnail((_TILE_PIXELS_MAX, _TILE_PIXELS_MAX))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
