"""Chooses the precision of matrix products in a training step.

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
# In narrower components rounding costs what it saves, and compiling a pass
# more than the pass.
_WIDTH_MIN = 128


@dataclasses.dataclass(frozen=True)
class MatmulPrecision:
    """The dtype to which components round the factors of products.

    Attributes:
      dtype: `tf.float32` or `tf.bfloat16`.
      width_min: narrower components are computed as they are saved.
    """

    dtype: tf.DType = tf.float32
    width_min: int = _WIDTH_MIN

    def of(self, spec: specs.ComponentSpec) -> tf.DType | None:
        """Returns the dtype of the factors of one component's products.

        None where it gains nothing from rounding nor from compiled passes,
        see `vit.compiled`.
        """
        width = int(spec.config.get("width", self.width_min))
        return self.dtype if width >= self.width_min else None


# What is scored is what will be served.
FLOAT32 = MatmulPrecision()


def choose_precision(compute_dtype: str, device_type: str) -> MatmulPrecision:
    """Returns the rule of a setting on a device.

    Args:
      compute_dtype: a name of `settings.COMPUTE_DTYPES`; `auto` is bfloat16
        where the device multiplies it faster.
      device_type: `CPU`, `GPU` or `TPU`.
    """
    if compute_dtype == "float32":
        return FLOAT32
    if compute_dtype == "bfloat16" or device_type == "TPU":
        return MatmulPrecision(tf.bfloat16, 0)
    if device_type == "GPU":
        return (
            MatmulPrecision(tf.bfloat16, 0)
            if _gpus_gain()
            else MatmulPrecision()
        )
    return MatmulPrecision(tf.bfloat16) if _cpu_gains() else MatmulPrecision()


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
