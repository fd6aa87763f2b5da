"""Defines the tasks of a network, per pixel or per image.

Invariant: what is not labelled is marked in the label itself, so that losses
and metrics leave it out by themselves: a class of `VOID`, a depth that is
not finite or not above 0, a normal of length 0.

Every output is `[batch, height, width, num_outputs]` and linear; the output
of a whole image is the mean of its output over the image, which a linear head
behind a global average pooling would give as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from keras_munet import errors

SEGMENTATION = "segmentation"
DEPTH = "depth"
NORMALS = "normals"
EDGES = "edges"
PRESENCE = "presence"
DETECTION = "detection"
CLASSIFICATION = "classification"
KINDS = (
    *(SEGMENTATION, DEPTH, NORMALS, EDGES, PRESENCE, DETECTION),
    CLASSIFICATION,
)
# Those whose labels are one value or vector per image.
OF_IMAGES = (PRESENCE, CLASSIFICATION)
# The label of a pixel or class that is not labelled, where labels are classes.
VOID = -1
# Channels of a detection head behind one per class: half height, half width,
# and the way down and right to the object's middle.
NUM_BOX_CHANNELS = 4
_NUM_OUTPUTS = {DEPTH: 1, NORMALS: 3, EDGES: 1}


@dataclasses.dataclass(frozen=True)
class Task:
    """One thing to predict.

    Attributes:
      name: of the model's output and of the batch's label.
      task_type: one of `KINDS`.
      num_outputs: channels of the output: classes of a segmentation,
        presence or classification, 1 for depth and edges, 3 for normals,
        classes and `NUM_BOX_CHANNELS` for detection.
      first_class: of detection: the class, in a segmentation of the same
        image, of the first heatmap; the others follow it.
    """

    name: str
    task_type: str
    num_outputs: int
    first_class: int = 0

    def __post_init__(self):
        if self.task_type not in KINDS:
            raise errors.UsageError(
                f"task {self.name!r} is of kind {self.task_type!r}; choose one "
                f"of {', '.join(KINDS)}"
            )
        least = NUM_BOX_CHANNELS + 1 if self.task_type == DETECTION else 1
        num_expected = _NUM_OUTPUTS.get(
            self.task_type, max(self.num_outputs, least)
        )
        if self.num_outputs != num_expected:
            raise errors.UsageError(
                f"task {self.name!r} of kind {self.task_type} has "
                f"{self.num_outputs} outputs; give it {num_expected}"
                f"{'' if self.task_type in _NUM_OUTPUTS else ' or more'}"
            )


def named(tasks: Sequence[Task], names: Sequence[str]) -> tuple[Task, ...]:
    """Returns the tasks of these names, in the order of `tasks`.

    Raises:
      UsageError: a name is not there, or none is given.
    """
    there = {task.name for task in tasks}
    unknown = [name for name in names if name not in there]
    if unknown or not names:
        label = repr(unknown[0]) if unknown else "no task"
        raise errors.UsageError(
            f"{label} is requested; the data have {', '.join(sorted(there))}"
        )
    return tuple(task for task in tasks if task.name in names)
