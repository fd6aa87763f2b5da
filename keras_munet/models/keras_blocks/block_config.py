"""The config of one block as a functional model of its own.

Invariant: a block's model has one input, its layers keep their names and
configs, and only references to tensors are rewritten.
"""

from __future__ import annotations

from typing import Any

from keras_munet.models.keras_blocks import slicing

# The name of a block's input layer.
INPUT = "block_input"
_MODEL = "Functional"


def block_config(
    config: dict[str, Any], block: slicing.Block, shape: tuple[int | None, ...]
) -> dict[str, Any]:
    """Returns the config of a block as a functional model of its own.

    Args:
      config: the whole model's.
      block: which.
      shape: of its input, with the batch.
    """
    entries = {entry["name"]: entry for entry in config["layers"]}
    numbers: dict[str, dict[int, int]] = {}
    for node in block.nodes:
        calls = numbers.setdefault(node.layer, {})
        calls[node.number] = len(calls)

    def moved(tensor: slicing.Tensor) -> list[Any]:
        if tensor == block.source:
            return [INPUT, 0, 0]
        layer, number, output = tensor
        return [layer, numbers[layer][number], output]

    def output(tensor: slicing.Tensor) -> list[Any]:
        layer, number, index = moved(tensor)
        # Keras counts the building of a functional model as its first call.
        is_model = layer in entries and entries[layer]["class_name"] == _MODEL
        return [layer, number + is_model, index]

    def rewritten(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("class_name") == slicing.TENSOR:
                history = moved(
                    slicing.as_tensor(value["config"]["keras_history"])
                )
                changed = {**value["config"], "keras_history": history}
                return {**value, "config": changed}
            return {key: rewritten(item) for key, item in value.items()}
        if isinstance(value, list):
            return [rewritten(item) for item in value]
        return value

    layers: list[dict[str, Any]] = [_input_entry(shape)]
    for layer in block.layers:
        entry = entries[layer]
        inbound = [entry["inbound_nodes"][n] for n in numbers[layer]]
        entry_config = {k: v for k, v in entry.items() if k != "build_config"}
        layers.append({**entry_config, "inbound_nodes": rewritten(inbound)})
    return {
        "name": "block",
        "trainable": True,
        "layers": layers,
        "input_layers": [INPUT, 0, 0],
        "output_layers": output(block.output),
    }


def with_scaling(
    config: dict[str, Any], scale: float, offset: float
) -> dict[str, Any]:
    """Returns a block's config with `x * scale + offset` before all else."""
    name = "pixel_range"
    entry, *rest = config["layers"]
    shape = entry["config"]["batch_shape"]
    scaling = {
        "module": "keras.layers",
        "class_name": "Rescaling",
        "config": {
            "name": name,
            "trainable": True,
            "dtype": "float32",
            "scale": scale,
            "offset": offset,
        },
        "registered_name": None,
        "name": name,
        "inbound_nodes": [{"args": [_tensor(INPUT, shape)], "kwargs": {}}],
    }

    def rewritten(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: [name, 0, 0]
                if key == "keras_history" and item[0] == INPUT
                else rewritten(item)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [rewritten(item) for item in value]
        return value

    return {**config, "layers": [entry, scaling, *map(rewritten, rest)]}


def _input_entry(shape: tuple[int | None, ...]) -> dict[str, Any]:
    return {
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {
            "batch_shape": list(shape),
            "dtype": "float32",
            "sparse": False,
            "ragged": False,
            "name": INPUT,
        },
        "registered_name": None,
        "name": INPUT,
        "inbound_nodes": [],
    }


def _tensor(layer: str, shape: list[int | None]) -> dict[str, Any]:
    return {
        "class_name": slicing.TENSOR,
        "config": {
            "shape": shape,
            "dtype": "float32",
            "keras_history": [layer, 0, 0],
        },
    }
