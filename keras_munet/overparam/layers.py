"""Layers whose kernel is a product of factors (section 5 of the method).

Invariant: a layer computes what an ordinary one with the kernel
`U D_1 .. D_n M_1 .. M_T V` computes: U, V and the D are trained for all
tasks, M_t for task t alone. There is ONE kernel, for any number of tasks.
Products are made in float32; a dtype policy rounds the kernel, as it does an
ordinary layer's. A regularizer of the kernel acts on the product.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_munet import errors
from keras_munet.overparam import factorization
from keras_munet.overparam import initializers
from keras_munet.overparam import validation

_COMMON = "common"
_serializable = keras.saving.register_keras_serializable(package="keras_munet")


class Factorized(keras.layers.Layer):
    """The base of both layers: a kernel made of factors.

    Attributes:
      tasks: those with a factor of their own; where there are none, one
        factor that is trained like U and V stands in their place.
      depth: square factors in sequence between U and V, of which one is the
        tasks'; 1 for none but that.
      task_factor: `full` matrices, or `diagonal` ones.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        depth: int,
        task_factor: str,
        activation: Any,
        use_bias: bool,
        kernel_initializer: Any,
        bias_initializer: Any,
        kernel_regularizer: Any,
        bias_regularizer: Any,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.tasks = validation.tasks(tasks)
        self.depth = validation.positive("depth", depth)
        self.task_factor = validation.one_of(
            "task_factor", task_factor, factorization.TASK_FACTORS
        )
        self.activation = keras.activations.get(activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)

    @property
    def arrangement(self) -> factorization.Arrangement:
        """Returns the arrangement of the kernel's values; of a built layer."""
        return self._arrangement

    @property
    def kernel(self) -> Any:
        """The product of the factors, of the ordinary layer's kernel shape."""
        ops = keras.ops
        middle = self._combined()
        u, v = self.u, self.v
        if self._inner or self.task_factor == "full":
            square = middle
            if self.task_factor == "diagonal":
                first, *rest = self._inner
                square = first * middle[:, None, :]
                factors = rest
            else:
                factors = self._inner
            for factor in factors:
                square = ops.matmul(factor, square)
            # Onto the shorter side first: there it is square.
            _, num_rows, num_columns = self._arrangement.shape
            if num_rows <= num_columns:
                product = ops.matmul(ops.matmul(u, square), v)
            else:
                product = ops.matmul(u, ops.matmul(square, v))
        else:
            product = ops.matmul(u * middle[:, None, :], v)
        split = ops.reshape(product, self._arrangement.split_shape)
        return ops.reshape(
            ops.transpose(split, self._arrangement.to_kernel),
            self._arrangement.kernel_shape,
        )

    def task_variables(self, task: str) -> list[keras.Variable]:
        """Returns what is trained with the loss of `task` alone."""
        return [self._task_factors[task]] if task in self.tasks else []

    @property
    def unscaled_factors(self) -> list[keras.Variable]:
        """The factors that decoupled weight decay leaves as they are.

        All but V: shrinking V shrinks the kernel by the same share, as it
        does an ordinary one; shrinking each factor would do so several times.
        """
        return [v for name, v in self._factor_variables() if name != "v"]

    def assign_kernel(self, kernel: np.ndarray) -> None:
        """Makes the factors those of a given kernel.

        Args:
          kernel: of the ordinary layer's kernel shape.

        Raises:
          UsageError: the shape is another, or a value is not finite.
        """
        kernel = np.asarray(kernel)
        if kernel.shape != self._arrangement.kernel_shape:
            raise errors.UsageError(
                f"layer {self.name!r} got a kernel of shape "
                f"{list(kernel.shape)}; give one of "
                f"{list(self._arrangement.kernel_shape)}"
            )
        values = initializers.Values(lambda: kernel, self)
        for name, variable in self._factor_variables():
            variable.assign(values.of(name))

    def _build_kernel(
        self, kernel_shape: tuple[int, ...], groups: int, num_out: int
    ) -> None:
        """Adds the factors and the bias."""
        arrangement = factorization.Arrangement(kernel_shape, groups)
        self._arrangement = arrangement
        num_groups, num_rows, num_columns = arrangement.shape
        rank = arrangement.rank
        draw = functools.partial(
            self.kernel_initializer, kernel_shape, dtype="float32"
        )
        values = initializers.Values(
            lambda: keras.ops.convert_to_numpy(draw()),
            self,
        )

        def add(name: str, shape: tuple[int, ...]) -> keras.Variable:
            # float32 under any policy: the product is what is rounded.
            return self.add_weight(
                name=name,
                shape=shape,
                dtype="float32",
                initializer=values.initializer(name),
                autocast=False,
            )

        square = (num_groups, rank, rank)
        self.u = add("u", (num_groups, num_rows, rank))
        self.v = add("v", (num_groups, rank, num_columns))
        self._inner = [add(f"inner_{i}", square) for i in range(self.depth - 1)]
        own = square if self.task_factor == "full" else square[:2]
        self._task_factors = {
            task: add(f"task_{task}", own) for task in self.tasks
        }
        self._common = None if self.tasks else add(_COMMON, own)
        self.bias = (
            self.add_weight(
                name="bias",
                shape=(num_out,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
            )
            if self.use_bias
            else None
        )

    def _combined(self) -> Any:
        """Returns M_1 .. M_T: `[groups, rank, rank]`, or a diagonal."""
        if self._common is not None:
            return keras.ops.convert_to_tensor(self._common)
        factors = [
            keras.ops.convert_to_tensor(self._task_factors[task])
            for task in self.tasks
        ]
        times = (
            keras.ops.matmul
            if self.task_factor == "full"
            else keras.ops.multiply
        )
        return functools.reduce(times, factors)

    def _factor_variables(self) -> list[tuple[str, keras.Variable]]:
        variables = [("u", self.u), ("v", self.v)]
        variables += [(f"inner_{i}", v) for i, v in enumerate(self._inner)]
        variables += [(f"task_{t}", v) for t, v in self._task_factors.items()]
        if self._common is not None:
            variables.append((_COMMON, self._common))
        return variables

    def _rounded_kernel(self) -> Any:
        """Returns the kernel as the layer uses it; adds its penalty."""
        kernel = self.kernel
        if self.kernel_regularizer is not None:
            self.add_loss(self.kernel_regularizer(kernel))
        return keras.ops.cast(kernel, self.compute_dtype)

    def _finished(self, y: Any, channel_axis: int = -1) -> Any:
        """Returns an output with bias and activation."""
        if self.bias is not None:
            shape = [1] * len(y.shape)
            shape[channel_axis] = -1
            y = y + keras.ops.cast(keras.ops.reshape(self.bias, shape), y.dtype)
        return self.activation(y)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "tasks": list(self.tasks),
            "depth": self.depth,
            "task_factor": self.task_factor,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
            "bias_initializer": keras.initializers.serialize(
                self.bias_initializer
            ),
            "kernel_regularizer": keras.regularizers.serialize(
                self.kernel_regularizer
            ),
            "bias_regularizer": keras.regularizers.serialize(
                self.bias_regularizer
            ),
        }


@_serializable
class FactorizedConv2D(Factorized):
    """A 2-D convolution whose kernel is trained as a product."""

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        tasks: Sequence[str] = (),
        strides: int | Sequence[int] = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = (1, 1),
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        depth: int = factorization.DEPTH,
        task_factor: str = factorization.TASK_FACTOR,
        **kwargs: Any,
    ):
        """Takes what `keras.layers.Conv2D` takes, and how it is factorised.

        Raises:
          UsageError: a value cannot be.
        """
        super().__init__(
            tasks,
            depth,
            task_factor,
            activation,
            use_bias,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            **kwargs,
        )
        self.filters = validation.positive("filters", filters)
        self.kernel_size = validation.pair("kernel_size", kernel_size)
        self.strides = validation.pair("strides", strides)
        self.padding = validation.one_of("padding", padding, ("valid", "same"))
        self.data_format = keras.config.image_data_format()
        if data_format is not None:
            self.data_format = validation.one_of(
                "data_format", data_format, ("channels_last", "channels_first")
            )
        self.dilation_rate = validation.pair("dilation_rate", dilation_rate)
        self.groups = validation.positive("groups", groups)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise errors.UsageError(
                f"strides {list(self.strides)} and dilation_rate "
                f"{list(self.dilation_rate)} are both more than 1; a "
                "convolution has one or the other"
            )

    @property
    def _channel_axis(self) -> int:
        return -1 if self.data_format == "channels_last" else 1

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the factors.

        Raises:
          UsageError: the channels are unknown or do not divide into groups.
        """
        num_in = input_shape[self._channel_axis]
        if num_in is None or num_in % self.groups or self.filters % self.groups:
            raise errors.UsageError(
                f"layer {self.name!r} takes {num_in} channels to "
                f"{self.filters} in {self.groups} groups; both must be known "
                "multiples of the groups"
            )
        self._build_kernel(
            (*self.kernel_size, num_in // self.groups, self.filters),
            self.groups,
            self.filters,
        )

    def call(self, x: Any) -> Any:
        """Returns the convolution of `x`."""
        y = keras.ops.conv(
            x,
            self._rounded_kernel(),
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        return self._finished(y, self._channel_axis)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": list(self.kernel_size),
            "strides": list(self.strides),
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": list(self.dilation_rate),
            "groups": self.groups,
        }


@_serializable
class FactorizedConv2DTranspose(FactorizedConv2D):
    """A transposed 2-D convolution whose kernel is trained as a product."""

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        tasks: Sequence[str] = (),
        output_padding: int | Sequence[int] | None = None,
        **kwargs: Any,
    ):
        """Takes what `keras.layers.Conv2DTranspose` takes, and the factors.

        Raises:
          UsageError: a value cannot be.
        """
        super().__init__(filters, kernel_size, tasks, **kwargs)
        self.output_padding = output_padding
        if self.groups > 1:
            raise errors.UsageError(
                f"groups is {self.groups}; a transposed convolution has 1"
            )

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the factors.

        Raises:
          UsageError: the channels are unknown.
        """
        num_in = input_shape[self._channel_axis]
        if num_in is None:
            raise errors.UsageError(
                f"layer {self.name!r} got an input of shape "
                f"{list(input_shape)}; its channels must be known"
            )
        self._build_kernel(
            (*self.kernel_size, self.filters, num_in), 1, self.filters
        )

    def call(self, x: Any) -> Any:
        """Returns the transposed convolution of `x`."""
        y = keras.ops.conv_transpose(
            x,
            self._rounded_kernel(),
            strides=self.strides,
            padding=self.padding,
            output_padding=self.output_padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        return self._finished(y, self._channel_axis)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = {
            **super().get_config(),
            "output_padding": self.output_padding,
        }
        # An ordinary one takes none.
        del config["groups"]
        return config


@_serializable
class FactorizedDense(Factorized):
    """A dense layer whose kernel is trained as a product."""

    def __init__(
        self,
        units: int,
        tasks: Sequence[str] = (),
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        depth: int = factorization.DEPTH,
        task_factor: str = factorization.TASK_FACTOR,
        **kwargs: Any,
    ):
        """Takes what `keras.layers.Dense` takes, and how it is factorised.

        Raises:
          UsageError: a value cannot be.
        """
        super().__init__(
            tasks,
            depth,
            task_factor,
            activation,
            use_bias,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            **kwargs,
        )
        self.units = validation.positive("units", units)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the factors.

        Raises:
          UsageError: the input's last axis is unknown.
        """
        num_in = input_shape[-1]
        if num_in is None:
            raise errors.UsageError(
                f"layer {self.name!r} got an input of shape "
                f"{list(input_shape)}; its last axis must be known"
            )
        self._build_kernel((num_in, self.units), 1, self.units)

    def call(self, x: Any) -> Any:
        """Returns `x` times the kernel, with bias and activation."""
        return self._finished(keras.ops.matmul(x, self._rounded_kernel()))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "units": self.units}
