"""The components of a cut Keras model as live layers.

Invariant: a layer's weights stand in its record's order, and what it computes
is what Keras's own layers compute for them in inference: batch statistics are
weights like any other, but no gradient reaches them, so training leaves them
as they came. Layers that act in training only (dropout, random pictures) are
inert, as the method uses none.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import registry
from keras_munet.models.keras_blocks import initializers
from keras_munet.models.vit import base
from keras_munet.models.vit import functions
from keras_munet.models.vit import layers as vit_layers
from keras_munet.models.vit import operations
from keras_munet.models.vit import shapes

# Stands in a block's config where the experiment's dtype policy goes.
_ANY_POLICY = "any"
_UNNAMED = re.compile(r"variable(_\d+)?")
_serializable = keras.saving.register_keras_serializable(package="keras_munet")


class Template:
    """A block's Keras model, built once for all components of its kind.

    Its own variables are never read: the weights are arguments.

    Attributes:
      weights: (weight name, shape) in the record's order.
      model: the functional model.
      function: `(x, *weights) -> y`, traced once per shape.
    """

    def __init__(self, text: str, policy: str):
        """Builds the model.

        Args:
          text: the block's config as JSON, dtypes left out.
          policy: the dtype policy of its layers.

        Raises:
          UsageError: Keras cannot build it.
        """
        parts = "?"
        # What a foreign layer's constructor raises can be anything, and the
        # config need not be trusted.
        try:
            config = _with_policy(json.loads(text), policy)
            # Keras takes the layers out of it.
            parts = ", ".join(e["name"] for e in config["layers"][1:])
            self.model = keras.Model.from_config(config)
        except Exception as error:
            raise errors.UsageError(
                f"Keras cannot build the block of layers {parts} "
                f"from its config ({_summary(error)}); register custom layers "
                "with keras.saving.register_keras_serializable"
            ) from error
        self._dtype = keras.DTypePolicy(policy).compute_dtype
        named = named_weights(self.model)
        self.weights: shapes.Weights = tuple(
            (name, tuple(variable.shape)) for name, variable in named
        )
        places = {id(variable): i for i, (_, variable) in enumerate(named)}
        self._trained = [places[id(v)] for v in self.model.trainable_variables]
        # Seeds of dropout are variables too, but no weights.
        self._fixed = [
            (places.get(id(v)), np.asarray(v))
            for v in self.model.non_trainable_variables
        ]
        self.function = tf.function(self._math, autograph=False)

    def _math(self, x: tf.Tensor, *weights: tf.Tensor) -> tf.Tensor:
        fixed = [
            tf.constant(value)
            if index is None
            else tf.stop_gradient(weights[index])
            for index, value in self._fixed
        ]
        trained = [weights[index] for index in self._trained]
        y, _ = self.model.stateless_call(trained, fixed, x, training=False)
        return tf.cast(y, self._dtype)


def _summary(error: Exception) -> str:
    """Returns the first line of what Keras says, or the error's kind."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:160]


@functools.cache
def block_template(text: str, policy: str) -> Template:
    """Returns the one template of a block's config and dtype policy."""
    # Blocks may be first built while a generation's graph is traced.
    with tf.init_scope():
        return Template(text, policy)


def named_weights(model: keras.Model) -> list[tuple[str, keras.Variable]]:
    """Returns (unique name, variable) of each weight, layer by layer."""
    variables: list[tuple[str, keras.Variable]] = []
    names: set[str] = set()
    for layer in model.layers:
        for variable in layer.weights:
            # No slash: TensorFlow does not take it in a weight's name.
            path = variable.path.split("/")
            path[-1] = weight_name(path[-1])
            start = path.index(layer.name) if layer.name in path else 0
            parts = [layer.name, *path[start + (layer.name in path) :]]
            name = base_name = ".".join(parts)
            while name in names:
                name = f"{base_name}.{len(names)}"
            names.add(name)
            variables.append((name, variable))
    return variables


def weight_name(name: str) -> str:
    """Returns a weight's own name, the same in every process.

    One that its layer left unnamed is numbered by how many there were before.
    """
    return "variable" if _UNNAMED.fullmatch(name) else name


@_serializable
@registry.LAYERS.register("KerasBlock")
class KerasBlock(base.VitLayer):
    """Some layers of a Keras model, branches among them, as one component."""

    def __init__(self, block: str, **kwargs: Any):
        """Takes the block's config as JSON; see `functional.slicing`."""
        # The layers within cast what they read, and the first one may want
        # pixels in full precision.
        super().__init__(**{**kwargs, "autocast": False})
        self.block = block

    @property
    def template(self) -> Template:
        """The model that this layer computes as."""
        return block_template(self.block, self.dtype_policy.name)

    @property
    def spec_weights(self) -> shapes.Weights:
        """(weight name, shape) in the order of `weights`."""
        return self.template.weights

    @property
    def compiled(self) -> Any:
        """The `tf.function` of (x, *weights) that computes the layer."""
        return self.template.function

    def compute_output_shape(self, input_shape: base.Shape) -> base.Shape:
        """Returns the output's shape.

        Raises:
          UsageError: the block cannot take such an input.
        """
        try:
            return tuple(self.template.model.compute_output_shape(input_shape))
        except Exception as e:
            raise errors.UsageError(
                f"block {self.name!r} cannot take an input of shape "
                f"{list(input_shape)} ({_summary(e)}); use another image "
                "size"
            ) from e

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "block": self.block}

    def _check_input(self, input_shape: base.Shape | None) -> None:
        if input_shape is not None:
            self.compute_output_shape(input_shape)

    def _draw(self) -> Callable[[str], np.ndarray]:
        rng = np.random.default_rng(base.drawn_seed())
        spec_shapes = dict(self.spec_weights)
        return lambda name: initializers.initial_value(
            name, spec_shapes[name], rng
        )


def _pointwise_adapter_math(
    x: tf.Tensor, *weights: tf.Tensor, **options: Any
) -> tf.Tensor:
    """Returns a residual adapter's output, each position for itself."""
    flat = tf.reshape(x, [-1, 1, x.shape[-1]])
    y = functions.residual_adapter_math(flat, *weights, **options)
    return tf.ensure_shape(tf.reshape(y, tf.shape(x)), x.shape)


def _pooled_head_math(
    x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor
) -> tf.Tensor:
    """Returns `[batch, classes] float32`, read from the mean of positions."""
    x = tf.cast(x, tf.float32)
    axes = list(range(1, len(x.shape) - 1))
    pooled = tf.reduce_mean(x, axes) if axes else x
    return operations.dense(pooled, kernel, bias)


@_serializable
@registry.LAYERS.register("PointwiseAdapter")
class PointwiseAdapter(vit_layers.ResidualAdapter):
    """A residual adapter of 1 x 1 products; a fresh one changes nothing."""

    table_kind = "ResidualAdapter"
    function = tf.function(_pointwise_adapter_math, autograph=False)


@_serializable
@registry.LAYERS.register("PooledHead")
class PooledHead(vit_layers.Head):
    """Reads the mean over all positions."""

    table_kind = "Head"
    function = tf.function(_pooled_head_math, autograph=False)


def _with_policy(value: Any, policy: str) -> Any:
    """Returns a config whose layers have the dtype policy `policy`."""
    if isinstance(value, dict):
        return {
            key: policy
            if key == "dtype" and item == _ANY_POLICY
            else _with_policy(item, policy)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_with_policy(item, policy) for item in value]
    return value


def without_policy(value: Any) -> Any:
    """Returns a config whose layers name no dtype policy of their own.

    The experiment's policy is every layer's, not the model's own. A plain
    dtype, as an input or a cast has it, is no policy and stays.
    """
    if isinstance(value, dict):
        return {
            key: _ANY_POLICY
            if key == "dtype" and isinstance(item, dict)
            else without_policy(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [without_policy(item) for item in value]
    return value
