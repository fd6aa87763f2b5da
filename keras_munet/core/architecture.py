"""Describes an architecture to the search without building any of it.

A family says which components a path needs for given hyperparameters. The
search compares that list with what ancestors have; it never sees a layer.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any
from typing import Protocol

import numpy as np

from keras_munet import errors
from keras_munet.core import registry
from keras_munet.core import specs

FAMILIES = registry.Registry("model family")


class Family(Protocol):
    """The shape of every path that one root can give rise to."""

    @property
    def name(self) -> str:
        """Returns the family's name in records."""
        ...

    def layout(
        self,
        hparams: specs.Hparams,
        num_classes: int,
        adapters: Set[int] = frozenset(),
    ) -> tuple[specs.ComponentSpec, ...]:
        """Returns the components of a path, input first.

        Args:
          hparams: reads `num_layers`, `ds_image_size`, `adapter_dim`.
          num_classes: width of the head.
          adapters: the layers with a residual adapter in front.
        """
        ...

    def can_resample(self, spec: specs.ComponentSpec) -> bool:
        """Returns whether other shapes can be resampled to `spec`."""
        ...

    def initial(
        self, spec: specs.ComponentSpec, rng: np.random.Generator
    ) -> specs.Component:
        """Returns a component with fresh values drawn from `rng`."""
        ...

    def resample(
        self, component: specs.Component, spec: specs.ComponentSpec
    ) -> specs.Component:
        """Returns the values of `component` on the grid of `spec`."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values with the family's name as `family`."""
        ...


def from_json(value: dict[str, Any]) -> Family:
    """Returns the family that `Family.to_json` wrote.

    Raises:
      UsageError: no family of that name is registered.
      StoreError: it is not what a family writes.
    """
    try:
        return FAMILIES.get(str(value["family"])).from_json(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise errors.StoreError(
            f"a system's family cannot be read: {' '.join(str(error).split())}"
            "; restore system.json from a copy of the system"
        ) from error
