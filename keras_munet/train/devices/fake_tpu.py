"""The real TPUStrategy on a machine without a TPU: for tracing, not running.

Invariant: nothing but the answer to "which devices are there?" is made up;
variables, replicas and collectives are TensorFlow's own. What is traced under
it can be lowered and compiled for a TPU, and fails when it is run.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# TensorFlow offers these nowhere else.
from tensorflow.python.ops import resource_variable_ops
from tensorflow.python.tpu import tpu_system_metadata

from keras_munet import errors
from keras_munet.train.devices import topology as topology_lib

Strategy = tf.distribute.Strategy
_JOB = "localhost"
_PRESENT_DEVICE = f"/job:{_JOB}/replica:0/task:0/device:CPU:0"
_PYTHON_OPS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
_Device = collections.namedtuple("_Device", ["name", "device_type"])


def tpu_strategy(
    topology: str | topology_lib.Topology,
    num_replicas: int | None = None,
) -> tf.distribute.TPUStrategy:
    """Returns a TPUStrategy on TPUs that are not there.

    Args:
      topology: a TPU type such as `v3-8`, `v4-32` or `v5e-64`, or one that
        was made.
      num_replicas: cores that it uses, those of one slice of the placement;
        None for all.

    Raises:
      UsageError: there is no such type.
    """
    if isinstance(topology, str):
        topology = topology_lib.named_topology(topology)
    cores = topology.cores[:num_replicas]
    # Its variables are given CPUs instead of TPUs that are absent.
    tf.config.set_soft_device_placement(True)
    return tf.distribute.TPUStrategy(
        _Resolver(topology),
        experimental_device_assignment=tf.tpu.experimental.DeviceAssignment(
            tpu_topology(topology), np.array(cores, np.int32)[:, None]
        ),
    )


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """Has variables hold no values, so that they take no memory.

    What is traced with them is the same. A strategy's scope must be entered
    within this one.
    """
    with tf.variable_creator_scope(_valueless):
        yield


def _valueless(next_creator: Any, **kwargs: Any) -> tf.Variable:
    del next_creator
    value = kwargs.pop("initial_value")
    value = value() if callable(value) else value
    dtype = kwargs.pop("dtype", None) or value.dtype
    kwargs.pop("shape", None)
    # The requested device is not there.
    with tf.device(_PRESENT_DEVICE):
        return resource_variable_ops.UninitializedVariable(
            shape=value.shape, dtype=tf.as_dtype(dtype), **kwargs
        )


def check_runnable(function: Any, inputs: Sequence[Any]) -> Any:
    """Traces a step and refuses what needs a Python interpreter to run.

    On a TPU a program runs where no Python is; TensorFlow finds that out when
    the step is run.

    Args:
      function: a `tf.function`.
      inputs: what it is traced with.

    Returns:
      The concrete function.

    Raises:
      UsageError: an operation calls Python; it is named.
    """
    traced = function.get_concrete_function(*inputs)
    graph = traced.graph.as_graph_def()
    nodes = [("the step", node) for node in graph.node]
    for called in graph.library.function:
        nodes += [(called.signature.name, node) for node in called.node_def]
    for where, node in nodes:
        if node.op in _PYTHON_OPS:
            raise errors.UsageError(
                f"operation {node.name!r} of {where} is a {node.op}: it calls "
                "Python, which a TPU program cannot; use TensorFlow operations "
                "instead of tf.py_function and tf.numpy_function"
            )
    return traced


def tpu_topology(
    topology: topology_lib.Topology,
) -> tf.tpu.experimental.Topology:
    """Returns TensorFlow's record of a topology."""
    return tf.tpu.experimental.Topology(
        mesh_shape=list(topology.mesh),
        device_coordinates=np.array(topology.hosts, np.int32),
    )


class _Resolver(tf.distribute.cluster_resolver.TPUClusterResolver):
    """Says that the cores of a topology are there."""

    def __init__(self, topology: topology_lib.Topology):
        super().__init__(tpu="local")
        self._topology = topology

    def get_tpu_system_metadata(
        self,
    ) -> tpu_system_metadata.TPUSystemMetadata:
        """Returns what a TPU system of this topology would answer."""
        hosts = self._topology.hosts
        devices = []
        for number, cores in enumerate(hosts):
            prefix = f"/job:{_JOB}/replica:0/task:{number}/device"
            devices.append(_Device(f"{prefix}:CPU:0", "CPU"))
            devices += [
                _Device(f"{prefix}:TPU:{i}", "TPU") for i in range(len(cores))
            ]
        return tpu_system_metadata.TPUSystemMetadata(
            num_cores=len(self._topology.cores),
            num_hosts=len(hosts),
            num_of_cores_per_host=len(hosts[0]),
            topology=tpu_topology(self._topology),
            devices=devices,
        )
