"""From an ordinary network to one whose kernels are products.

Invariant: the new network gives the outputs of the old one until it is
trained, and every kernel either becomes a product or was named as one to be
kept: nothing is left out silently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from keras_munet import errors
from keras_munet.overparam import contraction
from keras_munet.overparam import layers

_NOT_KEPT = (
    "kernel_regularizer",
    "bias_regularizer",
    "activity_regularizer",
    "kernel_constraint",
    "bias_constraint",
    "lora_rank",
    "lora_alpha",
    "quantization_config",
)


def overparameterize(
    model: keras.Model,
    tasks: Sequence[str] | None = None,
    *,
    depth: int = 1,
    combination: str = "product",
    task_factor: str = "full",
    keep: str | None = None,
) -> keras.Model:
    """Returns a model with the outputs of `model` and factors for kernels.

    A layer gets a factor for each task whose output depends on it.

    Args:
      model: functional or Sequential, ordinary layers; it is not changed.
      tasks: whose factors there are; None for the names of the model's
        outputs, and none for factors that are trained for all tasks alike.
        A model with one output that is not named gives it to all of them.
      depth: square factors in sequence, see `layers.Factorized`.
      combination: `product` or `mean` of the tasks' factors.
      task_factor: `full` or `diagonal`.
      keep: a regular expression, matched at the start of names: layers that
        stay as they are.

    Raises:
      UsageError: a kernel that is not kept cannot be factorised, or a task is
        unknown; each by name.
    """
    options = {
        "depth": depth,
        "combination": combination,
        "task_factor": task_factor,
    }
    keep_pattern = _pattern(keep)
    reached = _tasks_of_layers(model, tasks)

    def replace(layer: keras.layers.Layer) -> keras.layers.Layer:
        if not _has_kernel(layer) or (
            keep_pattern and keep_pattern.match(layer.name)
        ):
            return type(layer).from_config(layer.get_config())
        own = [t for t, names in reached.items() if layer.name in names]
        return _factorized(layer, own, options)

    return contraction.rewritten(model, replace, _copy)


def task_names(model: keras.Model) -> tuple[str, ...]:
    """Returns the names of a model's outputs; none where it has but one."""
    return tuple(_outputs(model))


def _pattern(keep: str | None) -> re.Pattern[str] | None:
    try:
        return None if keep is None else re.compile(keep)
    except re.error as error:
        raise errors.UsageError(
            f"keep is {keep!r}, which is no regular expression ({error}); "
            "give one that matches the names of layers"
        ) from error


def _outputs(model: keras.Model) -> dict[str, Any]:
    """Returns output name -> the tensor in the model's own graph."""
    contraction.check_graph(model)
    structure = model.compute_output_spec(model.inputs)
    if not isinstance(structure, Mapping):
        return {}
    # Keras lists outputs in the order of the sorted names.
    return dict(keras.tree.pack_sequence_as(structure, list(model.outputs)))


def _tasks_of_layers(
    model: keras.Model, tasks: Sequence[str] | None
) -> dict[str, set[str]]:
    """Returns task -> the names of the layers that its output depends on."""
    outputs = _outputs(model)
    if tasks is None:
        if not outputs:
            raise errors.UsageError(
                f"model {model.name!r} has an output without a name; give "
                "`tasks`, or make its outputs a dictionary by task"
            )
        tasks = tuple(outputs)
    if isinstance(tasks, str):
        tasks = (tasks,)
    if not outputs:
        every = _names(model)
        return dict.fromkeys(tasks, every)
    unknown = sorted(set(tasks) - set(outputs))
    if unknown:
        raise errors.UsageError(
            f"model {model.name!r} has no output {unknown[0]!r}; its outputs "
            f"are {', '.join(sorted(outputs))}"
        )
    return {
        task: _names(keras.Model(model.inputs, outputs[task])) for task in tasks
    }


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


def _factorized(
    layer: keras.layers.Layer, tasks: list[str], options: dict[str, Any]
) -> keras.layers.Layer:
    reason = _obstacle(layer)
    if reason:
        raise errors.UsageError(
            f"layer {layer.name!r} ({type(layer).__name__}) cannot be "
            f"factorised: {reason}; change it, or leave it as it is with a "
            "`keep` that matches its name"
        )
    config = layer.get_config()
    own = {key: item for key, item in config.items() if key not in _NOT_KEPT}
    layer_type = (
        layers.FactorizedConv2D
        if type(layer) is keras.layers.Conv2D
        else layers.FactorizedDense
    )
    # Not through from_config, which would hide what is wrong with an option.
    return layer_type(**{**own, "tasks": tasks, **options})


def _obstacle(layer: keras.layers.Layer) -> str:
    """Returns why a layer cannot be factorised, or nothing."""
    if isinstance(layer, layers.Factorized):
        return "it is factorised already"
    # A subclass may compute anything.
    if type(layer) not in (keras.layers.Conv2D, keras.layers.Dense):
        return "only Conv2D and Dense have factors"
    config = layer.get_config()
    present = [key for key in _NOT_KEPT if config.get(key) is not None]
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
