"""A root from any Keras functional or Sequential model.

Invariant: the root's components one after another give the model's own
features (to float tolerance, in any dtype policy); what cannot be cut into
such a chain is refused by name, and nothing is left out silently.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.models.keras_blocks import architecture
from keras_munet.models.keras_blocks import block_config
from keras_munet.models.keras_blocks import slicing
from keras_munet.models.vit import keras_state
from keras_munet.roots import root as root_lib

# What every path is given.
OWN_RANGE = (-1.0, 1.0)
_NUM_CHANNELS = 3
_SCALING = ("Rescaling", "Normalization")
# Layers whose behaviour is a program or a table, not weights.
_REFUSED = {
    "Lambda": "runs code that its config would have to carry",
    "TFSMLayer": "runs a SavedModel",
    "StringLookup": "holds a table",
    "IntegerLookup": "holds a table",
    "TextVectorization": "holds a table",
    "Hashing": "takes no images",
}


@keras_state.default_keras_state()
def from_keras(
    model: Any,
    *,
    blocks: str | slicing.Rule | None = None,
    features: str | None = None,
    pixel_range: tuple[float, float] | None = None,
    num_layers: int | None = None,
    num_layers_max: int | None = None,
    image_size: int | None = None,
    num_classes: int = root_lib.NUM_CLASSES,
) -> root_lib.Root:
    """Returns the root that a model's layers make.

    The model is cut wherever its graph is a single tensor; each part becomes
    a component, and those that the rule gives one name become one. The first
    is the stem; the others are the `num_layers` that the search may drop.

    Args:
      model: a built functional or Sequential model of one image input with 3
        channels; it is not changed.
      blocks: a regular expression matched at the start of layer names, or a
        function of a name; equal results are one block. None makes a block of
        each layer with weights.
      features: the layer that heads stand on; None for the model's output,
        which is right for a model without its classifier.
      pixel_range: the values of a black and of a white pixel in the model's
        input; None for [-1, 1]. A model that scales its input itself must be
        told.
      num_layers: blocks to keep after the stem; None for all.
      num_layers_max: the deepest path; None for the root's own depth.
      image_size: side of the square input, pixels; None for the model's own.
      num_classes: width of the head, which starts at zero.

    Raises:
      UsageError: the model cannot be cut into a chain, a layer cannot be a
        component, or a size cannot be; each by name.
    """
    config, layers = _functional(model)
    entries = {entry["name"]: entry for entry in config["layers"]}
    _keep_statistics(entries, layers)
    _check_layers(entries, layers)
    cut = slicing.cut_blocks(
        config,
        slicing.rule_of(blocks),
        features,
        lambda name: bool(layers.get(name) and layers[name].weights),
    )
    _check_names(cut)
    _check_range(cut, entries, pixel_range)
    own_size = _image_size(config, image_size)
    block_components, widths, any_size = _components(
        config, layers, cut, pixel_range or OWN_RANGE, own_size
    )
    depth = len(block_components) - 1 if num_layers is None else num_layers
    deepest = depth if num_layers_max is None else num_layers_max
    if not 0 <= depth <= deepest < len(block_components):
        raise errors.UsageError(
            f"num_layers is {depth} and may grow to {deepest}; this model "
            f"has 0 to {len(block_components) - 1} blocks after the first"
        )
    size = own_size if image_size is None else image_size
    family = architecture.KerasFamily(
        blocks=tuple(component.spec for component in block_components),
        widths=widths,
        num_layers_max=deepest,
        image_size=architecture.ANY_SIZE if any_size else own_size,
    )
    hparams = {"num_layers": depth, "ds_image_size": size}
    layout = family.layout(hparams, num_classes)
    head = family.initial(layout[-1], np.random.default_rng(0))
    components = (*block_components[: depth + 1], head)
    return root_lib.Root(family, components, hparams, f"keras {model.name}")


def _functional(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (plain functional config, layers by name)."""
    import keras

    from keras_munet.models.keras_blocks import layers as layers_lib

    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise errors.UsageError(
            f"{type(model).__name__} {getattr(model, 'name', '')!r} has no "
            "graph of layers; give a built functional or Sequential model, "
            "which a subclass of keras.Model is not"
        )
    # A subclass of Functional has a config of its own; this one has not.
    plain = keras.Model(model.inputs, model.outputs)
    try:
        config = json.loads(json.dumps(plain.get_config()))
    except (TypeError, ValueError, NotImplementedError) as e:
        raise errors.UsageError(
            f"model {model.name!r} has a layer without a plain config "
            f"({str(e).splitlines()[0][:160]}); give it a get_config of plain "
            "values"
        ) from e
    layers = {layer.name: layer for layer in plain.layers}
    nested = {
        n for n, layer in layers.items() if isinstance(layer, type(plain))
    }
    config["output_layers"] = _from_zero(config["output_layers"], nested)
    return layers_lib.without_policy(_all_trainable(config)), layers


def _from_zero(outputs: Any, nested: set[str]) -> Any:
    """Returns `output_layers` whose calls are all numbered from 0.

    There Keras numbers the calls of a functional model within from 1, and
    from 0 in `inbound_nodes`.
    """
    if isinstance(outputs, dict):
        return {k: _from_zero(item, nested) for k, item in outputs.items()}
    if len(outputs) == 3 and isinstance(outputs[0], str):
        layer, number, output = outputs
        return [layer, number - (layer in nested), output]
    return [_from_zero(item, nested) for item in outputs]


def _all_trainable(value: Any) -> Any:
    """Returns a config in which no layer is frozen: locks do that here."""
    if isinstance(value, dict):
        return {
            key: True
            if key == "trainable" and item is False
            else _all_trainable(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_all_trainable(item) for item in value]
    return value


def _keep_statistics(entries: dict[str, Any], layers: dict[str, Any]) -> None:
    """Moves what `Normalization` layers learnt of data into their configs.

    They are preprocessing, not weights to train. Changes both arguments.
    """
    for name, entry in entries.items():
        own = entry["config"]
        if entry["class_name"] == "Normalization" and own.get("mean") is None:
            layer = layers.pop(name)
            own["mean"] = layer.adapt_mean.numpy().tolist()
            own["variance"] = layer.adapt_variance.numpy().tolist()


def _check_layers(entries: dict[str, Any], layers: dict[str, Any]) -> None:
    for name, entry in entries.items():
        for layer_type in _kinds(entry):
            if layer_type in _REFUSED:
                raise errors.UsageError(
                    f"layer {name!r} is of kind {layer_type}, which "
                    f"{_REFUSED[layer_type]}; build the model without it"
                )
        for variable in layers[name].weights if name in layers else ():
            if "float" not in str(variable.dtype):
                raise errors.UsageError(
                    f"layer {name!r} has a weight of {variable.dtype}; "
                    "components hold float weights, so build the model "
                    "without it"
                )


def _kinds(entry: Any) -> list[str]:
    """Returns the class of a config's layer and of all layers within."""
    if isinstance(entry, dict):
        own = [entry["class_name"]] if "class_name" in entry else []
        return own + [k for item in entry.values() for k in _kinds(item)]
    if isinstance(entry, list):
        return [layer_type for item in entry for layer_type in _kinds(item)]
    return []


def _check_names(cut: list[slicing.Block]) -> None:
    for block in cut:
        is_reserved = block.name == architecture.HEAD or block.name.startswith(
            architecture.ADAPTER_PREFIX
        )
        if is_reserved or "/" in block.name:
            raise errors.UsageError(
                f"block {block.name!r} cannot have that name; let the rule "
                "call it neither 'head' nor 'residual_adapter_...', and "
                "without '/'"
            )


def _check_range(
    cut: list[slicing.Block],
    entries: dict[str, Any],
    pixel_range: tuple[float, float] | None,
) -> None:
    for name in cut[0].layers:
        cls = entries[name]["class_name"]
        if cls in _SCALING and pixel_range is None:
            raise errors.UsageError(
                f"layer {name!r} ({cls}) scales the model's input; say what "
                "its pixels are, e.g. pixel_range=(0, 255)"
            )
    if pixel_range is not None and not pixel_range[0] < pixel_range[1]:
        raise errors.UsageError(
            f"pixel_range is {pixel_range}; give the values of a black and of "
            "a white pixel, such as (0, 255)"
        )


def _image_size(config: dict[str, Any], image_size: int | None) -> int:
    """Returns the side of the model's input, or the one requested."""
    source, _, _ = slicing.input_tensor(config)
    shape = next(
        entry["config"]["batch_shape"]
        for entry in config["layers"]
        if entry["name"] == source
    )
    fits = len(shape) == 4 and shape[3] == _NUM_CHANNELS
    if not fits or shape[1] != shape[2]:
        raise errors.UsageError(
            f"the model's input {source!r} has shape {shape}; a root takes "
            "square images of 3 channels, [batch, size, size, 3]"
        )
    if shape[1] is not None:
        return int(shape[1])
    if image_size is None:
        raise errors.UsageError(
            "the model takes images of any size; say which with image_size"
        )
    return image_size


def _components(
    config: dict[str, Any],
    layers: dict[str, Any],
    cut: list[slicing.Block],
    pixel_range: tuple[float, float],
    image_size: int,
) -> tuple[list[specs.Component], tuple[int, ...], bool]:
    """Returns the blocks, their widths, and whether any image size does."""
    components: list[specs.Component] = []
    widths: list[int] = []
    any_size = True
    shape: tuple[int | None, ...] = (
        *(None, image_size, image_size),
        _NUM_CHANNELS,
    )
    for block in cut:
        scaling = OWN_RANGE if components else pixel_range
        text, template, loose = _template(config, block, shape, scaling)
        any_size = any_size and loose
        shape = tuple(template.model.compute_output_shape(shape))
        if len(shape) < 2 or shape[-1] is None:
            raise errors.UsageError(
                f"block {block.name!r} ends in shape {list(shape)}; a "
                "component needs a batch and a known number of features"
            )
        widths.append(shape[-1])
        spec = specs.ComponentSpec(
            block.name,
            architecture.BLOCK_LAYER,
            {"block": text},
            template.weights,
        )
        components.append(
            specs.Component(spec, _values(block, layers, template))
        )
    return components, tuple(widths), any_size


def _template(
    config: dict[str, Any],
    block: slicing.Block,
    shape: tuple[int | None, ...],
    pixel_range: tuple[float, float],
) -> tuple[str, Any, bool]:
    """Returns (config as JSON, template, whether it takes any image size)."""
    from keras_munet.models.keras_blocks import layers as layers_lib

    # A block that cannot do without the sides keeps them.
    loose = (None, *(None for _ in shape[1:-1]), shape[-1])
    tried = [loose, shape] if loose != shape else [shape]
    for sides in tried:
        own = block_config.block_config(config, block, sides)
        if pixel_range != OWN_RANGE:
            low, high = pixel_range
            own = block_config.with_scaling(
                own, (high - low) / 2.0, (high + low) / 2.0
            )
        text = json.dumps(own, sort_keys=True, separators=(",", ":"))
        try:
            template = layers_lib.block_template(text, "float32")
        except errors.UsageError:
            if sides == shape:
                raise
            continue
        # Flattened sides would be features.
        if template.model.output_shape[-1] is not None:
            break
    return text, template, sides == loose


def _values(
    block: slicing.Block, layers: dict[str, Any], template: Any
) -> dict[str, np.ndarray]:
    """Returns weight name -> float32 array, checked against the template."""
    from keras_munet.models.keras_blocks import layers as layers_lib

    variables = [
        (layer, variable)
        for layer in template.model.layers
        if layer.name in layers and layer.name in block.layers
        for variable in layers[layer.name].weights
    ]
    values = {}
    pairs = zip(template.weights, variables, strict=False)
    for (name, shape), (layer, variable) in pairs:
        value = np.asarray(variable.numpy()).astype(np.float32)
        # A number behind the name keeps equal ones apart.
        own_name = layers_lib.weight_name(variable.name)
        is_supported = name.rstrip("0123456789.").endswith(
            own_name.rstrip("0123456789.")
        )
        if value.shape != shape or not is_supported:
            raise errors.UsageError(
                f"layer {layer.name!r} rebuilds its weight {variable.name} "
                f"{list(value.shape)} as {name} {list(shape)}; its config does "
                "not say what it is"
            )
        if not np.isfinite(value).all():
            raise errors.UsageError(
                f"layer {layer.name!r} has values in {name} that are not "
                "finite; give the model whole weights"
            )
        values[name] = value
    if len(variables) != len(template.weights):
        raise errors.UsageError(
            f"block {block.name!r} has {len(variables)} weights and rebuilds "
            f"{len(template.weights)}; a layer's config does not say what it "
            "is"
        )
    return values
