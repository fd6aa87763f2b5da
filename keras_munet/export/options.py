"""What an export may be asked for.

Invariant: options are checked before anything is written.
"""

from __future__ import annotations

import dataclasses

from keras_munet import errors
from keras_munet.export import serving

WEIGHT_TYPES = ("float32", "bfloat16", "int8")


@dataclasses.dataclass(frozen=True)
class Options:
    """How published paths are written.

    Attributes:
      weights: how they are stored. `float32` gives the system's own results;
        `bfloat16` halves the bytes; `int8` stores kernels as 8 bits with a
        float32 scale per output channel. Sums are float32 in all of them.
      versioned: whether to write `OUT/1`, `OUT/2`, ... as TensorFlow Serving
        wants them, instead of `OUT` itself.
      feature_component: the place whose whole output `features` returns,
        e.g. `encoderblock_0`; None for what the head reads.
      classify: whether to add `classify_<task>`, which takes serialised
        `tf.Example`s and answers with labels.
      tflite: whether to add `tflite/<task>.tflite`.
      model_name: the name that the model is served under.
    """

    weights: str = "float32"
    versioned: bool = False
    feature_component: str | None = None
    classify: bool = False
    tflite: bool = False
    model_name: str = "keras_munet"

    def __post_init__(self) -> None:
        if self.weights not in WEIGHT_TYPES:
            raise errors.UsageError(
                f"weights={self.weights!r} is no way to store them; use one "
                f"of {', '.join(WEIGHT_TYPES)}"
            )
        serving.check_name(self.model_name)
