"""The first values of factors: their product is an ordinary first kernel."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from typing import Protocol

import keras
import numpy as np

from keras_munet import errors
from keras_munet.overparam import factorization


class FactorizedLayer(Protocol):
    """Has what decides the first values of a layer's factors."""

    name: str
    arrangement: factorization.Arrangement
    tasks: tuple[str, ...]
    depth: int
    task_factor: str


class Values:
    """The first values of a layer's factors, made on request.

    A model that is only counted, or whose weights are about to be loaded,
    needs none of them.
    """

    def __init__(
        self, kernel: Callable[[], np.ndarray], layer: FactorizedLayer
    ):
        self._kernel = kernel
        self._layer = layer

    @functools.cached_property
    def _factors(self) -> factorization.Factors:
        layer = self._layer
        try:
            return factorization.factorize(
                self._kernel(),
                layer.arrangement,
                layer.depth - 1 + max(1, len(layer.tasks)),
            )
        except errors.UsageError as error:
            raise errors.UsageError(f"layer {layer.name!r}: {error}") from error

    def of(self, name: str) -> np.ndarray:
        """Returns the first value of one factor."""
        if name in ("u", "v"):
            return getattr(self._factors, name)
        middle = self._factors.middle
        is_inner = name.startswith("inner_")
        if self._layer.task_factor == "diagonal" and not is_inner:
            return middle
        return middle[:, :, None] * np.eye(middle.shape[-1], dtype=np.float32)

    def initializer(self, name: str) -> Callable[..., Any]:
        """Returns the initializer of one factor."""

        def initial(shape: tuple[int, ...], dtype: Any = None) -> Any:
            del shape
            return keras.ops.convert_to_tensor(self.of(name), dtype)

        return initial
