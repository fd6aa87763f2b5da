"""Estimates which share of a generation's CPU time its input takes.

Invariant: an estimate follows from shapes and settings alone, never from a
clock, so that it is the same on every machine; it is named an estimate
wherever a person reads it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_munet.core import presets

# Above it, a job and `tasks show` print a notice.
SHARE_MAX = 0.15
# CPU seconds, measured on 2 cores of an AMD EPYC on 2026-11-30: of batches of
# 16 to 128 pictures of 16 to 480 px read at 16 to 224 px, and of children of mu
# and Ti at 32 to 128 px, all of whose components train. Of pictures stored at
# 32 and 160 px the estimates are 3 and 12%; tests/benchmarks/input_share.py,
# which also counts compiling and storing, measured 3 and 12 to 16% that day.
_BATCH_SECS = 8e-4
_STORED_VALUE_SECS = 1.5e-9
_PRODUCT_SECS = 2.4e-11
_INPUT_VALUE_SECS = 8e-9
_VARIED_VALUE_SECS = 1.6e-8
_CHILD_SECS = 6e-4


@dataclasses.dataclass(frozen=True)
class Generation:
    """Counts the work of a generation with each picture.

    Attributes:
      image_size: side of the models' input, pixels.
      batch_size: pictures of a step.
      num_children: children that are trained on the same pictures.
      multiply_adds: of one picture through the root, forward.
      hparams: `ds_*` hyperparameters; those that are left out vary no colour.
    """

    image_size: int
    batch_size: int
    num_children: int
    multiply_adds: int
    hparams: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def estimated(stored: Sequence[int], generation: Generation) -> float:
    """Returns the share of input in a generation's CPU time, in [0, 1].

    Every child counts as if it trained all of the root, so the share is higher
    where children train less.

    Args:
      stored: height, width and channels of a stored picture.
      generation: what is done with it.

    Example:
      >>> small = Generation(32, 32, 2, 2_572_928)
      >>> estimated((160, 160, 3), small) < estimated((480, 480, 3), small)
      True
    """
    _, width, channels = stored
    size = generation.image_size
    num_values = math.prod(stored)
    # A crop and a resize are two matrix products.
    num_products = size * num_values + size * size * width * channels
    input_secs = (
        _BATCH_SECS / generation.batch_size
        + _STORED_VALUE_SECS * num_values
        + _PRODUCT_SECS * num_products
        + _INPUT_VALUE_SECS * size * size * 3
        + _VARIED_VALUE_SECS * _num_varied(stored, generation)
    )
    child_secs = (
        _CHILD_SECS
        + presets.MULTIPLY_ADD_SECS
        * presets.NUM_PASSES
        * generation.multiply_adds
    )
    return input_secs / (input_secs + generation.num_children * child_secs)


def share_text(stored: Sequence[int], generation: Generation) -> str:
    """Returns the estimate as the end of a line."""
    share = estimated(stored, generation)
    shape = " x ".join(map(str, stored))
    advice = ""
    if share > SHARE_MAX:
        advice = "; pictures that are stored smaller cost less"
    return (
        f"estimated {share:.0%} of a generation's CPU time for pictures of "
        f"{shape} as input of {generation.image_size} px{advice}"
    )


def _num_varied(stored: Sequence[int], generation: Generation) -> int:
    """Returns how many values of a picture change saturation and hue."""
    height, width, channels = stored
    hparams = generation.hparams
    varies = any(
        hparams.get(f"ds_{color}_delta", 0.0) for color in ("saturation", "hue")
    )
    if not varies or channels != 3:
        return 0
    if hparams.get("ds_antialias", False):
        return 3 * generation.image_size**2
    return 3 * height * width
