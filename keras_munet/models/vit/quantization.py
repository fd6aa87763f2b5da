"""Keras's `quantize` for components: kernels of a live layer as 8 bits.

Invariant: a quantised layer computes what it would with each kernel rounded
to `core.eight_bits`; its other weights, and every sum, are as they were. A
file of a quantised model holds the 8 bits.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import int8

_MODE = "int8"


class QuantizableLayer(keras.layers.Layer):
    """A layer whose weights are those of a component."""

    # Keras's property, which its own types leave open.
    dtype_policy: Any
    _is_quantized = False

    def quantize(
        self,
        mode: str | None = None,
        type_check: bool = True,
        config: Any = None,
    ) -> None:
        """Replaces kernels by 8 bits; `keras.Model.quantize` calls it.

        Args:
          mode: `int8`, all there is.
          type_check: of Keras; subclasses are quantised as their base is.
          config: of Keras; with quantizers of its own it is refused.

        Raises:
          UsageError: another mode, or a config with quantizers.
        """
        del type_check
        own = (
            mode == _MODE
            and config is not None
            and config.get_config()
            != keras.quantizers.Int8QuantizationConfig().get_config()
        )
        if mode != _MODE or own:
            raise errors.UsageError(
                f"component {self.name!r} cannot be quantised as {mode}"
                f"{' by quantizers of your own' if own else ''}; use "
                "quantize('int8'), with filters= where other layers are to be "
                "quantised otherwise"
            )
        for variable in list(self.weights):
            if int8.is_kernel(variable.name):
                value = variable.numpy()
                self._untrack_variable(variable)
                self._add_kernel(variable.name, value)
        self._is_quantized = True
        self.dtype_policy = keras.dtype_policies.get(
            f"{_MODE}_from_{self.dtype_policy.name}"
        )

    def quantized_call(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the output; `call` reads what weights there are."""
        return self.call(*args, **kwargs)

    def _add_kernel(self, name: str, value: np.ndarray) -> None:
        kernel, scale = int8.quantize_kernel(value)
        for part, array in ((name, kernel), (_scale_name(name), scale)):
            variable = self.add_weight(
                name=part,
                shape=array.shape,
                dtype=array.dtype.name,
                initializer="zeros",
                trainable=False,
                autocast=False,
            )
            variable.assign(array)
        self._is_quantized = True

    def _dequantized(self, names: list[str]) -> list[tf.Tensor]:
        """Returns float32 weights by their names, in that order."""
        values = {v.name: tf.convert_to_tensor(v.value) for v in self.weights}
        return [
            tf.cast(values[name], tf.float32) * values[_scale_name(name)]
            if int8.is_kernel(name)
            else values[name]
            for name in names
        ]


def _scale_name(kernel_name: str) -> str:
    return f"{kernel_name}_scale"
