"""Describes the file formats that an export adds to its SavedModel.

A format is one file with an `ExportFormat` and one line in `options.FORMATS`,
or an entry point of group `keras_munet.export_formats` in another distribution.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NoReturn

import tensorflow as tf

from keras_munet import errors
from keras_munet.core import plugins
from keras_munet.core import specs
from keras_munet.core import target_types
from keras_munet.data import preprocessing
from keras_munet.export import options
from keras_munet.export import served_layers
from keras_munet.models import layer_factory
from keras_munet.models import path_model


@dataclasses.dataclass(frozen=True)
class Classifier:
    """One task's path as a function whose weights are constants.

    Attributes:
      function: a `tf.function` from `images`, `[batch, size, size, 3] uint8`
        of the path's own size, to `logits` and `scores`,
        `[batch, num_classes] float32`.
      image_size: side of its images, pixels.
      weights: how weights are stored; see `options.Options`.

    Example:
      >>> function = tf.function(
      ...     lambda images: {"logits": tf.zeros([tf.shape(images)[0], 2])}
      ... )
      >>> classifier = Classifier(function, 32, "float32")
      >>> pixels = tf.zeros([5, 32, 32, 3], tf.uint8)
      >>> classifier.function(pixels)["logits"].shape
      TensorShape([5, 2])
    """

    function: Any
    image_size: int
    weights: str


def _nothing_needed() -> None:
    """Accepts a format without packages of its own."""


@dataclasses.dataclass(frozen=True)
class ExportFormat:
    """A task's file or folder beside the SavedModel: `<format>/<task><suffix>`.

    Attributes:
      suffix: how a file's name ends, e.g. `.onnx`; empty for a folder.
      convert: returns the bytes of a classifier's file, or of a folder's
        files by their paths in it.
      weights: the ways of storing weights that it has.
      require: raises UsageError where a package is missing that it needs.

    Example:
      >>> def convert(classifier):
      ...     return str(classifier.image_size).encode()
      >>> sizes = ExportFormat(".txt", convert, weights=("float32",))
      >>> sizes.convert(Classifier(None, 32, "float32"))
      b'32'
    """

    suffix: str
    convert: Callable[[Classifier], bytes | Mapping[str, bytes]]
    weights: tuple[str, ...]
    require: Callable[[], None] = _nothing_needed


def require(names: tuple[str, ...], weights: str) -> None:
    """Refuses formats that cannot be written, before anything is.

    Args:
      names: of formats, `savedmodel` among them.
      weights: how weights are to be stored.

    Raises:
      UsageError: a format is unknown, needs a package that is missing, or
        does not store weights so; or the SavedModel is left out.
    """
    if options.SAVED_MODEL not in names:
        raise errors.UsageError(
            f"formats={','.join(names)!r} leaves out "
            f"{options.SAVED_MODEL}, which every export has; add it"
        )
    for name in names:
        if name == options.SAVED_MODEL:
            continue
        export_format = options.FORMATS.get(name)
        if weights not in export_format.weights:
            raise errors.UsageError(
                f"weights={weights} cannot be stored in format {name}; use "
                f"one of {', '.join(export_format.weights)}, or leave out "
                f"the format"
            )
        export_format.require()


def write(
    folder: pathlib.Path,
    names: tuple[str, ...],
    paths: Mapping[str, specs.PathRecord],
    get: Callable[[specs.ComponentRef], specs.Component],
    weights: str,
    targets: Mapping[str, target_types.TargetType],
) -> None:
    """Writes the files of all formats but the SavedModel.

    Args:
      folder: of the export.
      names: of formats.
      paths: file name without suffix -> a task's path.
      get: returns a component by its reference.
      weights: see `Classifier`.
      targets: file name without suffix -> the type of the task's labels.

    Raises:
      UsageError: a format's converter failed.
    """
    added = [name for name in names if name != options.SAVED_MODEL]
    for name in added:
        (folder / name).mkdir()
    for stem, path in paths.items() if added else ():
        task = classifier(path, get, weights, targets[stem])
        for name in added:
            export_format = options.FORMATS.get(name)
            with plugins.name_errors("export format", name):
                files = _files(name, export_format.convert(task))
            target = folder / name / f"{stem}{export_format.suffix}"
            for file, content in files.items():
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                (target / file).write_bytes(content)


def _files(name: str, converted: Any) -> dict[str, bytes]:
    """Returns what a format converted to, the one file by an empty name.

    Raises:
      UsageError: a content is not bytes, or a name does not lead down from
        the folder, or is that of another file's folder.
    """
    is_folder = isinstance(converted, Mapping)
    contents = dict(converted) if is_folder else {"": converted}
    files = {}
    for file, content in contents.items():
        if not isinstance(content, bytes | bytearray | memoryview):
            _refuse(name, f"a value of type {type(content).__name__}")
        files[file] = bytes(content)
    if is_folder:
        if not files:
            _refuse(name, "no file")
        for file in files:
            if not _is_plain(file) or not files.keys().isdisjoint(
                map(str, pathlib.PurePosixPath(file).parents)
            ):
                _refuse(name, f"a file {file!a}")
    return files


def _is_plain(file: object) -> bool:
    """Returns whether a file has a name that leads down from its folder."""
    return (
        isinstance(file, str)
        and not {"\\", "\0"} & {*file}
        and not {"", ".", ".."} & {*file.split("/")}
    )


def _refuse(name: str, returned: str) -> NoReturn:
    raise errors.UsageError(
        f"export format {name!r} returned {returned}; it returns bytes, or a "
        "mapping from relative names of files to bytes; fix the plug-in"
    )


def classifier(
    path: specs.PathRecord,
    get: Callable[[specs.ComponentRef], specs.Component],
    weights: str,
    target: target_types.TargetType = target_types.SINGLE_LABEL,
) -> Classifier:
    """Returns the classifier of a path.

    Args:
      path: the path.
      get: returns a component by its reference.
      weights: see `Classifier`.
      target: the type of the task's labels.
    """
    activation = getattr(tf.nn, target.activation)
    components = [get(ref) for ref in path.components]
    chain = [layer_factory.make_layer(c.spec, c.spec.name) for c in components]
    layers = [served_layers.served(c.spec) for c in components]
    size = path.hparams["ds_image_size"]
    spec = tf.TensorSpec([None, size, size, 3], tf.uint8, name="images")

    @tf.function(autograph=False, input_signature=[spec])
    def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
        tensor = preprocessing.evaluation_images(images, size)
        for component, layer, class_token_only in zip(
            components, layers, path_model.class_token_flags(chain), strict=True
        ):
            with tf.name_scope(served_layers.scope_name(component.spec.name)):
                constants = [
                    tf.constant(array, name=served_layers.scope_name(name))
                    for name, array in layer.pack(component.weights)
                ]
                tensor = layer.compute(tensor, constants, class_token_only)
        return {"logits": tensor, "scores": activation(tensor)}

    return Classifier(predict, size, weights)
