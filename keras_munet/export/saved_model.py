"""Published paths as one SavedModel that needs only TensorFlow to load.

Invariant: every weight is written once, however many tasks use it, and a
task's `predict` computes its own path alone, so exporting more tasks changes
no bit of its results. Preprocessing is inside: raw pixels in, scores out.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import Protocol

import keras
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import names
from keras_munet.core import specs
from keras_munet.data import preprocessing
from keras_munet.graph import builder

ALL_TASKS = "all_tasks"
SIGNATURES_FILE = "signatures.json"


class TaskRecord(Protocol):
    """What an export must know of a task."""

    @property
    def published(self) -> specs.PathRecord:
        """Its published path."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Its class names, in the order of the logits."""


class _Served(tf.Module):
    """Holds the variables once; Keras itself is not saved."""

    def __init__(self, models: list[keras.Model]):
        super().__init__(name="keras_munet")
        self.weights = [v.value for model in models for v in model.variables]


def export(
    out: str | os.PathLike[str],
    tasks: Mapping[str, TaskRecord],
    get: Callable[[specs.ComponentRef], specs.Component],
) -> str:
    """Writes the SavedModel of `tasks`.

    Signatures: `predict_<task>` returns `logits` and `scores`
    `[batch, num_classes] float32`; `all_tasks` (also the default) returns
    `<task>_logits` and `<task>_scores` of every task. `<task>` is the name
    with `_` for what is neither letter nor digit. Each takes `images`:
    `[batch, height, width, 3] uint8`, pixels of any size.

    Args:
      out: the folder to make; it must be absent or empty.
      tasks: task name -> its published state.
      get: returns a component by its reference.

    Returns:
      `out`.

    Raises:
      UsageError: `out` is in use, or two tasks have one signature name.
      StoreError: `out` cannot be written.
    """
    folder = pathlib.Path(out)
    _refuse_used(folder)
    keys = _signature_keys(tasks)
    models = _models_by_size(tasks, get)
    served = _Served(list(models.values()))
    signatures: dict[str, Any] = {}
    for name, state in tasks.items():
        size = state.published.hparams["ds_image_size"]
        whole = models[size]
        alone = keras.Model(whole.input, whole.output[name])
        signatures[f"predict_{keys[name]}"] = _predict(alone, size)
    signatures[ALL_TASKS] = _predict_all(models, keys)
    signatures["serving_default"] = signatures[ALL_TASKS]
    served.functions = list(signatures.values())
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        tf.saved_model.save(served, str(part), signatures=signatures)
        described = _describe(tasks, keys)
        (part / SIGNATURES_FILE).write_text(described, encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        os.replace(part, folder)
    except (OSError, tf.errors.OpError) as e:
        shutil.rmtree(part, ignore_errors=True)
        reason = getattr(e, "strerror", None) or getattr(e, "message", str(e))
        raise errors.StoreError(
            f"cannot write the SavedModel {folder}: "
            f"{' '.join(str(reason).split())}; free space or choose another "
            "folder"
        ) from e
    return str(folder)


def _predict(model: keras.Model, image_size: int):
    @tf.function(input_signature=[_images_spec()], autograph=False)
    def predict(images):
        logits = model(
            preprocessing.evaluation_images(images, image_size),
            training=False,
        )
        return {"logits": logits, "scores": tf.nn.softmax(logits)}

    return predict


def _predict_all(models: Mapping[int, keras.Model], keys: Mapping[str, str]):
    @tf.function(input_signature=[_images_spec()], autograph=False)
    def predict_all(images):
        outputs = {}
        for image_size, model in models.items():
            logits = model(
                preprocessing.evaluation_images(images, image_size),
                training=False,
            )
            for name, value in logits.items():
                outputs[f"{keys[name]}_logits"] = value
                outputs[f"{keys[name]}_scores"] = tf.nn.softmax(value)
        return outputs

    return predict_all


def _images_spec() -> tf.TensorSpec:
    return tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")


def _models_by_size(
    tasks: Mapping[str, TaskRecord],
    get: Callable[[specs.ComponentRef], specs.Component],
) -> dict[int, keras.Model]:
    by_size: dict[int, dict[str, specs.PathRecord]] = {}
    for name, state in tasks.items():
        path = state.published
        by_size.setdefault(path.hparams["ds_image_size"], {})[name] = path
    return {
        size: builder.path_model(paths, get) for size, paths in by_size.items()
    }


def _signature_keys(tasks: Mapping[str, TaskRecord]) -> dict[str, str]:
    keys: dict[str, str] = {}
    for name in tasks:
        key = names.signature_name(name)
        other = next((n for n, k in keys.items() if k == key), None)
        if other is not None:
            raise errors.UsageError(
                f"tasks {other!r} and {name!r} would both be signature "
                f"predict_{key}; export them into two folders with --tasks"
            )
        keys[name] = key
    return keys


def _refuse_used(folder: pathlib.Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise errors.UsageError(
            f"{folder} is in use; give --out a folder that does not exist "
            "yet, or an empty one"
        )


def _describe(tasks: Mapping[str, TaskRecord], keys: Mapping[str, str]) -> str:
    described = {
        name: {
            "signature": f"predict_{keys[name]}",
            "class_names": list(state.class_names),
            "path_id": state.published.id,
            "image_size": state.published.hparams["ds_image_size"],
            "test_accuracy": state.published.metrics.get("test_quality"),
        }
        for name, state in tasks.items()
    }
    return json.dumps({"tasks": described}, indent=2, sort_keys=True) + "\n"
