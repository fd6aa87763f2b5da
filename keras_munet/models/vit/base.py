"""Implements what all ViT layers share: a weight table, one function.

Invariant: `layer.weights` has the order, names and shapes of the component's
record for every layer, unless it is packed for training; a layer maps
one tensor to one tensor.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import int8
from keras_munet.core import registry
from keras_munet.core import specs
from keras_munet.models.vit import functions
from keras_munet.models.vit import initializers
from keras_munet.models.vit import quantization
from keras_munet.models.vit import shapes

Shape = tuple[int | None, ...]


class VitLayer(quantization.QuantizableLayer):
    """One component of a path, live.

    Subclasses name their sizes in `size_names`, keep each as an attribute and
    give the function that computes them in `function`. `option_names` are
    arguments with a default that change no weight's shape.

    Example:
      >>> class Shift(VitLayer):
      ...     size_names = ("width",)
      ...     function = tf.function(lambda x, shift: x + shift)
      ...
      ...     def __init__(self, width, **kwargs):
      ...         super().__init__(**kwargs)
      ...         self.width = width
      ...
      ...     @property
      ...     def spec_weights(self):
      ...         return (("shift", (self.width,)),)
      ...
      ...     def first_value(self, name, shape, rng):
      ...         return np.zeros(shape, np.float32)
      >>> Shift(width=4)(np.ones([2, 3, 4], np.float32)).shape
      TensorShape([2, 3, 4])
    """

    size_names: ClassVar[tuple[str, ...]] = ()
    option_names: ClassVar[tuple[str, ...]] = ()
    # Whether `function` takes `products`, see `operations.dense`.
    has_products: ClassVar[bool] = False
    # Whether a token of the output depends on other tokens of the input.
    mixes_tokens: ClassVar[bool] = False
    # Whether `call` takes `class_token_only`, see `ClassTokenOption`.
    class_token_only_supported: ClassVar[bool] = False
    # The row of the table of weights; a subclass's own name where empty.
    table_kind: ClassVar[str] = ""
    function: ClassVar[Callable[..., tf.Tensor]]

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._initial_value: Callable[[str], np.ndarray] | None = None
        self._packed = False

    @property
    def sizes(self) -> dict[str, int]:
        """The arguments that say the shapes of the weights."""
        return {name: getattr(self, name) for name in self.size_names}

    @property
    def options(self) -> dict[str, bool | float]:
        """The arguments that have a default."""
        return {name: getattr(self, name) for name in self.option_names}

    @property
    def spec_weights(self) -> shapes.Weights:
        """(weight name, shape) in the order of `weights`."""
        return shapes.weights(self._layer_type, self.sizes)

    @property
    def _layer_type(self) -> str:
        return type(self).table_kind or type(self).__name__

    def start_from(self, values: Mapping[str, np.ndarray]) -> None:
        """Makes `build` start from `values` instead of drawing them.

        Args:
          values: weight name -> float32 array of the record's shape.
        """
        self._initial_value = values.__getitem__

    def pack(self) -> None:
        """Makes `build` create one flat weight, for training many at once.

        A packed layer is called in graphs and not inlined, see
        `functions.noinline`; values go in and out of it through `graph.nodes`.
        """
        self._packed = True

    @property
    def packed(self) -> bool:
        """Returns whether all weights are one, `[num_params] float32`."""
        return self._packed

    def build(self, input_shape: Shape | None = None) -> None:
        """Creates the weights; the sizes alone say their shapes.

        Raises:
          UsageError: the input has another width, or a given value another
            shape.
        """
        self._check_input(input_shape)
        if self._packed:
            sizes = [math.prod(shape) for _, shape in self.spec_weights]
            self._add_weight("packed", np.zeros(sum(sizes), np.float32))
            return
        value_of = self._initial_value or self._draw()
        for name, shape in self.spec_weights:
            value = np.asarray(value_of(name), np.float32)
            if value.shape != shape:
                raise errors.UsageError(
                    f"{type(self).__name__} got {list(value.shape)} for its "
                    f"{name}, which is {list(shape)}; give it a component "
                    "of its own spec"
                )
            self._add_weight(name, value)
        self._initial_value = None

    def _add_weight(self, name: str, value: np.ndarray) -> None:
        if self.quantization_mode and int8.is_kernel(name):
            self._add_kernel(name, value)
            return
        # Casting is the function's: norms keep float32 parameters.
        self.add_weight(
            name=name,
            shape=value.shape,
            dtype="float32",
            initializer=_constant(value),
            autocast=False,
        )

    def _draw(self) -> Callable[[str], np.ndarray]:
        rng = np.random.default_rng(drawn_seed())
        spec_shapes = dict(self.spec_weights)
        return lambda name: self.first_value(name, spec_shapes[name], rng)

    def first_value(
        self, name: str, shape: tuple[int, ...], rng: np.random.Generator
    ) -> np.ndarray:
        """Returns `shape` float32, what a weight is when nothing is given."""
        return initializers.initial_value(self._layer_type, name, shape, rng)

    def _check_input(self, input_shape: Shape | None) -> None:
        width = self.input_width
        if input_shape is not None and input_shape[-1] != width:
            raise errors.UsageError(
                f"{type(self).__name__} {self.name!r} got an input of shape "
                f"{list(input_shape)}; its last axis must be {width}"
            )

    @property
    def input_width(self) -> int:
        """The last axis of the input."""
        return self.sizes["width"]

    @property
    def compiled(self) -> Any:
        """The `tf.function` of (x, *weights) that computes the layer."""
        return type(self).function

    def weight_values(self) -> list[tf.Tensor]:
        """Returns the weights as tensors, in the record's order."""
        if self.quantization_mode:
            return self._dequantized([name for name, _ in self.spec_weights])
        return [tf.convert_to_tensor(v.value) for v in self.weights]

    def compute(
        self, x: tf.Tensor, weights: Sequence[tf.Tensor], **options: Any
    ) -> tf.Tensor:
        """Returns the output for given weights instead of the layer's own.

        Args:
          x: the input, in the layer's compute dtype.
          weights: float32 tensors in the record's order; the one of a
            packed layer.
          **options: `class_token_only`, where the layer has it.
        """
        function = self.compiled
        if self._packed:
            function = self._apart(functions.ALL)
        return function(x, *weights, **self.options, **options)

    def compute_packed(
        self,
        x: tf.Tensor,
        packed: tf.Tensor,
        products: tf.DType | None,
        **options: Any,
    ) -> tf.Tensor:
        """Returns the output for given weights, of no call but operations.

        Args:
          x: the input, in the layer's compute dtype.
          packed: `[num_params] float32`, the weights end to end.
          products: see `operations.dense`.
          **options: `class_token_only`, where the layer has it.
        """
        if self.has_products:
            options["products"] = products
        function = self._apart(functions.ALL).python_function
        return function(x, packed, **self.options, **options)

    def compute_weights(
        self,
        x: tf.Tensor,
        weights: Sequence[tf.Tensor],
        products: tf.DType | None,
        **options: Any,
    ) -> tf.Tensor:
        """Returns what `compute_packed` does, for weights one by one.

        Args:
          x: the input, in the layer's compute dtype.
          weights: float32 tensors in the record's order.
          products: see `operations.dense`.
          **options: `class_token_only`, where the layer has it.
        """
        if self.has_products:
            options["products"] = products
        function = self.compiled.python_function
        return function(x, *weights, **self.options, **options)

    def _apart(self, gradients: str) -> Any:
        weight_shapes = tuple(shape for _, shape in self.spec_weights)
        return functions.noinline(self.compiled, gradients, weight_shapes)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the output for the layer's own weights."""
        return self.compute(x, self.weight_values())

    def compute_output_spec(
        self, x: keras.KerasTensor, **options: bool
    ) -> keras.KerasTensor:
        """Returns shape and dtype without tracing anything."""
        shape = self.compute_output_shape(x.shape, **options)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Returns the output's shape; by default the input's."""
        return tuple(input_shape)

    def num_kept(self, input_shape: Shape, **options: bool) -> int:
        """Returns how many numbers a training step keeps for its backward pass.

        By default thrice the output; for each example of a batch.

        Args:
          input_shape: of the input; the batch's size is not read.
          **options: `class_token_only`, where the layer has it.
        """
        sides = self.compute_output_shape(input_shape, **options)[1:]
        return 3 * math.prod(side or 1 for side in sides)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), **self.sizes, **self.options}


class ClassTokenOption(VitLayer):
    """A layer whose output can be cut to token 0, which the head reads."""

    class_token_only_supported = True

    def call(self, x: tf.Tensor, class_token_only: bool = False) -> tf.Tensor:
        """Returns every token, or `[batch, 1, width]` of token 0 alone."""
        only = bool(class_token_only)
        return self.compute(x, self.weight_values(), class_token_only=only)

    def compute_output_shape(
        self, input_shape: Shape, class_token_only: bool = False
    ) -> Shape:
        """Returns the input's shape, with one token if that is requested."""
        batch, num_tokens, width = input_shape
        return (batch, 1 if class_token_only else num_tokens, width)


def drawn_seed() -> int:
    """Returns a seed from Python's generator.

    Keras's own initialisers use it, so that `keras.utils.set_random_seed`
    decides a layer's first values too.
    """
    return random.randrange(2**31)


def _constant(value: np.ndarray) -> Callable[..., tf.Tensor]:
    def initializer(shape: Shape, dtype: Any = None) -> tf.Tensor:
        del shape
        return tf.constant(value, dtype)

    return initializer


def from_component(component: specs.Component, **kwargs: Any) -> VitLayer:
    """Returns a built layer that holds the values of `component`.

    Args:
      component: of a registered ViT layer.
      **kwargs: Keras's own, e.g. `name`, `dtype`, `trainable`.

    Raises:
      UsageError: the layer is unknown or a value has the wrong shape.
    """
    layer = registry.LAYERS.get(component.spec.layer)(
        **component.spec.config, **kwargs
    )
    layer.start_from(component.weights)
    layer.build()
    return layer
