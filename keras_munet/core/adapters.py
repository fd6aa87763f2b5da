"""Adapters of other distributions, in the place of a family's own.

Invariant: an adapter is a component like any other: its record says what it
is and its first values depend on (record, generator) alone. Where it stands,
and when it is inserted, stay the family's and the search's to say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Set
from typing import Any
from typing import Protocol

import numpy as np

from keras_munet import errors
from keras_munet.core import architecture
from keras_munet.core import plugins
from keras_munet.core import registry
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs

ADAPTERS = registry.Registry(
    "adapter", "keras_munet.adapters", [settings_lib.ADAPTER]
)
PREFIX = "residual_adapter_"


class Adapter(Protocol):
    """An adapter; an entry point of group `keras_munet.adapters` names one.

    Example:
      >>> class Shift:
      ...     def spec(self, built_in):
      ...         width = built_in.config["width"]
      ...         weights = (("shift", (width,)),)
      ...         config = {"width": width}
      ...         return specs.ComponentSpec(
      ...             built_in.name, "Shift", config, weights
      ...         )
      ...
      ...     def initial(self, spec, rng):
      ...         zeros = np.zeros(spec.num_params, np.float32)
      ...         return specs.Component(spec, {"shift": zeros})
      >>> name, config = "residual_adapter_0", {"width": 4}
      >>> built_in = specs.ComponentSpec(name, "ResidualAdapter", config, ())
      >>> Shift().spec(built_in).num_params
      4
    """

    def spec(self, built_in: specs.ComponentSpec) -> specs.ComponentSpec:
        """Returns the record of this adapter.

        Args:
          built_in: the record of the family's own one, with `width` and
            `hidden_dim` in its config; the place, its name, is kept.
        """
        ...

    def initial(
        self, spec: specs.ComponentSpec, rng: np.random.Generator
    ) -> specs.Component:
        """Returns an adapter of `spec` with its first values."""
        ...


def with_adapter(family: architecture.Family, name: str) -> architecture.Family:
    """Returns `family` with the adapters that `search.adapter` names.

    Raises:
      UsageError: there is no such adapter, or it cannot be loaded.
    """
    if name == settings_lib.ADAPTER:
        return family
    adapter = ADAPTERS.get(name, "search.adapter")
    return _Adapted(family, name, adapter)


@dataclasses.dataclass(frozen=True)
class _Adapted:
    """A family whose adapters are another distribution's."""

    family: architecture.Family
    adapter_name: str
    adapter: Adapter

    @property
    def name(self) -> str:
        """The family's own name: its records are the same."""
        return self.family.name

    def layout(
        self,
        hparams: specs.Hparams,
        num_classes: int,
        adapters: Set[int] = frozenset(),
    ) -> tuple[specs.ComponentSpec, ...]:
        """Returns the family's layout with this adapter in it."""
        return tuple(
            self._replaced(spec) if spec.name.startswith(PREFIX) else spec
            for spec in self.family.layout(hparams, num_classes, adapters)
        )

    def can_resample(self, spec: specs.ComponentSpec) -> bool:
        """Returns whether other shapes can be resampled to `spec`."""
        return not spec.name.startswith(PREFIX) and self.family.can_resample(
            spec
        )

    def initial(
        self, spec: specs.ComponentSpec, rng: np.random.Generator
    ) -> specs.Component:
        """Returns a component with fresh values drawn from `rng`.

        Raises:
          UsageError: the adapter's values do not fit its record.
        """
        if not spec.name.startswith(PREFIX):
            return self.family.initial(spec, rng)
        with plugins.name_errors("adapter", self.adapter_name):
            component = self.adapter.initial(spec, rng)
        shapes = {
            name: np.shape(array) for name, array in component.weights.items()
        }
        if shapes != dict(spec.weights):
            raise errors.UsageError(
                f"adapter {self.adapter_name!r} gives weights {shapes}; its "
                f"record has {dict(spec.weights)}; fix the plug-in"
            )
        return component

    def resample(
        self, component: specs.Component, spec: specs.ComponentSpec
    ) -> specs.Component:
        """Returns the values of `component` on the grid of `spec`."""
        return self.family.resample(component, spec)

    def to_json(self) -> dict[str, Any]:
        """Returns the family's own values; the adapter is a setting."""
        return self.family.to_json()

    def _replaced(self, built_in: specs.ComponentSpec) -> specs.ComponentSpec:
        with plugins.name_errors("adapter", self.adapter_name):
            spec = self.adapter.spec(built_in)
        if spec.name != built_in.name:
            raise errors.UsageError(
                f"adapter {self.adapter_name!r} calls itself {spec.name!r}; "
                f"its place is {built_in.name!r}; fix the plug-in"
            )
        return spec
