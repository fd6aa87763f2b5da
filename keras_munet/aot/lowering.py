"""From a program to what the TPU compiler reads.

Invariant: TensorFlow's own bridge for TPUs does the lowering, so an operation
that a TPU cannot run is refused here, by name, as a TPU would refuse it.
"""

from __future__ import annotations

import re

import tensorflow as tf

from keras_munet import errors
from keras_munet.aot import programs

_UNSUPPORTED = re.compile(r"(\w+) \(No registered '\w+' OpKernel")
_PREFIX = "Failed getting HLO text: '"
_AT = re.compile(r"\{\{node ([^}]+)\}\}")


def lower_program(program: programs.Program) -> bytes:
    """Returns the program as a serialized HLO module.

    Raises:
      UsageError: an operation of it has no form for TPUs.
    """
    compiled = tf.function(program.function, jit_compile=True, autograph=False)
    emit = compiled.experimental_get_compiler_ir(*program.arguments)
    try:
        return emit(stage="hlo_serialized", platform_name="TPU")
    except (tf.errors.OpError, ValueError) as e:
        raise errors.UsageError(_refusal(str(e))) from e


def _refusal(message: str) -> str:
    """Returns one line about what TensorFlow said at length."""
    ops = sorted(set(_UNSUPPORTED.findall(message)))
    if ops:
        at = sorted(set(_AT.findall(message)))
        where = f" (at {', '.join(at)})" if at else ""
        return (
            f"a TPU cannot run {', '.join(ops)}{where}; compute it before "
            "the step, on the host, or with operations that XLA knows"
        )
    first = message.removeprefix(_PREFIX).strip().partition("\n")[0]
    return f"the step cannot be lowered for a TPU: {first}"
