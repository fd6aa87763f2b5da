"""Every weight of an export in one long variable, each stored once.

Invariant: a component's arrays lie in the order of its layer, from where the
pool says it begins; what reads them depends on the spec alone. So a graph
holds one variable and one function per kind of component, however many tasks
there are: a variable per weight would cost a task more bytes of graph than a
small head has weights (docs/decisions.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from collections.abc import Sequence
from typing import NamedTuple
from typing import TypeAlias

import ml_dtypes
import numpy as np
import tensorflow as tf

from keras_munet.core import int8

Shapes: TypeAlias = Sequence[tuple[str, tuple[int, ...]]]
# TensorFlow shares a slice's memory where it begins at a multiple of 64 bytes.
_ALIGNMENT = 64


class Offsets(NamedTuple):
    """The offsets at which a component begins, in elements.

    Attributes:
      values: in the pool of values.
      kernels: in the pool of 8-bit kernels.
    """

    values: int
    kernels: int


class Pool:
    """Holds the weights of components and reads them in a graph.

    Attributes:
      values: `[n]` of float32 or bfloat16: all weights, or with `int8` those
        that are no kernels, and the kernels' scales.
      kernels: `[n] int8`, or None without them.
    """

    def __init__(self, weights: str):
        """Makes an empty pool.

        Args:
          weights: how they are stored; see `options.Options`.
        """
        self._weights = weights
        self._parts: list[np.ndarray] = []
        self._kernel_parts: list[np.ndarray] = []
        self._num_elements = [0, 0]
        self._places: dict[str, Offsets] = {}
        self.values: tf.Variable | None = None
        self.kernels: tf.Variable | None = None

    def add(
        self, component_id: str, arrays: Iterable[tuple[str, np.ndarray]]
    ) -> None:
        """Appends the arrays of a component, unless they are there.

        Args:
          component_id: of the component.
          arrays: (name, array) in an order that depends on its spec alone.
        """
        if component_id in self._places:
            return
        self._places[component_id] = Offsets(*self._num_elements)
        for name, array in arrays:
            value = np.asarray(array, np.float32)
            if self._is_kernel(name):
                kernel, scale = int8.quantize_kernel(value)
                self._append(1, kernel)
                self._append(0, scale)
            else:
                self._append(0, value)

    def close(self) -> None:
        """Makes the variables; nothing can be added afterwards."""
        self.values = tf.Variable(
            _joined(self._parts), trainable=False, name="values"
        )
        if self._weights == "int8":
            self.kernels = tf.Variable(
                _joined(self._kernel_parts), trainable=False, name="kernels"
            )
        self._parts, self._kernel_parts = [], []

    @property
    def num_pools(self) -> int:
        """Returns the number of pools, two with `int8`."""
        return 2 if self._weights == "int8" else 1

    def offsets(self, component_id: str) -> Offsets:
        """Returns where a component begins."""
        return self._places[component_id]

    def tensors(self) -> list[tf.Tensor]:
        """Returns the pools as tensors, for `read`."""
        pools = [self.values, self.kernels]
        return [tf.convert_to_tensor(p) for p in pools if p is not None]

    def read(
        self,
        shapes: Shapes,
        pools: list[tf.Tensor],
        places: list[tf.Tensor],
    ) -> list[tf.Tensor]:
        """Returns a component's arrays, float32, in the order of `add`.

        Args:
          shapes: (name, shape) of its arrays.
          pools: as `tensors` gives them.
          places: where it begins in each, `[1] int64`. Not a scalar: OpenVINO
            2026.4 folds an axis that is added to a constant scalar from unset
            memory.
        """
        at = [0] * len(pools)

        def take(pool: int, count: int) -> tf.Tensor:
            start = places[pool] + at[pool] if at[pool] else places[pool]
            at[pool] += _padded(count, pools[pool].dtype.size)
            return tf.slice(pools[pool], start, [count])

        arrays = []
        for name, shape in shapes:
            if self._is_kernel(name):
                kernel = tf.reshape(take(1, math.prod(shape)), shape)
                scale = take(0, shape[-1])
                arrays.append(tf.cast(kernel, tf.float32) * scale)
            else:
                value = tf.cast(take(0, math.prod(shape)), tf.float32)
                # One operation less, of which a graph has thousands.
                flat = len(shape) == 1
                arrays.append(value if flat else tf.reshape(value, shape))
        return arrays

    def _is_kernel(self, weight_name: str) -> bool:
        return self._weights == "int8" and int8.is_kernel(weight_name)

    def _append(self, pool: int, value: np.ndarray) -> None:
        flat = value.reshape(-1)
        if self._weights == "bfloat16":
            flat = flat.astype(ml_dtypes.bfloat16)
        count = _padded(flat.size, flat.itemsize)
        padding = np.zeros(count - flat.size, flat.dtype)
        (self._parts, self._kernel_parts)[pool].extend([flat, padding])
        self._num_elements[pool] += count


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, np.int8)


def _padded(count: int, itemsize: int) -> int:
    step = _ALIGNMENT // itemsize
    return -(-count // step) * step
