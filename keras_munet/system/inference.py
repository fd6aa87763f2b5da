"""Labels pictures with a task's published path or with an exported SavedModel.

Invariant: a file is decoded and resized as preparing, training and evaluation
do, and both kinds of model answer by one function, `predict_bytes` of an
export; a file that cannot be read is a row with its reason, and changes the
other scores by the rounding of float32 at most.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple
from typing import TypeAlias

import numpy as np
from etils import epath

from keras_munet import errors
from keras_munet.core import printable
from keras_munet.core import specs
from keras_munet.data import folders
from keras_munet.data.own import images as own_images
from keras_munet.data.own import layout as own_layout
from keras_munet.data.own import sources as own_sources
from keras_munet.system import validation

if TYPE_CHECKING:
    from keras_munet.export import saved_model

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
      scores: class name -> score, highest first; they add up to 1. Empty
        where `label` is None.
      reason: why the file cannot be read; else empty.
    """

    path: str | None
    label: str | None
    score: float | None
    scores: Mapping[str, float]
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A function from picture files to scores.

    Attributes:
      class_names: in the order of the scores.
      score: takes the content of picture files, returns
        `[batch, num_classes] float32`. It raises TensorFlow's
        InvalidArgumentError where it does not decode one of them.
    """

    class_names: tuple[str, ...]
    score: Callable[[Sequence[bytes]], np.ndarray]


class _Picture(NamedTuple):
    """A picture before it is read: a file, pixels, or a reason for neither."""

    path: str | None
    pixels: np.ndarray | None = None
    reason: str = ""


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
    import tensorflow as tf

    from keras_munet.data import preprocessing
    from keras_munet.export import options
    from keras_munet.export import serving_functions
    from keras_munet.models.vit import keras_state

    path = state.published
    with keras_state.shielded():
        model = serving_functions.Served(
            {task: path},
            {task: preprocessing.task_input(path.hparams, state.data)},
            get,
            options.Options(),
        )
        predict_bytes = model.predict_bytes(task)
        # Layers are made here, under the shield.
        predict_bytes.get_concrete_function()

    def score(encoded: Sequence[bytes]) -> np.ndarray:
        return predict_bytes(tf.constant(encoded))["scores"].numpy()

    return Classifier(
        serving_functions.labels(state.class_names, state.num_classes), score
    )


def exported_classifier(folder: PathLike, task: str | None) -> Classifier:
    """Returns the classifier of a task in an exported SavedModel.

    Args:
      folder: of the export, or of its versions, of which the newest counts;
        it may come from anybody.
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
    except (AttributeError, KeyError, TypeError) as error:
        raise problem from error
    graph_guard.check(newest)
    loaded = saved_model_reader.load(newest)
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

    return Classifier(class_names, score)


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
    if not isinstance(batch_size, int) or batch_size < 1:
        raise errors.UsageError(
            f"batch_size is {batch_size!r}; give a whole number from 1"
        )
    pictures = _pictures(images_or_paths)
    return [
        prediction
        for start in range(0, len(pictures), batch_size)
        for prediction in _batch(model, pictures[start : start + batch_size])
    ]


def _batch(
    model: Classifier, pictures: Sequence[_Picture]
) -> Iterator[Prediction]:
    import tensorflow as tf

    contents, reasons = _read(pictures, _content)
    try:
        rows = _scores(model, contents)
    except tf.errors.InvalidArgumentError:
        # A file is damaged, or of a kind that only Pillow reads.
        contents, reasons = _read(pictures, _decodable)
        try:
            rows = _scores(model, contents)
        except tf.errors.InvalidArgumentError as error:
            raise errors.StoreError(
                "the model does not decode a PNG file: "
                f"{' '.join(error.message.split())[:200]}; export again"
            ) from error
    for picture in pictures:
        reason = reasons.pop(0)
        if reason:
            yield Prediction(picture.path, None, None, {}, reason)
            continue
        row = rows.pop(0)
        # Of equal scores the first class counts, as in evaluation.
        order = np.argsort(-row, kind="stable")
        scores = {model.class_names[i]: float(row[i]) for i in order}
        label = model.class_names[order[0]]
        yield Prediction(picture.path, label, scores[label], scores)


def _scores(model: Classifier, contents: Sequence[bytes]) -> list[np.ndarray]:
    return list(model.score(contents)) if contents else []


def _read(
    pictures: Sequence[_Picture], read: Callable[[_Picture], bytes]
) -> tuple[list[bytes], list[str]]:
    """Returns the contents of readable pictures, and a reason per picture."""
    contents, reasons = [], []
    for picture in pictures:
        reason = picture.reason
        if not reason:
            try:
                contents.append(read(picture))
            except own_images.UnusableImageError as error:
                reason = str(error)
            except OSError as error:
                reason = f"cannot be read: {error.strerror or error}"
        reasons.append(printable.printable(reason))
    return contents, reasons


def _content(picture: _Picture) -> bytes:
    """Returns a picture as a file whose head states a picture.

    Raises:
      UnusableImageError: the head does not.
      OSError: the file cannot be read.
    """
    if picture.pixels is not None:
        return _png(picture.pixels)
    path = epath.Path(picture.path or "")
    content = own_sources.Example("", "", path).read()
    own_images.size_of(content)
    return content


def _decodable(picture: _Picture) -> bytes:
    """Returns a picture as a file that every export decodes.

    Raises:
      UnusableImageError: it is damaged.
      OSError: it cannot be read.
    """
    content = _content(picture)
    decoded = own_images.picture(content)
    return _png(decoded.pixels) if decoded.unserved else content


def _png(pixels: np.ndarray) -> bytes:
    import tensorflow as tf

    # Speed counts here, not size.
    return tf.io.encode_png(pixels, compression=1).numpy()


def _pictures(images_or_paths: Any) -> list[_Picture]:
    if isinstance(images_or_paths, str | os.PathLike):
        return list(_files([images_or_paths]))
    if not hasattr(images_or_paths, "__iter__"):
        raise errors.UsageError(
            f"{type(images_or_paths).__name__} is given; give paths, an array "
            "[n, height, width, 1 or 3] uint8, or a list of arrays"
        )
    # Arrays of other libraries, e.g. tensors, become NumPy's.
    items = list(
        np.asarray(images_or_paths)
        if hasattr(images_or_paths, "__array__")
        else images_or_paths
    )
    if all(isinstance(item, str | os.PathLike) for item in items):
        return list(_files(items))
    return [
        _Picture(None, _checked(index, image))
        for index, image in enumerate(items)
    ]


def _checked(index: int, image: Any) -> np.ndarray:
    """Returns the pixels of one picture.

    Raises:
      UsageError: it is no array of pixels.
    """
    if not hasattr(image, "__array__"):
        raise _no_picture(index, type(image).__name__)
    pixels = np.asarray(image)
    shape: tuple[int, ...] = pixels.shape
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or shape[-1] not in (1, 3):
        raise _no_picture(index, f"{list(shape)} {pixels.dtype}")
    if not 0 < shape[0] * shape[1] <= own_images.NUM_PIXELS_MAX:
        raise _no_picture(
            index,
            f"{shape[0]} x {shape[1]} pixels, not 1 to "
            f"{own_images.NUM_PIXELS_MAX:,}",
        )
    return pixels


def _no_picture(index: int, what: str) -> errors.UsageError:
    return errors.UsageError(
        f"picture {index} is {what}; give paths alone, or arrays alone, each "
        "[height, width, 1 or 3] uint8"
    )


def _files(names: Iterable[PathLike]) -> Iterator[_Picture]:
    """Yields each file that paths, folders and patterns name, once."""
    yielded = set()
    for name in names:
        for path, reason in _expanded(os.fsdecode(name)):
            key = path if folders.is_remote(path) else os.path.abspath(path)
            if key not in yielded:
                yielded.add(key)
                yield _Picture(path, reason=reason)


def _is_dir(path: str) -> bool:
    if folders.is_remote(path):
        return epath.Path(path).is_dir()
    return os.path.isdir(path)


def _expanded(name: str) -> Iterator[tuple[str, str]]:
    """Yields (path, reason) of each file that one name stands for."""
    matches = [name]
    # A file whose own name has brackets is that file.
    if (
        not folders.is_remote(name)
        and not os.path.lexists(name)
        and glob.has_magic(name)
    ):
        matches = sorted(glob.glob(name, recursive=True))
        if not matches:
            yield name, "no file matches this pattern"
    for match in matches:
        if not _is_dir(match):
            yield match, ""
            continue
        below = list(own_layout.files_below(epath.Path(match)))
        for path, reason in below:
            yield os.fspath(path), reason
        if not below:
            yield match, "no file is in this folder"
