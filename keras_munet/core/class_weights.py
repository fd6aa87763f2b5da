"""Weights of classes in the training loss, as a config gives them.

Invariant: the mean weight of a task's training images is 1, so that a learning
rate means the same with weights and without.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_munet import errors
from keras_munet.core import canonical_json
from keras_munet.core import target_types

NONE = "none"
# Each class has the same sum of weights.
AUTO = "auto"
_KEY = "data.class_weights"
_WEIGHT_MAX = 1e6
_NUM_MAX = 100_000


def normalize(value: Any) -> str:
    """Returns the setting as one text.

    Args:
      value: `none`, `auto`, a mapping from class names to weights, or such a
        mapping as JSON text, as a flag gives it.

    Raises:
      UsageError: it is something else, or a weight is not above 0.

    Example:
      >>> normalize({"wren": 9})
      '{"wren":9.0}'
    """
    if isinstance(value, str) and value in (NONE, AUTO):
        return value
    label = repr(value)[:100]
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, Mapping) or not 0 < len(value) <= _NUM_MAX:
        raise errors.UsageError(
            f"config key {_KEY} is {label}; it takes {NONE}, {AUTO} or weights "
            'by class name, as \'{"wren": 9, "sparrow": 1}\''
        )
    for name, weight in value.items():
        if (
            not isinstance(name, str)
            or type(weight) not in (int, float)
            or not 0 < weight <= _WEIGHT_MAX
        ):
            raise errors.UsageError(
                f"config key {_KEY} gives class {name!a} the weight "
                f"{weight!r:.100}; a weight is a number above 0, at most "
                f"{_WEIGHT_MAX:,.0f}"
            )
    return canonical_json.dumps({n: float(w) for n, w in value.items()})


def check(
    setting: str,
    task: str,
    class_names: Sequence[str],
    target: target_types.TargetType = target_types.SINGLE_LABEL,
) -> None:
    """Refuses weights of classes that a task does not have.

    Args:
      setting: from `normalize`.
      task: its name.
      class_names: of the task.
      target: the type of its labels.

    Raises:
      UsageError: there are some, or its images have any number of labels.
    """
    if setting != NONE and target is target_types.MULTI_LABEL:
        raise errors.UsageError(
            f"config key {_KEY} is {setting:.60}, and task {task!r} has any "
            "number of labels an image, whose classes have thresholds "
            f"instead; set it to {NONE}"
        )
    if setting in (NONE, AUTO):
        return
    wrong = sorted(json.loads(setting).keys() - set(class_names))
    if wrong:
        names = ", ".join(class_names[:20])
        raise errors.UsageError(
            f"config key {_KEY} names class {wrong[0]!a}, which task {task!r} "
            f"does not have; it has: {names}"
            f"{', ...' if len(class_names) > 20 else ''}"
        )


def of_classes(
    setting: str, class_names: Sequence[str], counts: Sequence[int]
) -> tuple[float, ...]:
    """Returns the weight of each class; none where all weigh the same.

    Args:
      setting: from `normalize`.
      class_names: of the task, in the order of the labels.
      counts: training images of each class.

    Example:
      >>> of_classes("auto", ["common", "rare"], [90, 10])
      (0.5555555555555556, 5.0)
    """
    if setting == NONE:
        return ()
    if setting == AUTO:
        # A class without images has no weight to balance.
        weights = [1.0 / count if count else 1.0 for count in counts]
    else:
        by_name = json.loads(setting)
        weights = [by_name.get(name, 1.0) for name in class_names]
    total = math.fsum(w * n for w, n in zip(weights, counts, strict=True))
    mean = total / sum(counts)
    scaled = tuple(weight / mean for weight in weights)
    return scaled if len(set(scaled)) > 1 else ()
