"""What the factors of a training step's products are rounded to.

Invariant: weights, sums, norms, the optimizer, and all that scores a path stay
in float32; only factors inside a step are rounded, and by which rule follows
from the setting and the device, never from a measurement.
"""

from __future__ import annotations

import dataclasses
import pathlib

import tensorflow as tf

from keras_munet.core import specs

# Ampere, the first GPUs with bfloat16 units.
_GPU_CAPABILITY_MIN = (8, 0)
_CPU_INFO = pathlib.Path("/proc/cpuinfo")
_CPU_FLAGS = ("avx512_bf16", "amx_bf16")
# Narrower components gain nothing on a CPU: rounding costs what it saves.
_CPU_WIDTH_MIN = 128


@dataclasses.dataclass(frozen=True)
class Products:
    """Which components round the factors of their products to what.

    Attributes:
      dtype: `tf.float32` or `tf.bfloat16`.
      width_min: narrower components keep float32.
    """

    dtype: tf.DType = tf.float32
    width_min: int = 0

    def of(self, spec: specs.ComponentSpec) -> tf.DType:
        """Returns the dtype of the factors of one component's products."""
        width = int(spec.config.get("width", self.width_min))
        return self.dtype if width >= self.width_min else tf.float32


def products(compute_dtype: str, device_type: str) -> Products:
    """Returns the rule of a setting on a device.

    Args:
      compute_dtype: a name of `settings.COMPUTE_DTYPES`; `auto` is bfloat16
        where the device multiplies it faster.
      device_type: `CPU`, `GPU` or `TPU`.
    """
    if compute_dtype != "auto":
        return Products(tf.dtypes.as_dtype(compute_dtype))
    if device_type == "TPU":
        return Products(tf.bfloat16)
    if device_type == "GPU":
        return Products(tf.bfloat16 if _gpus_gain() else tf.float32)
    if _cpu_gains():
        return Products(tf.bfloat16, _CPU_WIDTH_MIN)
    return Products()


def _gpus_gain() -> bool:
    details = [
        tf.config.experimental.get_device_details(gpu)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return bool(details) and all(
        detail.get("compute_capability", (0, 0)) >= _GPU_CAPABILITY_MIN
        for detail in details
    )


def _cpu_gains() -> bool:
    """Returns whether Linux lists bfloat16 units; elsewhere none are known."""
    if not _CPU_INFO.exists():
        return False
    flags = _CPU_INFO.read_text(errors="replace").split()
    return any(flag in flags for flag in _CPU_FLAGS)
