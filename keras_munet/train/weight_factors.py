"""Dense kernels of a component as products of factors while it is trained.

Invariant: a component enters and leaves training as ordinary kernels. Its
first product is the very kernel that it was given, on any machine, and what is
published is the product that was scored; only the optimizer sees factors.

A kernel W, `[rows, columns]`, is trained as U M_1 .. M_depth V with the square
factors of side min(rows, columns) (section 5; all are of one task here). At
first the longer of U and V is W and every other factor the identity. It is not
the singular value decomposition of section 5: a new head is zero and has no
singular vectors of its own, and those of other kernels are not the same on
every machine. The first gradient of the longer factor is the kernel's own, so
a zero kernel begins as it would without factors.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_munet.core import int8
from keras_munet.core import specs
from keras_munet.models import layer_factory

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class FactorLayout:
    """The layout of one component's values as factors, end to end.

    The factors of a kernel stand where the kernel stands in the record, U
    first; what is no dense kernel is as it is.

    Attributes:
      spec: of the component.
      depth: square factors between U and V, at least 1.
    """

    spec: specs.ComponentSpec
    depth: int

    @functools.cached_property
    def shapes(self) -> tuple[tuple[Shape, ...], ...]:
        """Of each weight the shapes of its factors; one where it has none."""
        return tuple(
            self._factors(shape)
            if len(shape) == 2 and int8.is_kernel(name)
            else (shape,)
            for name, shape in self.spec.weights
        )

    @property
    def num_values(self) -> int:
        """Returns the number of trained values."""
        return sum(math.prod(shape) for part in self.shapes for shape in part)

    def first_values(self, packed: np.ndarray) -> np.ndarray:
        """Returns what training starts from, `[num_values] float32`.

        Args:
          packed: the component's values, `[num_params] float32`.
        """
        return self._spread(packed, np.eye)

    def first_momentum(self, packed: np.ndarray) -> np.ndarray:
        """Returns a momentum with which the product moves as it did before.

        Args:
          packed: of the component's values, `[num_params] bfloat16`.
        """
        return self._spread(packed, lambda side: np.zeros((side, side)))

    def product(self, packed: tf.Tensor) -> tf.Tensor:
        """Returns the component's values, `[num_params] float32`.

        Args:
          packed: what is trained, `[num_values] float32`.
        """
        factors = [factor for part in self._split(packed) for factor in part]
        kernels = self.kernels(factors)
        return tf.concat([tf.reshape(k, [-1]) for k in kernels], 0)

    def kernels(self, factors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the component's weights, in the order of its record.

        Args:
          factors: of each weight one after the other, as `shapes` has them.
        """
        rest = iter(factors)
        return [
            _folded(tf.matmul, [next(rest) for _ in shapes], shapes)
            for shapes in self.shapes
        ]

    def momentum(self, packed: tf.Tensor, momentum: tf.Tensor) -> tf.Tensor:
        """Returns the momentum of the product, `[num_params] bfloat16`.

        It is where the product goes while every factor goes along its own
        momentum, by the product rule.

        Args:
          packed: what is trained, `[num_values] float32`.
          momentum: of it, `[num_values]`.
        """

        def joined(before, after):
            (a, moved_a), (b, moved_b) = before, after
            moved = tf.matmul(moved_a, b) + tf.matmul(a, moved_b)
            return tf.matmul(a, b), moved

        moving = self._split(tf.cast(momentum, tf.float32))
        traces = [
            _folded(joined, tuple(zip(part, moved, strict=True)), shapes)[1]
            for part, moved, shapes in zip(
                self._split(packed), moving, self.shapes, strict=True
            )
        ]
        flat = tf.concat([tf.reshape(t, [-1]) for t in traces], 0)
        return tf.cast(flat, tf.bfloat16)

    def _factors(self, shape: Shape) -> tuple[Shape, ...]:
        rows, columns = shape
        side = min(shape)
        square = (side, side)
        return (rows, side), *[square] * self.depth, (side, columns)

    def _spread(
        self, packed: np.ndarray, fill: Callable[[int], np.ndarray]
    ) -> np.ndarray:
        """Puts each kernel in its longer factor and `fill` in the rest."""
        arrays = []
        values = layer_factory.unpack(self.spec, packed)
        for (name, _), part in zip(self.spec.weights, self.shapes, strict=True):
            holds = int(np.argmax([math.prod(shape) for shape in part]))
            arrays += [
                values[name] if name_part == holds else fill(shape[0])
                for name_part, shape in enumerate(part)
            ]
        flat = [np.ravel(value).astype(packed.dtype) for value in arrays]
        return np.concatenate(flat)

    def _split(self, packed: tf.Tensor) -> Iterator[tuple[tf.Tensor, ...]]:
        """Yields the factors of each weight."""
        flat = [shape for part in self.shapes for shape in part]
        pieces = iter(tf.split(packed, [math.prod(shape) for shape in flat]))
        for part in self.shapes:
            yield tuple(tf.reshape(next(pieces), shape) for shape in part)


def _folded(
    join: Callable[[Any, Any], Any],
    parts: Sequence[Any],
    shapes: Sequence[Shape],
) -> Any:
    """Joins the factors of those shapes, square ones before the longer one."""
    if len(shapes) > 1 and shapes[0] != shapes[1]:
        return functools.reduce(lambda b, a: join(a, b), reversed(parts))
    return functools.reduce(join, parts)
