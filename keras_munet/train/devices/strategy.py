"""Makes a tf.distribute strategy by name.

Invariant: a TPU system is initialised once per process, and all that makes a
strategy impossible here is said in one line before anything is written.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_munet import errors
from keras_munet.core import devices as devices_lib
from keras_munet.train.devices import cluster

_CLUSTER_VARIABLE = "TF_CONFIG"
_CLUSTER_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
_WORKER_TYPES = ("chief", "worker")


def make_strategy(
    devices: str | devices_lib.Devices = "auto",
) -> tf.distribute.Strategy:
    """Returns the strategy over all requested devices.

    Equal calls give the same strategy, where one process can have one only.

    Args:
      devices: what is requested, or a strategy's name alone.

    Raises:
      UsageError: there is no such strategy, TF_CONFIG names no cluster, or
        no TPU answers.
    """
    config = devices_lib.Devices.of(devices)
    name = config.strategy
    if name == "tpu":
        resolver, _ = tpu_system(
            config.tpu, config.tpu_zone, config.tpu_project
        )
        return tf.distribute.TPUStrategy(resolver)
    if name == "coordinator":
        return cluster.connect_coordinator(
            cluster.parse_workers(config.workers)
        ).strategy
    if name == "multi_worker":
        return _multi_worker(_checked_cluster())
    gpus = tf.config.list_logical_devices("GPU")
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "one_device"
    if name == "one_device":
        return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    local_devices = gpus or tf.config.list_logical_devices("CPU")
    return _mirrored(tuple(device.name for device in local_devices))


def device_type(strategy: tf.distribute.Strategy) -> str:
    """Returns the kind of a strategy's first device: CPU, GPU or TPU."""
    device = strategy.extended.worker_devices[0]
    return tf.DeviceSpec.from_string(device).device_type


def own_strategy(strategy: tf.distribute.Strategy) -> tf.distribute.Strategy:
    """Returns the strategy over the devices that this process feeds itself.

    Workers of one job train children of their own each.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return strategy
    devices = strategy.extended.worker_devices
    if len(devices) == 1:
        return tf.distribute.OneDeviceStrategy(devices[0])
    return tf.distribute.MirroredStrategy(
        list(devices), cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def is_one_cpu(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether steps run on one CPU of a machine without a GPU."""
    if not isinstance(strategy, tf.distribute.OneDeviceStrategy):
        return False
    has_gpu = bool(tf.config.list_logical_devices("GPU"))
    return device_type(strategy) == "CPU" and not has_gpu


@functools.cache
def tpu_system(
    tpu: str, zone: str, project: str
) -> tuple[
    tf.distribute.cluster_resolver.TPUClusterResolver,
    tf.tpu.experimental.Topology,
]:
    """Returns a TPU whose system is initialised: its resolver and topology.

    Args:
      tpu: its name; `local` or empty for that of this machine.
      zone: of Google Cloud; empty for this machine's.
      project: of Google Cloud; empty for this machine's.

    Raises:
      UsageError: no TPU answers.
    """
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            tpu=tpu or os.environ.get("TPU_NAME", "local"),
            zone=zone or None,
            project=project or None,
        )
        if resolver.cluster_spec().as_dict():
            # A pod: its other hosts run servers, and this one the program.
            tf.config.experimental_connect_to_cluster(resolver)
        # It clears the TPU's memory: a second time would lose all variables.
        tpu_topology = tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        words = " ".join(str(error).split())
        raise errors.UsageError(
            f"TPU {tpu or 'local'!r} does not answer: {words[:200]}; name one "
            "that is ready in --tpu, --tpu_zone and --tpu_project, and use "
            "tensorflow-tpu (docs/clusters.md)"
        ) from error
    return resolver, tpu_topology


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    # One for the whole process: each numbers its collective operations from
    # the start, and those of equal number meet, whichever graph they are in.
    return tf.distribute.MirroredStrategy(list(devices))


@functools.cache
def _multi_worker(cluster: str) -> tf.distribute.MultiWorkerMirroredStrategy:
    del cluster
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        words = " ".join(str(error).split())
        raise errors.UsageError(
            f"the cluster in {_CLUSTER_VARIABLE} cannot be joined: "
            f"{words[:200]}; start the job on every worker, each with its own "
            "index and a free port"
        ) from error


def _checked_cluster() -> str:
    """Returns the value of TF_CONFIG.

    Raises:
      UsageError: it names no cluster that this process is a worker of.
    """
    text = os.environ.get(_CLUSTER_VARIABLE, "")
    problem = _cluster_problem(text)
    if problem:
        raise errors.UsageError(
            f"{_CLUSTER_VARIABLE} {problem}; for strategy multi_worker set it "
            f"on every worker, e.g. {_CLUSTER_EXAMPLE}"
        )
    return text


def _cluster_problem(text: str) -> str:
    """Returns what is wrong with a TF_CONFIG; empty where nothing is."""
    if not text:
        return "is not set"
    try:
        value: Any = json.loads(text)
    except ValueError:
        return f"is no JSON: {text[:60]!r}"
    value = value if isinstance(value, Mapping) else {}
    cluster, task = value.get("cluster"), value.get("task")
    if not isinstance(cluster, Mapping) or not isinstance(task, Mapping):
        return 'lacks "cluster" or "task"'
    task_type, index = task.get("type"), task.get("index")
    hosts = {k: cluster.get(k, []) for k in _WORKER_TYPES}
    if not any(hosts.values()) or set(cluster) - set(_WORKER_TYPES):
        return f"names the jobs {sorted(cluster)} and may name chief and worker"
    if any(
        not isinstance(host, str) or ":" not in host
        for task_hosts in hosts.values()
        for host in task_hosts
    ):
        return "must list every worker as host:port"
    if task_type not in hosts or not hosts[task_type]:
        return f"has the task type {task_type!r}, which is not in its cluster"
    if type(index) is not int or not 0 <= index < len(hosts[task_type]):
        return (
            f"has the task index {index!r} and {len(hosts[task_type])} of type "
            f"{task_type}"
        )
    return ""
