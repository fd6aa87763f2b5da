"""Divides the cores of a CPU among the operations of a step.

Invariant: what a user chose, and a TensorFlow that has begun, are left alone.
"""

from __future__ import annotations

import os

import tensorflow as tf

# TensorFlow's own.
VARIABLE = "TF_NUM_INTRAOP_THREADS"
_STRATEGIES = ("auto", "one_device")


def divide_cores(strategy: str, num_children: int) -> int | None:
    """Divides the cores among the children of a generation.

    Children that are trained together keep all cores busy side by side. An
    operation that is cut into pieces besides has cores wait for one another:
    with two cores a generation of 8 took an eighth longer so
    (docs/decisions.md). One child alone, as where memory is short, then has to
    do with its own share: a machine of many cores may be better off with
    TF_NUM_INTRAOP_THREADS.

    Args:
      strategy: by its name; only a single CPU's is looked after.
      num_children: trained together.

    Returns:
      The cores of an operation, or None where this was left alone: another
      strategy or device, a number in TF_NUM_INTRAOP_THREADS, or a TensorFlow
      that has begun to run operations and takes none any more.
    """
    if strategy not in _STRATEGIES or os.environ.get(VARIABLE):
        return None
    if tf.config.list_physical_devices("GPU"):
        return None
    num_cores = max(_num_cores() // num_children, 1)
    try:
        tf.config.threading.set_intra_op_parallelism_threads(num_cores)
    except RuntimeError:
        return None
    return num_cores


def num_operations() -> int:
    """Returns how many operations run at a time.

    Where operations have a share of the cores, as many as that makes; else as
    many as TensorFlow lets, one for each core unless configured.
    """
    num = max(_num_cores() // (_chosen("intra") or 1), 1)
    return min(num, _chosen("inter") or num)


def _chosen(pool: str) -> int:
    """Returns a number of TensorFlow's threads; 0 where none is set."""
    threading = tf.config.threading
    chosen = getattr(threading, f"get_{pool}_op_parallelism_threads")()
    return chosen or int(os.environ.get(f"TF_NUM_{pool.upper()}OP_THREADS", 0))


def _num_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
