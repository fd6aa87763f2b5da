"""Runs one program on every replica of a strategy.

Invariant: the program is traced once. What it changes lies in variables of
each replica, whose buffers its calls reuse, and so do the examples, which are
sent only when others are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_munet.train import matmul_precision
from keras_munet.train.program import bucket as bucket_lib
from keras_munet.train.program import call_data
from keras_munet.train.program import program as program_lib
from keras_munet.train.program import stacking


class Runner:
    """The program of one bucket and the variables of its replicas.

    Attributes:
      bucket: of the program.
      num_calls: how often the host has called it.
      sent: what `send` was given last, as the caller names it.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        bucket: bucket_lib.Bucket,
        products: matmul_precision.MatmulPrecision,
    ):
        """Makes the variables and traces the program.

        Args:
          strategy: whose replicas run it.
          bucket: the shapes.
          products: which precision a training step multiplies in.
        """
        self._strategy = strategy
        self.bucket = bucket
        self.num_calls = 0
        self.sent: Any = None
        program = program_lib.ChildProgram(
            bucket, products, strategy.num_replicas_in_sync
        )
        # A `tf.function` would be traced once for each replica.
        self._traced = program.traced()
        with strategy.scope():
            self._state, self._pool = tf.nest.map_structure(
                _variable,
                (
                    call_data.state_specs(bucket),
                    call_data.pool_specs(bucket),
                ),
            )
        self._call = tf.function(self._on_replicas, autograph=False)

    def fill(self, replica: int, stacked: stacking.Stacked) -> None:
        """Gives a replica the values of its children."""
        self._assign(self._state.weights, replica, stacked.weights)
        self._assign(self._state.momenta, replica, stacked.momenta)
        if self._state.second:
            second = stacking.squares(stacked)
            self._assign(self._state.second, replica, second)

    def send(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Gives all replicas their examples; see `program.Pool`."""
        for replica in range(self._strategy.num_replicas_in_sync):
            self._assign(self._pool, replica, call_data.Pool(images, labels))

    def run(self, plans: Sequence[call_data.Plan]) -> list[call_data.Sums]:
        """Calls the program once; returns what each replica counts.

        Args:
          plans: of each replica, of NumPy values.
        """
        self.num_calls += 1
        specs = call_data.plan_specs(self.bucket)

        def plan_of(context: Any) -> Any:
            plan = plans[context.replica_id_in_sync_group]
            return tf.nest.map_structure(
                lambda spec, value: tf.constant(value, spec.dtype, spec.shape),
                specs,
                plan,
            )

        if len(plans) == 1:
            # A strategy of one device takes the values as they are.
            sums = self._call(
                tf.nest.map_structure(
                    lambda spec, value: tf.constant(
                        value, spec.dtype, spec.shape
                    ),
                    specs,
                    plans[0],
                )
            )
        else:
            distribute = (
                self._strategy.experimental_distribute_values_from_function
            )
            sums = self._call(distribute(plan_of))
        per_replica = [
            [
                np.asarray(value)
                for value in self._strategy.experimental_local_results(leaf)
            ]
            for leaf in sums
        ]
        return [
            call_data.Sums(*leaves) for leaves in zip(*per_replica, strict=True)
        ]

    def read(
        self, replica: int, keys: set[str]
    ) -> tuple[stacking.Arrays, stacking.Arrays]:
        """Returns a replica's weights and momenta of some layers."""
        weights, momenta = (
            {
                key: {
                    name: np.array(self._of_replica(variable, replica))
                    for name, variable in values.items()
                }
                for key, values in part.items()
                if key in keys
            }
            for part in (self._state.weights, self._state.momenta)
        )
        return weights, momenta

    @property
    def num_traces(self) -> int:
        """Returns how often the replicas' call was traced."""
        return self._call.experimental_get_tracing_count()

    def _on_replicas(self, plan: Any) -> Any:
        return self._strategy.run(self._on_replica, (plan,))

    def _on_replica(self, plan: Any) -> Any:
        state, pool = tf.nest.map_structure(
            lambda variable: variable.read_value(), (self._state, self._pool)
        )
        state, sums = self._traced(state, plan, pool)
        tf.nest.map_structure(
            lambda variable, value: variable.assign(value, read_value=False),
            self._state,
            state,
        )
        return sums

    def _of_replica(self, variable: Any, replica: int) -> Any:
        return self._strategy.experimental_local_results(variable)[replica]

    def _assign(self, variables: Any, replica: int, values: Any) -> None:
        tf.nest.map_structure(
            lambda variable, value: self._of_replica(variable, replica).assign(
                value, read_value=False
            ),
            variables,
            values,
        )


def _variable(spec: tf.TensorSpec) -> tf.Variable:
    """Returns a variable that each replica has a value of its own of."""
    return tf.Variable(
        tf.zeros(spec.shape, spec.dtype),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
