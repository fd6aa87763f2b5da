"""Chooses the sizes of a bucket that follow from data and devices.

Invariant: sizes follow from a job's budget and device rather than from one
task, so that tasks of different sizes share a program.
"""

from __future__ import annotations

import dataclasses

from keras_munet.data import types
from keras_munet.train import child_job
from keras_munet.train.program import bucket as bucket_lib
from keras_munet.train.program import wave

# Of the examples that a device holds.
_POOL_BYTES = {"CPU": 64 * 2**20, "GPU": 512 * 2**20, "TPU": 512 * 2**20}
# The draws of more steps than this are no longer small.
_STEPS_MAX = 256
_SIDE_STEP = 128
# A TPU computes rows of a product eight at a time.
_SHARE_MIN = 8


def with_data_sizes(
    bucket: bucket_lib.Bucket,
    data: types.TaskData,
    budget: child_job.Budget,
    device_type: str,
) -> bucket_lib.Bucket:
    """Returns a bucket for a task's images, and as many as a call takes.

    Args:
      bucket: its other sizes are set.
      data: of the task.
      budget: of the job.
      device_type: `CPU`, `GPU` or `TPU`.
    """
    return with_sizes(bucket, wave.largest_side(data), budget, device_type)


def with_sizes(
    bucket: bucket_lib.Bucket,
    image_side: int,
    budget: child_job.Budget,
    device_type: str,
) -> bucket_lib.Bucket:
    """Returns a bucket for stored images of a side; see `with_data_sizes`."""
    side = rounded_side(image_side)
    batch_size = bucket.batch_size * bucket.group
    steps_max = budget.num_steps_per_cycle(budget.num_train_examples_max)
    steps = min(bucket_lib.rounded_up(steps_max), _STEPS_MAX)
    held_max = budget.num_validation_examples_max
    pool_max = max(_POOL_BYTES[device_type] // (3 * side**2), batch_size)
    needed = bucket_lib.rounded_up(steps * batch_size + held_max)
    pool = min(needed, pool_max)
    return dataclasses.replace(
        bucket,
        side=side,
        pool=pool,
        steps=steps,
        batches=-(-min(held_max, pool) // batch_size),
    )


def rounded_side(image_side: int) -> int:
    """Returns the side of the squares in which stored images lie.

    A power of two up to 128 pixels, then a multiple of 128.
    """
    if image_side <= _SIDE_STEP:
        return bucket_lib.rounded_up(image_side)
    return -(-image_side // _SIDE_STEP) * _SIDE_STEP


def group_size(num_replicas: int, num_children: int, batch_size: int) -> int:
    """Returns how many replicas share each child's batches.

    As many as leave none idle, while each has eight examples of a batch.

    Args:
      num_replicas: of the strategy.
      num_children: of a generation.
      batch_size: examples per step of a child.
    """
    sizes = [
        size
        for size in range(1, num_replicas // max(num_children, 1) + 1)
        if num_replicas % size == 0
        and batch_size % size == 0
        and batch_size // size >= _SHARE_MIN
    ]
    return max(sizes, default=1)
