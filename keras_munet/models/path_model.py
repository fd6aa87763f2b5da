"""Any set of paths as ONE functional Keras graph.

Invariant: a layer that several paths apply to the same tensor is evaluated
once. A generation in training, one task's model and the serving model of all
tasks are this same graph with other outputs.
"""

# Keras's backend is checked before Keras is imported.
# ruff: noqa: E402
from __future__ import annotations

import collections
import itertools
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_munet.core import keras_backend

keras_backend.require_tensorflow()

import keras
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import names
from keras_munet.core import specs
from keras_munet.models import layer_factory
from keras_munet.models.keras_blocks import layers as functional_layers

Chain = Sequence[keras.layers.Layer]


def build_model(
    chains: Mapping[str, Chain],
    image_size: int,
    name: str | None = "munet",
    preprocessing: keras.layers.Layer | None = None,
) -> keras.Model:
    """Returns one functional model with an output per chain.

    Args:
      chains: output name -> the layers of a path, input first.
      image_size: side of the square input images, pixels.
      name: of the model; None for one that no other model has.
      preprocessing: a layer from `[batch, height, width, 3] uint8` pictures
        of any size to the images; None for a model without it.

    Returns:
      A model from `[batch, image_size, image_size, 3] float32` images in
      [-1, 1], or from what `preprocessing` takes, to a dict of
      `[batch, num_classes] float32` logits.
    """
    if preprocessing is None:
        images = tensor = keras.Input(
            (image_size, image_size, 3), name="images", dtype="float32"
        )
    else:
        images = keras.Input((None, None, 3), name="images", dtype="uint8")
        tensor = preprocessing(images)
    tensors: dict[tuple[int, int, bool], keras.KerasTensor] = {}
    outputs = {
        key: _apply(chain, tensor, tensors) for key, chain in chains.items()
    }
    return keras.Model(images, outputs, name=name)


def check_layers(chain: Chain, image_size: int) -> None:
    """Refuses layers that do not fit together.

    Args:
      chain: the layers of a path, input first.
      image_size: side of the square input images, pixels.

    Raises:
      UsageError: a layer cannot take what the one below it gives.
    """
    shape: tuple[int | None, ...] = (None, image_size, image_size, 3)
    for layer, class_token_only in zip(
        chain, class_token_flags(chain), strict=True
    ):
        options = call_options(class_token_only)
        shape = layer.compute_output_shape(shape, **options)


def path_model(
    paths: Mapping[str, specs.PathRecord],
    get: Callable[[specs.ComponentRef], specs.Component],
    *,
    single: bool = False,
    preprocessing: keras.layers.Layer | None = None,
) -> keras.Model:
    """Returns the model of published paths, each component in it once.

    Args:
      paths: task -> its path.
      get: returns a component by its reference.
      single: whether the one path's logits stand alone, not in a dict.
      preprocessing: as of `build_model`.

    Returns:
      A functional model whose layers are named `<place>_<task>`, or
      `<place>_shared` where several of the paths have the component.

    Raises:
      UsageError: the paths take images of different sizes.
    """
    sizes = {name: p.hparams["ds_image_size"] for name, p in paths.items()}
    if len(set(sizes.values())) > 1:
        raise errors.UsageError(
            f"tasks of different image sizes cannot share one model: {sizes}; "
            "ask for one task at a time, or export, which resizes per task"
        )
    live = _Live(get, paths)
    chains = {
        name: [live.layer(ref) for ref in path.components]
        for name, path in paths.items()
    }
    size = next(iter(sizes.values()))
    model = build_model(chains, size, None, preprocessing)
    live.assign()
    if single:
        (output,) = model.output.values()
        return keras.Model(model.input, output, name=model.name)
    return model


def feature_model(
    path: specs.PathRecord,
    get: Callable[[specs.ComponentRef], specs.Component],
    component: str | None = None,
) -> keras.Model:
    """Returns the model of a path below its head.

    Args:
      path: the path.
      get: returns a component by its reference.
      component: the place whose whole output is wanted, e.g.
        `encoderblock_0`; None for what the head reads.

    Returns:
      A functional model whose layers are named `<place>_<task>`, from
      `[batch, size, size, 3] float32` images in [-1, 1] to
      `[batch, width]`, or to the component's output, of a ViT
      `[batch, tokens, width]`.

    Raises:
      UsageError: the path has no component in that place.
    """
    end = len(path.components) - 1
    if component is not None:
        end = position(path, component) + 1
    live = _Live(get, {path.task: path})
    chain = [live.layer(ref) for ref in path.components[:end]]
    side = path.hparams["ds_image_size"]
    images = tensor = keras.Input(
        (side, side, 3), name="images", dtype="float32"
    )
    if component is None:
        head = layer_factory.make_layer(get(path.components[-1]).spec, "head")
        tensor = read_by_head(head, _apply(chain, images, {}))
    else:
        for layer in chain:
            tensor = layer(tensor)
    model = keras.Model(images, tensor)
    live.assign()
    return model


def position(path: specs.PathRecord, component: str) -> int:
    """Returns where in a path the component named `component` stands.

    Raises:
      UsageError: the path has none of that name.
    """
    places = [ref.name for ref in path.components]
    if component not in places:
        raise errors.UsageError(
            f"the path of task {path.task!r} has no component {component!r}; "
            f"it has: {', '.join(places)}"
        )
    return places.index(component)


def read_by_head(
    head: keras.layers.Layer, tensor: keras.KerasTensor
) -> keras.KerasTensor:
    """Returns `[batch, width]`, what `head` reads of the tensor below it."""
    if isinstance(head, functional_layers.PooledHead):
        axes = list(range(1, len(tensor.shape) - 1))
        return keras.ops.mean(tensor, axes) if axes else tensor
    if tensor.shape[1] == 1:
        return keras.ops.squeeze(tensor, 1)
    return tensor[:, 0]


def class_token_flags(chain: Chain) -> list[bool]:
    """Returns for each layer of a path whether token 0 alone is computed.

    The head reads the class token alone, so the top block and all above it
    need no other token's output.
    """
    mixing = [
        i
        for i, layer in enumerate(chain)
        if getattr(layer, "mixes_tokens", False)
    ]
    top = mixing[-1] if mixing else 0
    return [
        i >= top and getattr(layer, "class_token_only_supported", False)
        for i, layer in enumerate(chain)
    ]


def call_options(class_token_only: bool) -> dict[str, bool]:
    """Returns the options of a layer's call.

    Args:
      class_token_only: whether token 0 alone is computed; see
        `class_token_flags`.
    """
    return {"class_token_only": True} if class_token_only else {}


def as_layer_input(layer: keras.layers.Layer, x: tf.Tensor) -> tf.Tensor:
    """Returns `x` as Keras gives it to `layer`, in the layer's dtype."""
    return tf.cast(x, layer.compute_dtype) if layer.autocast else x


class _Live:
    """Components as layers, each once; they get their values when built."""

    def __init__(
        self,
        get: Callable[[specs.ComponentRef], specs.Component],
        paths: Mapping[str, specs.PathRecord],
    ) -> None:
        self._get = get
        self._names = _layer_names(paths)
        self._layers: dict[str, keras.layers.Layer] = {}
        self._components: dict[str, specs.Component] = {}

    def layer(self, ref: specs.ComponentRef) -> keras.layers.Layer:
        """Returns the one layer of a component."""
        if ref.id not in self._layers:
            component = self._components[ref.id] = self._get(ref)
            self._layers[ref.id] = layer_factory.make_layer(
                component.spec, self._names[ref.id]
            )
        return self._layers[ref.id]

    def assign(self) -> None:
        """Gives the layers, which are built by now, their values."""
        for component_id, component in self._components.items():
            layer_factory.assign_values(
                self._layers[component_id], component.spec, component.weights
            )


def _layer_names(paths: Mapping[str, specs.PathRecord]) -> dict[str, str]:
    """Returns component id -> a name that no other component has."""
    tasks = collections.defaultdict(list)
    for task, path in paths.items():
        for ref in path.components:
            tasks[ref].append(task)
    ids: dict[str, str] = {}
    for ref, (task, *more) in tasks.items():
        suffix = "shared" if more else names.signature_name(task)
        name = first = f"{ref.name}_{suffix}"
        numbers = itertools.count(2)
        while name in ids:
            name = f"{first}_{next(numbers)}"
        ids[name] = ref.id
    return {component_id: name for name, component_id in ids.items()}


def _apply(
    chain: Chain,
    images: Any,
    tensors: dict[tuple[int, int, bool], Any],
    call: Callable[..., Any] = keras.layers.Layer.__call__,
) -> Any:
    """Extends the graph by a path, reusing what it shares so far."""
    tensor = images
    for layer, class_token_only in zip(
        chain, class_token_flags(chain), strict=True
    ):
        key = id(layer), id(tensor), class_token_only
        if key not in tensors:
            options = call_options(class_token_only)
            tensors[key] = call(layer, tensor, **options)
        tensor = tensors[key]
    return tensor
