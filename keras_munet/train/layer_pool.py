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
from keras_munet.models import layer_factory
from keras_munet.train import weight_factors

_HOST = "CPU:0"
TRAINED = "trained"
FROZEN = "frozen"
# Of what is trained as factors, before the number of square ones.
FACTORIZED = "factorized"
# Before the role of what AdamW trains.
_ADAMW = "adamw_"


@dataclasses.dataclass
class PooledLayer:
    """A layer with the optimizer state of its weights.

    Attributes:
      spec: what the layer is.
      layer: the live layer, built and packed.
      momentum: variable of bfloat16 values, as many as are trained; None when
        frozen.
      holds: id of the component whose values it has; None when unknown.
      layout: of the factors that are trained in the place of the layer's
        weights; None where it is trained as it is.
      factors: what `layout` says, `[num_values] float32`.
      second: variable of AdamW's second moment, float32, as many values as
        are trained; None with SGD.
    """

    spec: specs.ComponentSpec
    layer: keras.layers.Layer
    momentum: tf.Variable | None
    holds: str | None = None
    layout: weight_factors.FactorLayout | None = None
    factors: keras.Variable | None = None
    second: tf.Variable | None = None

    @property
    def weights(self) -> keras.Variable:
        """The layer's own, `[num_params] float32`."""
        (weights,) = self.layer.weights
        return weights

    @property
    def trained(self) -> keras.Variable:
        """Returns what the optimizer updates: the weights or their factors."""
        return self.weights if self.factors is None else self.factors

    @property
    def variable(self) -> tf.Variable:
        """TensorFlow's variable of what an optimizer moves."""
        return self.trained.value

    def product(self) -> tf.Tensor:
        """Returns what the layer's weights are by their factors now."""
        assert self.layout is not None, self.spec.name
        return self.layout.product(tf.convert_to_tensor(self.trained.value))

    def contract(self) -> None:
        """Gives the layer the weights that its factors stand for."""
        if self.layout is None:
            return
        # The host multiplies in full precision on every device.
        with tf.device(_HOST):
            packed = tf.constant(self.trained.numpy())
            product = self.layout.product(packed).numpy()
        self.weights.assign(product)

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
        layer_factory.assign_values(self.layer, self.spec, component.weights)
        if self.momentum is not None:
            packed = packed_momentum(self.spec, component.momentum)
            if self.layout is not None:
                values = layer_factory.pack(self.spec, component.weights)
                self.trained.assign(self.layout.first_values(values))
                packed = self.layout.first_momentum(packed)
            dtype = self.momentum.dtype.as_numpy_dtype
            self.momentum.assign(packed.astype(dtype))
            if self.second is not None:
                # From zero, the first step would be the parent's momentum
                # over the child's gradient, which has no bound.
                carried = tf.cast(self.momentum, tf.float32)
                self.second.assign(tf.square(carried))
        self.holds = component_id

    def snapshot(self) -> specs.Component:
        """Returns copies of the present values and momenta.

        Of a product they are those that it had when it was contracted last.
        """
        momentum = None
        if self.momentum is not None:
            values = np.array(self.momentum.numpy())
            if self.layout is not None:
                with tf.device(_HOST):
                    packed = tf.constant(self.trained.numpy())
                    values = self.layout.momentum(packed, values).numpy()
            bits = values.astype(tf.bfloat16.as_numpy_dtype).view(np.uint16)
            momentum = layer_factory.unpack(self.spec, bits)
        return specs.Component(
            self.spec,
            layer_factory.layer_values(self.layer, self.spec),
            momentum,
        )


class LayerPool:
    """Every slot of one trainer, by role, spec and count."""

    def __init__(self, strategy: tf.distribute.Strategy):
        """Makes an empty pool whose variables live under `strategy`."""
        self._strategy = strategy
        self._slots: dict[tuple[str, str, int], PooledLayer] = {}

    def get(
        self,
        role: str,
        spec: specs.ComponentSpec,
        count: int,
    ) -> PooledLayer:
        """Returns the slot of the `count`-th use of `spec` in `role`.

        Args:
          role: `FROZEN` or a `trained_role`.
          spec: what the layer is.
          count: how many such uses came before in the same generation.
        """
        key = role, spec.spec_id, count
        if key not in self._slots:
            self._slots[key] = self._make(role, spec, count)
        return self._slots[key]

    def keep_only(self, slots: Iterable[PooledLayer]) -> None:
        """Frees every slot that is not one of `slots`."""
        used_ids = {id(slot) for slot in slots}
        self._slots = {
            key: slot
            for key, slot in self._slots.items()
            if id(slot) in used_ids
        }

    def _make(
        self,
        role: str,
        spec: specs.ComponentSpec,
        count: int,
    ) -> PooledLayer:
        name = f"{spec.name}_{role}{count}_{spec.spec_id[:6]}"
        # Every variable must exist before a step is traced (platform fact 2).
        with self._strategy.scope():
            layer = layer_factory.make_layer(spec, name, dtype="float32")
            layer.pack()
            layer.build()
            momentum = layout = factors = second = None
            num_trained = spec.num_params
            trained = role.removeprefix(_ADAMW)
            if trained.startswith(FACTORIZED):
                depth = int(trained.removeprefix(FACTORIZED))
                layout = weight_factors.FactorLayout(spec, depth)
                num_trained = layout.num_values
                factors = keras.Variable(
                    np.zeros(num_trained, np.float32),
                    dtype="float32",
                    autocast=False,
                    name=f"{name}_factors",
                )
            if role != FROZEN:
                momentum = tf.Variable(
                    tf.zeros([num_trained], tf.bfloat16),
                    name=f"{name}_momentum",
                    trainable=False,
                )
            if role.startswith(_ADAMW):
                second = tf.Variable(
                    tf.zeros([num_trained]),
                    name=f"{name}_second",
                    trainable=False,
                )
        return PooledLayer(
            spec,
            layer,
            momentum,
            layout=layout,
            factors=factors,
            second=second,
        )


def trained_role(factor_depth: int, uses_adamw: bool = False) -> str:
    """Returns the role of a component that a child trains.

    Args:
      factor_depth: see `child_job.JobComponent`.
      uses_adamw: whether AdamW trains it, not SGD.
    """
    role = f"{FACTORIZED}{factor_depth}" if factor_depth else TRAINED
    return f"{_ADAMW}{role}" if uses_adamw else role


def packed_momentum(
    spec: specs.ComponentSpec, momentum: Mapping[str, np.ndarray] | None
) -> np.ndarray:
    """Returns a component's momentum end to end, `[num_params] bfloat16`.

    Args:
      spec: of the component.
      momentum: weight name -> its bits, uint16; None for zeros.
    """
    dtype = tf.bfloat16.as_numpy_dtype
    if momentum is None:
        return np.zeros(spec.num_params, dtype)
    return layer_factory.pack(spec, momentum).view(dtype)
