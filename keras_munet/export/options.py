"""Defines the options of an export.

Invariant: options are checked before anything is written.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from keras_munet import errors
from keras_munet.core import registry
from keras_munet.export import serving

WEIGHT_TYPES = ("float32", "bfloat16", "int8")
SAVED_MODEL = "savedmodel"
# Which tasks' own signatures are run and recorded, or replayed.
SAMPLE, ALL = "sample", "all"
FORMATS = registry.Registry(
    "export format",
    "keras_munet.export_formats",
    reserved=[SAVED_MODEL],
    builtin={
        "fixed_size": "keras_munet.export.fixed_size:FORMAT",
        "onnx": "keras_munet.export.onnx_file:FORMAT",
        "tflite": "keras_munet.export.tflite:FORMAT",
    },
)


@dataclasses.dataclass(frozen=True)
class Options:
    """The options by which published paths are written.

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
      formats: `savedmodel` and what to add to it: `tflite` adds
        `tflite/<task>.tflite`, `onnx` adds `onnx/<task>.onnx`, `fixed_size`
        adds `fixed_size/<task>`, a SavedModel that converters read, a
        plug-in's format its own; see `formats.ExportFormat`.
      model_name: the name that the model is served under.
      webp: whether `predict_bytes_<task>` decodes WebP files too. Such an
        export loads in TensorFlow 2.20 and later alone, so not in TensorFlow
        Serving 2.19.
      calibrate: whether logits are divided by the temperature that was fitted
        on each task's validation data, so that scores are calibrated.
      verify: `sample` or `all`: the tasks whose own signatures are run and
        recorded, see `golden_outputs.sample`.
    """

    weights: str = "float32"
    versioned: bool = False
    feature_component: str | None = None
    classify: bool = False
    formats: tuple[str, ...] = (SAVED_MODEL,)
    model_name: str = "keras_munet"
    webp: bool = False
    calibrate: bool = False
    verify: str = SAMPLE

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Options:
        """Returns checked options.

        Args:
          values: values by the names of the attributes; `formats` may be a
            list. `tflite=True` is the earlier way to add that format.

        Raises:
          UsageError: a name is unknown, or a value is not allowed.
        """
        fields = [field.name for field in dataclasses.fields(cls)]
        values = dict(values)
        names = values.get("formats", cls.formats)
        values["formats"] = tuple(names) if isinstance(names, list) else names
        if values.pop("tflite", False) is True:
            values["formats"] = tuple(dict.fromkeys([*names, "tflite"]))
        for name in values:
            if name not in fields:
                close = difflib.get_close_matches(name, fields, n=1)
                raise errors.UsageError(
                    f"unknown export option {name!a}; "
                    + (
                        f"did you mean {close[0]}?"
                        if close
                        else f"there are: {', '.join(fields)}"
                    )
                )
        return cls(**values)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            kinds = str(field.type).replace("[str, ...]", "").split(" | ")
            if type(value).__name__ not in kinds and not (
                value is None and "None" in kinds
            ):
                raise errors.UsageError(
                    f"export option {field.name} is {value!r}; it takes a "
                    f"value of type {field.type}"
                )
        if self.weights not in WEIGHT_TYPES:
            raise errors.UsageError(
                f"weights={self.weights!r} is no way to store them; use one "
                f"of {', '.join(WEIGHT_TYPES)}"
            )
        check_verify(self.verify)
        serving.check_name(self.model_name)


def check_verify(verify: str) -> None:
    """Refuses what does not say which tasks are verified.

    Raises:
      UsageError: it is neither `sample` nor `all`.
    """
    if verify not in (SAMPLE, ALL):
        raise errors.UsageError(
            f"verify={verify!r} names no tasks to verify; use {SAMPLE} or {ALL}"
        )
