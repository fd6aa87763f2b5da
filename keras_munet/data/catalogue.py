"""Which examples of a data set train, validate and test a task.

Invariant: the three splits of a task are disjoint. Section 3 of the method
gives the rule and its exceptions.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from keras_munet import errors

# Where a data set lacks `validation` or `test`, this share of train stands in.
HELD_OUT_PERCENT = 5


class Plan(NamedTuple):
    """Split instructions of TFDS, e.g. `train[:5%]`.

    Attributes:
      train: of the task's data set.
      validation: of `validation_source`.
      test: of `test_source`.
      validation_source: another data set; empty for the task's own.
      test_source: another data set; empty for the task's own.
    """

    train: str
    validation: str
    test: str
    validation_source: str = ""
    test_source: str = ""


EXCEPTIONS: dict[str, Plan] = {
    "cifar10": Plan("train", "test", "test", validation_source="cifar10_1/v4"),
    "cifar100": Plan("train[:98%]", "train[98%:]", "test"),
    "cmaterdb/*": Plan("train[20%:]", "train[:20%]", "test"),
    "imagenet2012": Plan(
        "train",
        "test",
        "validation",
        validation_source="imagenet_v2/matched-frequency",
    ),
    "omniglot": Plan("train", "small1", "small2"),
    "visual_domain_decathlon/*": Plan(
        "train", "validation[:50%]", "validation[50%:]"
    ),
}


def plan(task_name: str, available: Collection[str]) -> Plan:
    """Returns the splits of a task.

    Args:
      task_name: the bare name of a data set of TFDS.
      available: the splits that the data set has.

    Raises:
      DataError: it has no split to train on.
    """
    data_set = task_name.partition("/")[0]
    for key in (task_name, f"{data_set}/*"):
        if key in EXCEPTIONS:
            return EXCEPTIONS[key]
    if "train" not in available:
        raise errors.DataError(
            f"data set {task_name!r} has no train split: it has "
            f"{', '.join(sorted(available)) or 'none'}; choose another"
        )
    held = {}
    start = 0
    for name in ("validation", "test"):
        if name in available:
            held[name] = name
        else:
            end = start + HELD_OUT_PERCENT
            held[name] = f"train[{start or ''}{'%' if start else ''}:{end}%]"
            start = end
    return Plan(train=f"train[{start}%:]" if start else "train", **held)
