"""Estimates the memory of a generation before it starts.

Invariant: how children are divided over passes, and a batch over parts,
changes what they become by float rounding alone.

A training step holds, until its backward pass, what the components from a
child's lowest trained one upwards keep (`VitLayer.num_kept`), and for every
trained parameter its weight, momentum, gradient and the gradient of its parts.
The children of one graph are counted as if all were at their fullest at one
time, which they need not be; layer by layer, as many as there are threads:
`tests/benchmarks/memory.py` compares.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import psutil

from keras_munet import errors
from keras_munet.models import layer_factory
from keras_munet.models import path_model
from keras_munet.train import child_job
from keras_munet.train import weight_factors
from keras_munet.train.layerwise import feature_cache

# float32 weight, bfloat16 momentum, float32 gradient packed and in parts, and
# the best snapshot on the host: weight and momentum.
_BYTES_PER_TRAINED = 4 + 2 + 4 + 4 + 6
_BYTES_PER_FROZEN = 4
# Besides the kernel and the gradient of it: float32 value, bfloat16 momentum,
# float32 gradient packed and in parts.
_BYTES_PER_FACTOR = 4 + 2 + 4 + 4
# What a kernel keeps is a float32 on CPUs and GPUs. XLA fuses kernels and keeps
# bfloat16: the TPU compiler needs 0.40 GB for each example of an L/16 at 384
# px, where 0.47e9 numbers are counted (docs/measured/scaling.md).
_BYTES_PER_KEPT = {"CPU": 4.0, "GPU": 4.0, "TPU": 0.85}
# AdamW's second moment.
_BYTES_PER_SECOND = 4
# The snapshot lies in the memory of the host.
_HOST_BYTES_PER_TRAINED = 6
# Batches that wait (`batches.num_prefetched`), one on its way through the
# augmentation, and what TensorFlow keeps; and features.
_BYTES_PER_STEP = 256 * 2**20 + feature_cache.NUM_BYTES_MAX
# Of what is free when a generation starts; the rest is the system's.
_SHARE_OF_FREE = 0.9
_CONTROL_GROUP = pathlib.Path("/sys/fs/cgroup")


@dataclasses.dataclass(frozen=True)
class MemoryNeed:
    """The memory of one child.

    Attributes:
      fixed: bytes that do not depend on the batch.
      per_example: bytes for each example of a batch.
    """

    fixed: int
    per_example: int

    def bytes_at(self, batch_size: int) -> int:
        """Returns the bytes of a step with so many examples at once."""
        return self.fixed + self.per_example * batch_size


@dataclasses.dataclass(frozen=True)
class Passes:
    """The division of a generation into passes.

    Attributes:
      groups: the numbers of the children that are trained together.
      num_parts: into how many parts each batch is divided; gradients add up.
    """

    groups: tuple[tuple[int, ...], ...]
    num_parts: int


def child_need(
    child: child_job.ChildJob, image_size: int, device_type: str = "CPU"
) -> MemoryNeed:
    """Returns what training `child` takes.

    What it shares frozen with others is counted for each, so that children
    that fit by this count fit together.

    Args:
      child: a child to train.
      image_size: side of its input, pixels.
      device_type: `CPU`, `GPU` or `TPU`; whose memory is counted.
    """
    per_trained = _BYTES_PER_TRAINED
    if device_type != "CPU":
        per_trained -= _HOST_BYTES_PER_TRAINED
    if child.uses_adamw:
        per_trained += _BYTES_PER_SECOND
    shape: tuple[int | None, ...] = (1, image_size, image_size, 3)
    fixed = num_saved = 0
    training = False
    layers = [
        layer_factory.unbuilt_layer(part.spec) for part in child.components
    ]
    for part, layer, class_token_only in zip(
        child.components,
        layers,
        path_model.class_token_flags(layers),
        strict=True,
    ):
        options = path_model.call_options(class_token_only)
        training = training or part.trainable
        if training:
            num_saved += layer.num_kept(shape, **options)
        fixed += part.spec.num_params * (
            per_trained if part.trainable else _BYTES_PER_FROZEN
        )
        if part.trainable and part.factor_depth:
            layout = weight_factors.FactorLayout(part.spec, part.factor_depth)
            fixed += layout.num_values * _BYTES_PER_FACTOR
        shape = layer.compute_output_shape(shape, **options)
    return MemoryNeed(fixed, int(num_saved * _BYTES_PER_KEPT[device_type]))


def joint_bytes(
    needs: Sequence[MemoryNeed],
    batch_size: int,
    num_at_a_time: int | None = None,
) -> int:
    """Returns what children take that are trained together.

    Args:
      needs: of each child.
      batch_size: examples at once.
      num_at_a_time: how many children at most keep something for a backward
        pass at one time; None for all.
    """
    per_example = sorted((need.per_example for need in needs), reverse=True)
    return (
        sum(child_need.fixed for child_need in needs)
        + sum(per_example[:num_at_a_time]) * batch_size
    )


def divide_into_passes(
    needs: Sequence[MemoryNeed],
    batch_size: int,
    num_bytes_max: int,
    num_at_a_time: int | None = None,
) -> Passes:
    """Returns how children are divided so that each pass fits.

    As few parts as the largest child needs, then as few passes as keep the
    children in order.

    Args:
      needs: of each child, in order.
      batch_size: examples of a step.
      num_bytes_max: what a step may take.
      num_at_a_time: see `joint_bytes`.

    Raises:
      UsageError: a child does not fit with one example at a time.
    """
    num_parts = next(
        (
            parts
            for parts in range(1, batch_size + 1)
            if batch_size % parts == 0
            and max(n.bytes_at(batch_size // parts) for n in needs)
            <= num_bytes_max
        ),
        None,
    )
    if num_parts is None:
        least = max(n.bytes_at(1) for n in needs)
        raise errors.UsageError(
            f"a child takes {least / 2**30:.2f} GiB with one example at a time "
            f"and {num_bytes_max / 2**30:.2f} GiB are free; use a smaller "
            "root or image size, or a machine with more memory"
        )
    groups: list[tuple[int, ...]] = []
    for index in range(len(needs)):
        group = (*groups[-1], index) if groups else (index,)
        together = [needs[i] for i in group]
        size = joint_bytes(together, batch_size // num_parts, num_at_a_time)
        if groups and size <= num_bytes_max:
            groups[-1] = group
        else:
            groups.append((index,))
    return Passes(tuple(groups), num_parts)


def free_bytes(device_type: str) -> int | None:
    """Returns what a generation may take; None where it cannot be known.

    Of a CPU, a share of what the machine has available, or of what is left to
    the process's control group if that is less.
    """
    if device_type != "CPU":
        return None
    free = psutil.virtual_memory().available
    free = min(free, _left_in_group() or free)
    return max(int(free * _SHARE_OF_FREE) - _BYTES_PER_STEP, 0)


def _left_in_group() -> int | None:
    # Containers are limited by their control group, of which psutil does not
    # know. Version 2 of its files; elsewhere there are none.
    try:
        limit = (_CONTROL_GROUP / "memory.max").read_text().strip()
        used = (_CONTROL_GROUP / "memory.current").read_text().strip()
    except OSError:
        return None
    return None if limit == "max" else int(limit) - int(used)
