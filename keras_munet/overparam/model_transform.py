"""From an ordinary network to one whose kernels are products.

Invariant: the new network gives the outputs of the old one until it is
trained, and every kernel either becomes a product, has no matrix to
factorise, which a warning says, or was named as one to be kept.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from keras_munet import errors
from keras_munet.overparam import alternating_model
from keras_munet.overparam import contraction
from keras_munet.overparam import factorization
from keras_munet.overparam import layers
from keras_munet.overparam import schedule
from keras_munet.overparam import validation

# A value of these would act on the kernel, which is no weight.
_REFUSED = (
    "kernel_constraint",
    "bias_constraint",
    "lora_rank",
    "lora_alpha",
    "quantization_config",
)
# Their kernels are one filter per channel: no matrix.
_WITHOUT_MATRIX = (
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
_FACTORIZED = {
    keras.layers.Conv2D: layers.FactorizedConv2D,
    keras.layers.Conv2DTranspose: layers.FactorizedConv2DTranspose,
    keras.layers.Dense: layers.FactorizedDense,
}
_NUM_NAMES_MAX = 3


def overparameterize(
    model: keras.Model,
    tasks: Sequence[str] | None = None,
    *,
    depth: int = factorization.DEPTH,
    task_factor: str = factorization.TASK_FACTOR,
    shared_steps: int = 1,
    task_steps: int = 1,
    keep: str | None = None,
) -> alternating_model.AlternatingModel:
    """Returns a model with the outputs of `model` and factors for kernels.

    A layer gets a factor for each task whose output depends on it. `compile`
    and `fit` of the result train shared factors and those of tasks in turn.

    Args:
      model: functional or Sequential, ordinary layers; it is not changed.
      tasks: names of the tasks, one for each output that shall have factors
        of its own: the names of outputs, or one for each output in order.
        None for the names of all outputs; `()` for factors that are trained
        for all tasks alike.
      depth: square factors in sequence, see `layers.Factorized`.
      task_factor: `full` or `diagonal`.
      shared_steps: batches in a row for the shared variables.
      task_steps: batches in a row for the factors of each task after them.
      keep: a regular expression, searched in names: layers that stay as they
        are.

    Raises:
      UsageError: a kernel that is not kept cannot be factorised, or tasks and
        outputs do not agree; each by name.

    Example:
      >>> image = keras.Input([8])
      >>> hidden = keras.layers.Dense(4, "relu")(image)
      >>> outputs = {t: keras.layers.Dense(1)(hidden) for t in ("a", "b")}
      >>> wide = overparameterize(keras.Model(image, outputs))
      >>> wide.compile("adam", loss={"a": "mse", "b": "mae"})
      >>> deployed = contraction.contract(wide)
      >>> deployed.count_params()
      46
    """
    options = {"depth": depth, "task_factor": task_factor}
    divided = schedule.Schedule(shared_steps, task_steps)
    keep_pattern = _pattern(keep)
    task_outputs = _find_outputs(model, tasks)
    flat = list(model.outputs)
    reached = {
        task: _names(keras.Model(model.inputs, flat[output_index]))
        for task, output_index in task_outputs.items()
    }
    without_matrix = []

    def replace(layer: keras.layers.Layer) -> keras.layers.Layer:
        is_kept = keep_pattern and keep_pattern.search(layer.name)
        if is_kept or not _has_kernel(layer):
            return type(layer).from_config(layer.get_config())
        if type(layer) in _WITHOUT_MATRIX:
            without_matrix.append(layer)
            return type(layer).from_config(layer.get_config())
        own = [t for t, names in reached.items() if layer.name in names]
        return _factorized(layer, own, options)

    clone = contraction.rewritten(model, replace, _copy)
    if without_matrix:
        warnings.warn(_same_layers_notice(without_matrix), stacklevel=2)
    return _as_alternating(model, clone, task_outputs, divided)


overparameterise = overparameterize


def _pattern(keep: str | None) -> re.Pattern[str] | None:
    try:
        return None if keep is None else re.compile(keep)
    except re.error as error:
        raise errors.UsageError(
            f"keep is {keep!r}, which is no regular expression ({error}); "
            "give one that is searched in the names of layers"
        ) from error


def _as_alternating(
    model: keras.Model,
    clone: keras.Model,
    task_outputs: Mapping[str, int],
    divided: schedule.Schedule,
) -> alternating_model.AlternatingModel:
    """Returns a clone's graph as a model that alternates."""
    structure = _output_structure(model)
    outputs = keras.tree.pack_sequence_as(structure, list(clone.outputs))
    is_functional = not isinstance(model, keras.Sequential)
    inputs = clone.input if is_functional else clone.inputs[0]
    alternating = alternating_model.AlternatingModel(
        inputs, outputs, name=model.name
    )
    alternating.trainable = model.trainable
    alternating.alternate(task_outputs, divided)
    return alternating


def _output_structure(model: keras.Model) -> Any:
    """Returns the model's outputs in the structure that it gives them."""
    contraction.check_graph(model)
    if isinstance(model, keras.Sequential):
        return model.outputs[0]
    return model.output


def _find_outputs(
    model: keras.Model, tasks: Sequence[str] | None
) -> dict[str, int]:
    """Returns task -> the output_index of its output among the flattened ones.

    Raises:
      UsageError: names and outputs do not agree.
    """
    structure = _output_structure(model)
    # Keras flattens mappings in the order of the sorted keys.
    by_key = sorted(structure) if isinstance(structure, Mapping) else []
    is_sequential = isinstance(model, keras.Sequential)
    last = [model.layers[-1].name] if is_sequential else model.output_names
    names = by_key or list(last)
    if tasks is None:
        tasks = names
    tasks = validation.tasks(tasks)
    if not tasks or set(tasks) <= set(names):
        return {task: names.index(task) for task in tasks}
    if by_key:
        unknown = sorted(set(tasks) - set(names))
        raise errors.UsageError(
            f"model {model.name!r} has no output {unknown[0]!r}; its outputs "
            f"are {', '.join(names)}"
        )
    if len(tasks) != len(names):
        raise errors.UsageError(
            f"model {model.name!r} has {len(names)} outputs "
            f"({', '.join(names)}) and tasks has {len(tasks)} names "
            f"({', '.join(tasks)}); give one name for each output, in order"
        )
    return {task: output_index for output_index, task in enumerate(tasks)}


def _names(model: keras.Model) -> set[str]:
    """Returns the names of a model's layers and of those within them."""
    layer_names = set()
    for layer in model.layers:
        layer_names.add(layer.name)
        if isinstance(layer, keras.Model):
            layer_names |= _names(layer)
    return layer_names


def _has_kernel(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer has weights that could be a product."""
    if isinstance(layer, layers.Factorized):
        return True
    return any(
        variable.trainable and len(variable.shape) > 1
        for variable in layer.weights
    )


def _same_layers_notice(same_layers: Sequence[keras.layers.Layer]) -> str:
    types = ", ".join(sorted({type(layer).__name__ for layer in same_layers}))
    names = [layer.name for layer in same_layers[:_NUM_NAMES_MAX]]
    num_more = len(same_layers) - len(names)
    more = f" and {num_more} more" if num_more else ""
    return (
        f"{len(same_layers)} layers stay as they are, as a {types} has no "
        f"matrix to factorise: {', '.join(names)}{more}"
    )


def _factorized(
    layer: keras.layers.Layer, tasks: list[str], options: dict[str, Any]
) -> keras.layers.Layer:
    reason = _obstacle(layer)
    if reason:
        raise errors.UsageError(
            f"layer {layer.name!r} ({type(layer).__name__}) cannot be "
            f"factorised: {reason}; change it, or leave it as it is with a "
            "`keep` that its name contains"
        )
    config = layer.get_config()
    own = {key: item for key, item in config.items() if key not in _REFUSED}
    # Not through from_config, which would hide what is wrong with an option.
    layer_type = _FACTORIZED[type(layer)]
    return layer_type(**{**own, "tasks": tasks, **options})


def _obstacle(layer: keras.layers.Layer) -> str:
    """Returns why a layer cannot be factorised, or nothing."""
    if isinstance(layer, layers.Factorized):
        return "it is factorised already"
    # A subclass may compute anything.
    if type(layer) not in _FACTORIZED:
        names = [layer_type.__name__ for layer_type in _FACTORIZED]
        return f"only {', '.join(names)} have factors"
    config = layer.get_config()
    present = [key for key in _REFUSED if config.get(key) is not None]
    if present:
        return f"its {present[0]} would act on the kernel, which is no weight"
    if getattr(layer, "quantization_mode", None):
        return "its kernel is quantized"
    return ""


def _copy(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    if not isinstance(new, layers.Factorized):
        new.set_weights(old.get_weights())
        return
    new.assign_kernel(keras.ops.convert_to_numpy(old.kernel))
    if new.bias is not None:
        new.bias.assign(old.bias)
