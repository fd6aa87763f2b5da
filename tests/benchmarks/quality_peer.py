"""Does what a Keras user would do instead of a search; see `quality.py`.

    python tests/benchmarks/quality_peer.py '{"task": ..., "method": ...}'

Prints a JSON object: `accuracy` on test data and `num_params`, or the chosen
`learning_rate`. Where images have any number of labels, the accuracy is the
mean average precision, and a probe is a classifier for each class.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn import metrics
from sklearn import multiclass

from keras_munet.data import preprocessing
from keras_munet.data import tasks as tasks_lib
from keras_munet.data import types
from keras_munet.models import layer_factory
from keras_munet.models.vit import base
from keras_munet.roots import packaged

_SIZE = 32
_NUM_EPOCHS = 10
_BATCH_SIZE = 32
_LEARNING_RATES = (1e-3, 3e-3)
_WEIGHT_DECAY = 1e-4
_PENALTIES = tuple(10.0**power for power in range(-4, 3))
_SHRINKAGES = (0.001, 0.01, 0.1)


def main() -> None:
    """Answers one question."""
    asked = json.loads(sys.argv[1])
    data = tasks_lib.load(
        asked["task"],
        data_dir=asked["data_dir"],
        manual_dir=asked["manual_dir"],
    )
    keras.utils.set_random_seed(asked["seed"])
    if asked.get("tune"):
        rates = {rate: _fine_tuned(data, rate)[0] for rate in _LEARNING_RATES}
        print(json.dumps({"learning_rate": max(rates, key=rates.get)}))
    elif asked["method"] == "fine_tune":
        _, accuracy, num_params = _fine_tuned(data, asked["learning_rate"])
        print(json.dumps({"accuracy": accuracy, "num_params": num_params}))
    else:
        print(json.dumps(_probed(data, asked["method"])))


def _pixels(split: types.Split) -> np.ndarray:
    """Returns `[n, 32, 32, 3] float32` in [-1, 1]."""
    starts = range(0, len(split), 512)
    return np.concatenate(
        [
            preprocessing.evaluation_images(
                tf.constant(split.images[i : i + 512]), _SIZE, True
            )
            for i in starts
        ]
    )


def _fine_tuned(
    data: types.TaskData, learning_rate: float
) -> tuple[float, float, int]:
    """Returns (validation accuracy, test accuracy, parameters)."""
    root = packaged.packaged(image_size=_SIZE)
    images = keras.Input((_SIZE, _SIZE, 3))
    x = keras.layers.RandomTranslation(0.1, 0.1)(images)
    x = keras.layers.RandomZoom(0.15, 0.15)(x)
    for component in root.components[:-1]:
        layer = layer_factory.make_layer(component.spec, component.spec.name)
        x = layer(x)
        layer_factory.assign_values(layer, component.spec, component.weights)
    logits = keras.layers.Dense(data.num_classes)(x[:, 0])
    model = keras.Model(images, logits)
    num_steps = _NUM_EPOCHS * -(-len(data.train) // _BATCH_SIZE)
    model.compile(
        keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(
                0.0,
                num_steps,
                warmup_target=learning_rate,
                warmup_steps=num_steps // 10,
            ),
            weight_decay=_WEIGHT_DECAY,
        ),
        keras.losses.BinaryCrossentropy(from_logits=True)
        if data.train.labels.ndim > 1
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(
        _pixels(data.train),
        data.train.labels,
        batch_size=_BATCH_SIZE,
        epochs=_NUM_EPOCHS,
        verbose=0,
    )
    accuracies = [
        _accuracy(
            split.labels,
            model.predict(_pixels(split), batch_size=512, verbose=0),
        )
        for split in (data.validation, data.test)
    ]
    return *accuracies, model.count_params()


def _accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the accuracy, or the mean average precision of several labels."""
    if labels.ndim > 1:
        return float(metrics.average_precision_score(labels, scores))
    if scores.ndim == 1:
        scores = np.stack([-scores, scores], 1)
    return float((scores.argmax(1) == labels).mean())


def _probed(data: types.TaskData, method: str) -> dict[str, Any]:
    """Returns the accuracy of a classifier on frozen features."""
    root = packaged.packaged(image_size=_SIZE)
    layers = [base.from_component(c) for c in root.components[:-1]]

    @tf.function(autograph=False, reduce_retracing=True)
    def embed(images):
        x = images
        for layer in layers:
            x = layer(x)
        return x[:, 0]

    parts = {}
    for name in types.SPLIT_NAMES:
        pixels = _pixels(getattr(data, name))
        parts[name] = np.concatenate(
            [embed(pixels[i : i + 512]) for i in range(0, len(pixels), 512)]
        )
    labels = {n: getattr(data, n).labels for n in types.SPLIT_NAMES}
    estimators = _estimators(method)
    if data.train.labels.ndim > 1:
        estimators = [multiclass.OneVsRestClassifier(e) for e in estimators]
    fits = [e.fit(parts["train"], labels["train"]) for e in estimators]

    def accuracy(fit: Any, split: str) -> float:
        scores = fit.decision_function(parts[split])
        return _accuracy(labels[split], scores)

    best = max(fits, key=lambda fit: accuracy(fit, "validation"))
    return {
        "accuracy": accuracy(best, "test"),
        "num_params": (parts["train"].shape[1] + 1) * data.num_classes,
    }


def _estimators(method: str):
    from sklearn import discriminant_analysis
    from sklearn import linear_model
    from sklearn import pipeline
    from sklearn import preprocessing as scaling

    if method == "lda":
        return [
            discriminant_analysis.LinearDiscriminantAnalysis(
                solver="lsqr", shrinkage=shrinkage
            )
            for shrinkage in _SHRINKAGES
        ]
    return [
        pipeline.make_pipeline(
            scaling.StandardScaler(),
            linear_model.LogisticRegression(C=1.0 / penalty, max_iter=300),
        )
        for penalty in _PENALTIES[2:6]
    ]


if __name__ == "__main__":
    main()
