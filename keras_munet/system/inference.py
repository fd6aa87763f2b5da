"""Labels pictures by a task's published path or by an exported SavedModel.

Invariant: a file is decoded and resized as preparing, training and evaluation
do, and both kinds of model answer by one function, `predict_bytes` of an
export; a file that cannot be read is a row with its reason, and changes the
other scores by the rounding of float32 at most.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeAlias

import numpy as np

from keras_munet import errors
from keras_munet.core import json_fields
from keras_munet.core import printable
from keras_munet.core import specs
from keras_munet.core import target_types
from keras_munet.system import picture_inputs
from keras_munet.system import validation

if TYPE_CHECKING:
    from keras_munet.export import saved_model
    from keras_munet.export import serving_functions

PathLike: TypeAlias = str | os.PathLike[str]
BATCH_SIZE = 64
_SIGNATURE = "predict_bytes"


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The answer to one picture.

    Attributes:
      path: of the file; None for an array.
      label: the class with the highest score; None for a file that cannot be
        read.
      score: of that class, 0 to 1; None where `label` is.
      scores: class name -> score, highest first; they add up to 1 where a
        picture has one label. Empty where `label` is None.
      reason: why the file cannot be read; else empty.
      labels: the classes of the picture, highest score first: `label` alone;
        or where a picture has any number of labels, those whose score is at
        least their threshold, which may be none.
      thresholds: class name -> threshold, where a picture has any number of
        labels; else None.

    Example:
      >>> pictures = np.zeros([1, 8, 8, 1], np.uint8)
      >>> (prediction,) = system.predict("digits", pictures)
      >>> prediction.score == prediction.scores[prediction.label]
      True
    """

    path: str | None
    label: str | None
    score: float | None
    scores: Mapping[str, float]
    reason: str = ""
    labels: tuple[str, ...] = ()
    thresholds: Mapping[str, float] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class PictureFeatures:
    """The features of one picture.

    Attributes:
      path: of the file; None for an array.
      values: `[width] float32`, or the output of the component that was
        named, of a ViT `[tokens, width]`; None for a file that cannot be
        read.
      reason: why the file cannot be read; else empty.

    Example:
      >>> features = PictureFeatures("a.png", np.zeros(192, np.float32))
      >>> features.values.shape
      (192,)
    """

    path: str | None
    values: np.ndarray | None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A function from picture files to scores.

    Attributes:
      class_names: in the order of the scores.
      score: takes the content of picture files, returns
        `[batch, num_classes] float32`. It raises TensorFlow's
        InvalidArgumentError where it does not decode one of them.
      thresholds: of each class the score from which a picture has it; None
        where it has one label.
    """

    class_names: tuple[str, ...]
    score: Callable[[Sequence[bytes]], np.ndarray]
    thresholds: tuple[float, ...] | None = None


# Takes the content of picture files, returns a row for each; raises
# TensorFlow's InvalidArgumentError where it does not decode one of them.
_Function: TypeAlias = Callable[[Sequence[bytes]], np.ndarray]


def classifier(
    task: str,
    state: saved_model.TaskRecord,
    get: Callable[[specs.ComponentRef], specs.Component],
) -> Classifier:
    """Returns the classifier of a published path, the function of an export.

    Args:
      task: its bare name.
      state: its published state.
      get: returns a component by its reference.
    """
    from keras_munet.export import serving_functions

    return Classifier(
        serving_functions.labels(state.class_names, state.num_classes),
        _function(
            task,
            state,
            get,
            lambda served: served.predict_bytes(task),
            "scores",
        ),
        state.thresholds,
    )


def feature_extractor(
    task: str,
    state: saved_model.TaskRecord,
    get: Callable[[specs.ComponentRef], specs.Component],
    component: str | None,
) -> _Function:
    """Returns a function from the content of picture files to features.

    Args:
      task: its bare name.
      state: its published state.
      get: returns a component by its reference.
      component: the place whose whole output is returned; None for what the
        head reads.

    Raises:
      UsageError: the path has no component in that place.
    """
    return _function(
        task,
        state,
        get,
        lambda served: served.features_bytes(task, component),
        "features",
    )


def _function(
    task: str,
    state: saved_model.TaskRecord,
    get: Callable[[specs.ComponentRef], specs.Component],
    make: Callable[[serving_functions.Served], serving_functions.Function],
    output: str,
) -> _Function:
    """Returns one output of a function that a published path serves."""
    import tensorflow as tf

    from keras_munet.data import preprocessing
    from keras_munet.export import options
    from keras_munet.export import serving_functions
    from keras_munet.models.vit import keras_state

    path = state.published
    with keras_state.default_keras_state():
        function = make(
            serving_functions.Served(
                {task: path},
                {task: preprocessing.task_input(path.hparams, state.data)},
                get,
                options.Options(),
                None if state.thresholds is None else {task: state.thresholds},
            )
        )
        # Layers are made here, under the shield.
        function.get_concrete_function()
    return lambda encoded: function(tf.constant(encoded))[output].numpy()


def exported_classifier(folder: PathLike, task: str | None) -> Classifier:
    """Returns the classifier of a task in an exported SavedModel.

    Args:
      folder: of the export, or of its versions, of which the newest counts;
        it need not be trusted.
      task: with or without `private:`; None for the only one.

    Raises:
      UsageError: the export has no such task, or several and none is named.
      StoreError: it is no export, is damaged, or does more than compute.
    """
    import tensorflow as tf

    from keras_munet.export import graph_guard
    from keras_munet.export import output_dir
    from keras_munet.export import saved_model_reader

    base = pathlib.Path(folder)
    newest = (output_dir.versions(base) or [base])[-1]
    described = saved_model_reader.described(newest)
    problem = errors.StoreError(
        f"{newest} is no export: its {saved_model_reader.SIGNATURES_FILE} "
        "does not fit its SavedModel; export again"
    )
    try:
        tasks = described["tasks"]
        name = validation.only_task(task, map(str, tasks))
        signature = tasks[name]["signatures"][_SIGNATURE]
        class_names = tuple(
            printable.printable(label) for label in tasks[name]["class_names"]
        )
        thresholds = _thresholds(tasks[name], len(class_names))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise problem from error
    graph_guard.check(newest)
    loaded = saved_model_reader.load_saved_model(newest, {signature})
    if signature not in loaded.signatures:
        raise problem

    def score(encoded: Sequence[bytes]) -> np.ndarray:
        try:
            answer = loaded.signatures[signature](encoded=tf.constant(encoded))
            scores = answer["scores"].numpy()
        except tf.errors.InvalidArgumentError:
            raise
        except (tf.errors.OpError, KeyError, TypeError, ValueError) as error:
            raise problem from error
        if scores.shape != (len(encoded), len(class_names)):
            raise problem
        return scores

    return Classifier(class_names, score, thresholds)


def _thresholds(
    described: Mapping[str, Any], num_classes: int
) -> tuple[float, ...] | None:
    """Returns the thresholds of a task of an export; None for one label.

    Raises:
      ValueError: there are others than numbers from 0 to 1, one for each
        class.
    """
    if target_types.named(described) is target_types.SINGLE_LABEL:
        return None
    values = described.get("thresholds")
    if (
        not isinstance(values, list)
        or len(values) != num_classes
        or not all(json_fields.is_number(v) and 0 <= v <= 1 for v in values)
    ):
        raise ValueError("its thresholds are no numbers from 0 to 1")
    return tuple(map(float, values))


def predict(
    model: Classifier,
    images_or_paths: Any,
    batch_size: int = BATCH_SIZE,
) -> list[Prediction]:
    """Returns a prediction per picture, in order.

    Args:
      model: answers.
      images_or_paths: paths of files, folders (with the folders below, in the
        order of names) or patterns such as `photos/*.jpg`, of each file one
        prediction; an array `[n, height, width, 1 or 3] uint8`; or a list of
        arrays `[height, width, 1 or 3] uint8`.
      batch_size: how many pictures the model answers at once.

    Raises:
      UsageError: an array is of another kind, or the batch size is below 1.
    """
    predictions = []
    for picture, row in _rows(model.score, images_or_paths, batch_size):
        if row is None:
            predictions.append(
                Prediction(picture.path, None, None, {}, picture.reason)
            )
            continue
        # Of equal scores the first class counts, as in evaluation.
        order = np.argsort(-row, kind="stable")
        scores = {model.class_names[i]: float(row[i]) for i in order}
        label = model.class_names[order[0]]
        labels: tuple[str, ...] = (label,)
        thresholds = None
        if model.thresholds is not None:
            limits = np.array(model.thresholds, np.float32)
            labels = tuple(
                model.class_names[i] for i in order if row[i] >= limits[i]
            )
            thresholds = dict(
                zip(model.class_names, model.thresholds, strict=True)
            )
        predictions.append(
            Prediction(
                *(picture.path, label, scores[label], scores, ""),
                *(labels, thresholds),
            )
        )
    return predictions


def features(
    function: _Function,
    images_or_paths: Any,
    batch_size: int = BATCH_SIZE,
) -> list[PictureFeatures]:
    """Returns the features of each picture, in order.

    Args:
      function: computes them, from `feature_extractor`.
      images_or_paths: as of `predict`.
      batch_size: how many pictures the function takes at once.

    Raises:
      UsageError: an array is of another kind, or the batch size is below 1.
    """
    return [
        PictureFeatures(picture.path, row, picture.reason)
        for picture, row in _rows(function, images_or_paths, batch_size)
    ]


def _rows(
    function: _Function, images_or_paths: Any, batch_size: int
) -> Iterator[tuple[picture_inputs.Picture, np.ndarray | None]]:
    """Yields each picture and what the function computes of it.

    A picture that cannot be read has a reason and no row.
    """
    if (
        not isinstance(batch_size, int)
        or isinstance(batch_size, bool)
        or batch_size < 1
    ):
        raise errors.UsageError(
            f"batch_size is {batch_size!r}; give a whole number from 1"
        )
    pictures = picture_inputs.resolve(images_or_paths)
    for start in range(0, len(pictures), batch_size):
        yield from _batch(function, pictures[start : start + batch_size])


def _batch(
    function: _Function, pictures: Sequence[picture_inputs.Picture]
) -> Iterator[tuple[picture_inputs.Picture, np.ndarray | None]]:
    import tensorflow as tf

    contents, reasons = picture_inputs.read_contents(pictures)
    try:
        rows = _computed(function, contents)
    except tf.errors.InvalidArgumentError:
        # A file is damaged, or of a kind that only Pillow reads.
        contents, reasons = picture_inputs.read_contents(
            pictures, decodable=True
        )
        try:
            rows = _computed(function, contents)
        except tf.errors.InvalidArgumentError as error:
            raise errors.StoreError(
                "the model does not decode a PNG file: "
                f"{' '.join(error.message.split())[:200]}; export again"
            ) from error
    for picture, reason in zip(pictures, reasons, strict=True):
        yield picture._replace(reason=reason), None if reason else rows.pop(0)


def _computed(
    function: _Function, contents: Sequence[bytes]
) -> list[np.ndarray]:
    return list(function(contents)) if contents else []
