"""Published paths as one SavedModel that needs only TensorFlow to load.

Invariant: every weight is written once, however many tasks use it, and a
task's signatures compute its own path alone, so exporting more tasks changes
no bit of its results. Preprocessing is inside: raw pixels in, scores out. An
export is there whole, with the answers to its canary, or not at all.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Protocol

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_munet import errors
from keras_munet.core import fingerprint
from keras_munet.core import names
from keras_munet.core import plain_paths
from keras_munet.core import specs
from keras_munet.core import target_types
from keras_munet.data import preprocessing
from keras_munet.export import calibration
from keras_munet.export import formats
from keras_munet.export import golden_outputs
from keras_munet.export import model_card
from keras_munet.export import options as options_lib
from keras_munet.export import output_dir
from keras_munet.export import saved_model_reader
from keras_munet.export import served_layers
from keras_munet.export import serving_functions
from keras_munet.export import serving_graph
from keras_munet.export import signature_copies
from keras_munet.export import warmup
from keras_munet.models import path_model
from keras_munet.models.vit import keras_state

ALL_TASKS = "all_tasks"
DEFAULT = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
_KINDS = ("predict", "predict_bytes")
_CLASSIFY = "classify"
_CLASSIFY_METHOD = "tensorflow/serving/classify"
_CALLS = ("PartitionedCall", "StatefulPartitionedCall", "While", "StatelessIf")


class TaskRecord(Protocol):
    """The facts of a task that an export needs."""

    @property
    def published(self) -> specs.PathRecord:
        """Its published path."""

    @property
    def num_classes(self) -> int:
        """The width of its head."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Its class names, in the order of the logits, or none."""

    @property
    def data(self) -> fingerprint.DataFingerprint | None:
        """The fingerprint of its training data; None if none was recorded."""

    @property
    def test_metrics(
        self,
    ) -> target_types.Metrics | None:
        """The measures of its path on test data; None if none was recorded."""

    @property
    def target(self) -> target_types.TargetType:
        """The type of its labels."""

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """The threshold of each class; None where an image has one label."""


@keras_state.default_keras_state()
def export(
    out: str | os.PathLike[str],
    tasks: Mapping[str, TaskRecord],
    get: Callable[[specs.ComponentRef], specs.Component],
    options: options_lib.Options | None = None,
    lineages: Mapping[str, Sequence[str]] | None = None,
    root_source: str | None = None,
    originals: Mapping[str, Sequence[bytes]] | None = None,
) -> str:
    """Writes the SavedModel of `tasks`.

    Signatures, where `<task>` is the name with `_` for what is neither letter
    nor digit: `predict_<task>` and `predict_bytes_<task>` return `logits` and
    `scores`, `[batch, num_classes] float32`, and where an image has any number
    of labels `thresholds`, the same row for each image. `all_tasks` (also the
    default) returns `<task>_logits` and so on of every task, `features` the
    `<task>_features`, `[batch, width] float32`, that the heads read; both
    compute once what tasks share. They take
    `images`, `[batch, height, width, 3] uint8` of any size, or `encoded`,
    `[batch] string` of JPEG, PNG, GIF or BMP files, and of WebP files if the
    options say so. A picture is decoded and resized as preparing, training
    and evaluation do.

    Beside it lie `signatures.json`, `README.md`, `canary.npz`, warm-up
    requests, and what the options add.

    Args:
      out: the folder to make, which must be absent or empty; or the folder
        of versions.
      tasks: task name -> its published state.
      get: returns a component by its reference.
      options: see `options.Options`.
      lineages: task name -> the tasks that its path descends from.
      root_source: where the root's values came from, for people.
      originals: task name -> picture files that it was made from, which the
        canary keeps and replays.

    Returns:
      The folder of the SavedModel.

    Raises:
      UsageError: `out` is in use or has characters of a pattern, or two
        tasks have one signature name.
      StoreError: `out` cannot be written.
    """
    options = options or options_lib.Options()
    formats.require(options.formats, options.weights)
    plain_paths.refuse_pattern(out, "the folder of an export")
    folder = pathlib.Path(out)
    if options.versioned:
        folder = output_dir.next_version(folder)
    else:
        output_dir.refuse_used(folder)
    keys = _signature_keys(tasks, options)
    paths = {name: state.published for name, state in tasks.items()}
    if options.feature_component is not None:
        for path in paths.values():
            path_model.position(path, options.feature_component)
    if options.calibrate:
        tasks, get = calibration.calibrated(tasks, get)
    inputs = {name: _input(state) for name, state in tasks.items()}
    served = serving_functions.Served(
        *(paths, inputs, get, options), _thresholds(tasks)
    )
    signatures, copies = _signatures(served, tasks, keys, options)
    unique = {c.id: c.num_params for p in paths.values() for c in p.components}
    text = model_card.card_text(
        tasks,
        keys,
        options.weights,
        sum(unique.values()),
        lineages or {},
        root_source,
        calibrate=options.calibrate,
    )
    recorded = golden_outputs.sample(
        {name: served.structure(name) for name in tasks}, options.verify
    )
    requests = _requests(keys.values(), options.classify)
    with output_dir.written_whole(folder) as part:
        _save(part, served.module, signatures, copies)
        (part / saved_model_reader.SIGNATURES_FILE).write_text(
            _described(tasks, keys, options), encoding="utf-8"
        )
        (part / "README.md").write_text(text, encoding="utf-8")
        warmup.write_warmup(part, options.model_name, requests)
        formats.write(
            part,
            options.formats,
            {keys[name]: path for name, path in paths.items()},
            get,
            options.weights,
            {keys[name]: state.target for name, state in tasks.items()},
        )
        golden_outputs.record(part, recorded, originals)
    return str(folder)


def _input(state: TaskRecord) -> preprocessing.ModelInput:
    return preprocessing.task_input(state.published.hparams, state.data)


def _thresholds(
    tasks: Mapping[str, TaskRecord],
) -> dict[str, tuple[float, ...]]:
    """Returns those of tasks whose images have any number of labels."""
    return {
        name: state.thresholds
        for name, state in tasks.items()
        if state.thresholds is not None
    }


def _signatures(
    served: serving_functions.Served,
    tasks: Mapping[str, TaskRecord],
    keys: Mapping[str, str],
    options: options_lib.Options,
) -> tuple[dict[str, Any], list[signature_copies.Copy]]:
    """Returns the signatures to trace, and those that are like one of them.

    Of the tasks of one structure those of the first are traced.
    """
    kinds = (*_KINDS, _CLASSIFY) if options.classify else _KINDS
    signatures: dict[str, Any] = {}
    copies = []
    firsts: dict[serving_graph.Structure, str] = {}
    for name, state in tasks.items():
        key, labels = keys[name], _labels(state)
        first = firsts.setdefault(served.structure(name), key)
        if first != key:
            constants = served.constants(name, labels)
            copies += [
                signature_copies.Copy(
                    f"{prefix}_{key}", f"{prefix}_{first}", constants
                )
                for prefix in kinds
            ]
            continue
        signatures[f"predict_{key}"] = served.predict(name)
        signatures[f"predict_bytes_{key}"] = served.predict_bytes(name)
        if options.classify:
            signatures[f"{_CLASSIFY}_{key}"] = served.classify(name, labels)
    signatures[golden_outputs.FEATURES] = served.features(
        keys, options.feature_component
    )
    signatures[ALL_TASKS] = served.all_tasks(keys)
    copies.append(signature_copies.Copy(DEFAULT, ALL_TASKS, {}))
    return signatures, copies


def _save(
    folder: pathlib.Path,
    module: tf.Module,
    signatures: Mapping[str, Any],
    copies: Iterable[signature_copies.Copy],
) -> None:
    try:
        tf.saved_model.save(
            module,
            str(folder),
            signatures=signatures,
            options=tf.saved_model.SaveOptions(
                experimental_custom_gradients=False
            ),
        )
    except tf.errors.OpError as error:
        # Such as a full disk; the caller says where.
        raise OSError(None, " ".join(error.message.split())) from error
    file = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    (graph,) = saved.meta_graphs
    for name, signature in graph.signature_def.items():
        if name.startswith(f"{_CLASSIFY}_"):
            signature.method_name = _CLASSIFY_METHOD
    for function in graph.graph_def.library.function:
        _strip(function)
    signature_copies.add(graph, copies)
    file.write_bytes(saved.SerializeToString(deterministic=True))
    # It is the fingerprint of the file before, and not required.
    (folder / "fingerprint.pb").unlink(missing_ok=True)


def _strip(function: Any) -> None:
    """Takes out of a function what its other parts imply; a fifth of it.

    Shapes of operations follow from their inputs, those of arguments stand in
    the function's own attributes too, and captured variables have no name
    of any source.
    """
    for node in function.node_def:
        if node.op not in _CALLS:
            node.attr.pop("_output_shapes", None)
        # Gradients of what is served are never requested; loading would warn.
        node.attr.pop("_gradient_op_type", None)
    if "_input_shapes" in function.attr:
        for number, arg in enumerate(function.signature.input_arg):
            attributes = function.arg_attr[number].attr
            attributes.pop("_output_shapes", None)
            if arg.name.startswith("unknown"):
                attributes.pop("_user_specified_name", None)


def _requests(
    keys: Iterable[str], classify: bool
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields the warm-up requests: each signature with one small image."""
    image = np.zeros([1, 4, 4, 3], np.uint8)
    encoded = tf.io.encode_png(image[0]).numpy()
    png = np.array([encoded], object)
    example = np.array([serving_functions.example(encoded)], object)
    yield ALL_TASKS, "images", image
    yield golden_outputs.FEATURES, "images", image
    for key in keys:
        yield f"predict_{key}", "images", image
        yield f"predict_bytes_{key}", "encoded", png
        if classify:
            # The server takes a PredictRequest for this signature too.
            yield f"{_CLASSIFY}_{key}", "inputs", example


def _signature_keys(
    tasks: Mapping[str, TaskRecord], options: options_lib.Options
) -> dict[str, str]:
    """Returns task name -> its part of signatures' names.

    Raises:
      UsageError: two signatures would have one name.
    """
    kinds = (*_KINDS, _CLASSIFY) if options.classify else _KINDS
    keys = {name: names.signature_name(name) for name in tasks}
    owners: dict[str, str] = {}
    for name, key in keys.items():
        for signature_type in kinds:
            signature = f"{signature_type}_{key}"
            if signature in owners:
                raise errors.UsageError(
                    f"tasks {owners[signature]!r} and {name!r} would both be "
                    f"signature {signature}; export them into two folders "
                    "with --tasks"
                )
            owners[signature] = name
    return keys


def _labels(state: TaskRecord) -> list[str]:
    return list(serving_functions.labels(state.class_names, state.num_classes))


def _labels_described(state: TaskRecord) -> dict[str, Any]:
    """Returns what a client needs where an image has any number of labels."""
    if state.thresholds is None:
        return {}
    metrics = state.test_metrics
    return {
        "test_accuracy": None,
        "test_mean_average_precision": (
            metrics.mean_average_precision
            if isinstance(metrics, target_types.MULTI_LABEL.metrics)
            else None
        ),
        "target_type": state.target.name,
        "thresholds": list(state.thresholds),
    }


def _described(
    tasks: Mapping[str, TaskRecord],
    keys: Mapping[str, str],
    options: options_lib.Options,
) -> str:
    kinds = (*_KINDS, _CLASSIFY) if options.classify else _KINDS
    described = {
        name: {
            "key": keys[name],
            "signatures": {
                signature_type: f"{signature_type}_{keys[name]}"
                for signature_type in kinds
            },
            "class_names": _labels(state),
            "path_id": state.published.id,
            # `image_size`, `antialias` and `stored`.
            **_input(state)._asdict(),
            "test_accuracy": state.published.metrics.get("test_quality"),
            **_labels_described(state),
        }
        for name, state in tasks.items()
    }
    written = {
        "tasks": described,
        "weights": options.weights,
        "graph": served_layers.GRAPH,
        "feature_component": options.feature_component,
    }
    return json.dumps(written, indent=1, sort_keys=True) + "\n"
