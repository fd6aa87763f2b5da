"""Any set of paths as ONE functional Keras graph.

Invariant: a layer that several paths apply to the same tensor is evaluated
once. A generation in training, one task's model and the serving model of all
tasks are this same graph with other outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import keras

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.graph import nodes
from keras_munet.vit import base
from keras_munet.vit import layers as vit_layers

Chain = Sequence[keras.layers.Layer]


def build(
    chains: Mapping[str, Chain], image_size: int, name: str = "munet"
) -> keras.Model:
    """Returns one functional model with an output per chain.

    Args:
      chains: output name -> the layers of a path, input first.
      image_size: side of the square input images, pixels.
      name: of the model.

    Returns:
      A model from `[batch, image_size, image_size, 3] float32` images in
      [-1, 1] to a dict of `[batch, num_classes] float32` logits.
    """
    images = keras.Input((image_size, image_size, 3), name="images")
    done: dict[tuple[int, int, bool], keras.KerasTensor] = {}
    outputs = {
        key: _apply(chain, images, done) for key, chain in chains.items()
    }
    return keras.Model(images, outputs, name=name)


def path_model(
    paths: Mapping[str, specs.PathRecord],
    get: Callable[[specs.ComponentRef], specs.Component],
    *,
    single: bool = False,
) -> keras.Model:
    """Returns the model of published paths, each component in it once.

    Args:
      paths: task -> its path.
      get: returns a component by its reference.
      single: whether the one path's logits stand alone, not in a dict.

    Returns:
      A functional model whose layers are named `<place>_<id>`.

    Raises:
      UsageError: the paths take images of different sizes.
    """
    sizes = {name: p.hparams["ds_image_size"] for name, p in paths.items()}
    if len(set(sizes.values())) > 1:
        raise errors.UsageError(
            f"tasks of different image sizes cannot share one model: {sizes}; "
            "ask for one task at a time, or export, which resizes per task"
        )
    layers: dict[str, keras.layers.Layer] = {}
    components: dict[str, specs.Component] = {}
    chains = {}
    for name, path in paths.items():
        for ref in path.components:
            if ref.id not in layers:
                components[ref.id] = get(ref)
                layers[ref.id] = nodes.make_layer(
                    components[ref.id].spec, f"{ref.name}_{ref.id[:8]}"
                )
        chains[name] = [layers[ref.id] for ref in path.components]
    model = build(chains, next(iter(sizes.values())))
    for component_id, component in components.items():
        nodes.assign(layers[component_id], component.spec, component.weights)
    if single:
        (output,) = model.output.values()
        return keras.Model(model.input, output, name=model.name)
    return model


def _apply(
    chain: Chain,
    images: keras.KerasTensor,
    done: dict[tuple[int, int, bool], keras.KerasTensor],
) -> keras.KerasTensor:
    """Extends the graph by a path, reusing whatever it shares so far."""
    top = _top_block(chain)
    tensor = images
    for position, layer in enumerate(chain):
        # The head reads the class token alone, so the top block and all above
        # it need no other token's output.
        narrow = position >= top and isinstance(layer, base.ClassTokenOption)
        key = id(layer), id(tensor), narrow
        if key not in done:
            done[key] = (
                layer(tensor, class_token_only=True)
                if narrow
                else layer(tensor)
            )
        tensor = done[key]
    return tensor


def _top_block(chain: Chain) -> int:
    """Returns the position of the last encoder block, or 0 without one."""
    positions = [
        i
        for i, layer in enumerate(chain)
        if isinstance(layer, vit_layers.EncoderBlock)
    ]
    return positions[-1] if positions else 0
