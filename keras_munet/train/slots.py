"""Live layers that generations borrow: made once, refilled for each child.

Invariant: the n-th use of a spec in a role always gets the same layer, so
graphs of different generations share variables; what no kept graph uses is
freed, so memory does not grow with the number of generations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from keras_munet.core import specs
from keras_munet.graph import nodes

TRAINED = "trained"
FROZEN = "frozen"


@dataclasses.dataclass
class Slot:
    """A layer with the optimizer state of its weights.

    Attributes:
      spec: what the layer is.
      layer: the live layer, built.
      momenta: bfloat16 variables beside the layer's; empty when frozen.
      holds: id of the component whose values it has; None when unknown.
    """

    spec: specs.ComponentSpec
    layer: keras.layers.Layer
    momenta: list[tf.Variable]
    holds: str | None = None

    @property
    def variables(self) -> list[tf.Variable]:
        """The layer's own variables, as TensorFlow's."""
        return [variable.value for variable in self.layer.weights]

    def fill(
        self, load: Callable[[], specs.Component], component_id: str | None
    ) -> None:
        """Takes a component's values in, unless they are there already.

        Args:
          load: returns the component.
          component_id: its published id; None if it will be trained.
        """
        if component_id is not None and self.holds == component_id:
            return
        component = load()
        nodes.assign(self.layer, self.spec, component.weights)
        for variable, (name, shape) in zip(
            self.momenta, self.spec.weights, strict=False
        ):
            variable.assign(_momentum(component.momentum, name, shape))
        self.holds = component_id

    def snapshot(self) -> specs.Component:
        """Returns copies of the present values and momenta."""
        momentum = None
        if self.momenta:
            momentum = {
                name: variable.numpy().view(np.uint16)
                for variable, (name, _) in zip(
                    self.momenta, self.spec.weights, strict=True
                )
            }
        return specs.Component(
            self.spec, nodes.values(self.layer, self.spec), momentum
        )


class SlotPool:
    """Every slot of one trainer, by role, spec and count."""

    def __init__(self, strategy: tf.distribute.Strategy):
        """Makes an empty pool whose variables live under `strategy`."""
        self._strategy = strategy
        self._slots: dict[tuple[str, str, int], Slot] = {}

    def get(
        self,
        role: str,
        spec: specs.ComponentSpec,
        count: int,
    ) -> Slot:
        """Returns the slot of the `count`-th use of `spec` in `role`.

        Args:
          role: `TRAINED` or `FROZEN`.
          spec: what the layer is.
          count: how many such uses came before in the same generation.
        """
        key = role, spec.spec_id, count
        if key not in self._slots:
            self._slots[key] = self._make(role, spec, count)
        return self._slots[key]

    def keep_only(self, slots: Iterable[Slot]) -> None:
        """Frees every slot that is not one of `slots`."""
        kept = {id(slot) for slot in slots}
        self._slots = {
            key: slot for key, slot in self._slots.items() if id(slot) in kept
        }

    def _make(
        self,
        role: str,
        spec: specs.ComponentSpec,
        count: int,
    ) -> Slot:
        name = f"{spec.name}_{role}{count}_{spec.spec_id[:6]}"
        # Every variable must exist before a step is traced (platform fact 2).
        with self._strategy.scope():
            layer = nodes.make_layer(spec, name)
            layer.build()
            momenta = []
            if role == TRAINED:
                momenta = [
                    tf.Variable(
                        tf.zeros(shape, tf.bfloat16),
                        name=f"{name}_momentum_{weight}",
                        trainable=False,
                    )
                    for weight, shape in spec.weights
                ]
        return Slot(spec, layer, momenta)


def _momentum(
    momentum: Mapping[str, np.ndarray] | None,
    name: str,
    shape: tuple[int, ...],
) -> np.ndarray:
    dtype = tf.bfloat16.as_numpy_dtype
    if momentum is None:
        return np.zeros(shape, dtype)
    return momentum[name].view(dtype)
