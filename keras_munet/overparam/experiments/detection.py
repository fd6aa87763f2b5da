"""Objects as middles, boxes and ways: labels to targets, outputs to objects.

A compact form of one-stage detection (arXiv 1904.07850) and of bottom-up
panoptic segmentation (arXiv 1911.10194): a heatmap of objects' middles per
class, the half height and width of the box, and from every pixel of an object
the way to its middle. With a segmentation of the same image the ways divide
its things into instances.

Invariant: lengths are shares of the image's height and width, so that targets
do not depend on its size. A label is `[height, width, 2]`: a pixel's class and
the object's number in the image, 0 where there is none. NumPy alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_munet.overparam.experiments import tasks as tasks_lib

# Standard deviation of a heatmap's peak, of the box's sides, and at least.
_SPREAD_SHARE = 1 / 8
_SPREAD_PIXELS_MIN = 0.7
# Half the side of the square that a peak is the greatest of, pixels.
_PEAK_REACH = 1
NUM_OBJECTS_MAX = 50
# Boxes of one class that overlap a better one more are taken for it.
_SAME_OVERLAP = 0.4
SCORE_MIN = 0.1


class Objects(NamedTuple):
    """The objects of one image, best first.

    Attributes:
      classes: `[num] int64`, of the segmentation.
      scores: `[num]` in [0, 1].
      boxes: `[num, 4]` pixels: top, left, bottom, right; the last two are
        just outside.
      numbers: `[num] int64`: of the object in its image, for labels.
    """

    classes: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    numbers: np.ndarray


def labelled(label: np.ndarray) -> Objects:
    """Returns the objects of a label `[height, width, 2]`."""
    classes, boxes, numbers = [], [], []
    for number in np.unique(label[..., 1]):
        if number <= 0:
            continue
        rows, columns = np.nonzero(label[..., 1] == number)
        classes.append(int(label[rows[0], columns[0], 0]))
        boxes.append(
            (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        )
        numbers.append(int(number))
    return Objects(
        np.array(classes, np.int64),
        np.ones(len(classes)),
        np.array(boxes, float).reshape(-1, 4),
        np.array(numbers, np.int64),
    )


def targets(task: tasks_lib.Task, labels: np.ndarray) -> np.ndarray:
    """Returns what `losses` compares a detection's outputs with.

    Args:
      task: of kind detection.
      labels: `[batch, height, width, 2]`.

    Returns:
      `[batch, height, width, num_outputs + 1] float32`: heatmaps, which are 1
      at a middle and `VOID` where the label is; half the height and width of
      the box and the way down and to the right; one over the object's pixels.
    """
    num_classes = task.num_outputs - tasks_lib.NUM_BOX_CHANNELS
    batch, height, width = labels.shape[:3]
    result = np.zeros((batch, height, width, task.num_outputs + 1), np.float32)
    down, right = np.mgrid[:height, :width] + 0.5
    for label, target in zip(labels, result, strict=True):
        at_middles = []
        objects_of_image = labelled(label)
        for class_index, box, number in zip(
            objects_of_image.classes - task.first_class,
            objects_of_image.boxes,
            objects_of_image.numbers,
            strict=True,
        ):
            if not 0 <= class_index < num_classes:
                continue
            middle, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
            row, column = np.floor(middle).astype(int)
            spreads = np.maximum(sides * _SPREAD_SHARE, _SPREAD_PIXELS_MIN)
            # The pixel that the middle lies in has exactly 1.
            heat = np.exp(
                -((down - row - 0.5) ** 2) / (2 * spreads[0] ** 2)
                - (right - column - 0.5) ** 2 / (2 * spreads[1] ** 2)
            )
            np.maximum(
                target[..., class_index], heat, out=target[..., class_index]
            )
            own = label[..., 1] == number
            share = 1 / (own.sum() + (not own[row, column]))
            parts = np.stack(
                [
                    np.full_like(down, sides[0] / 2 / height),
                    np.full_like(down, sides[1] / 2 / width),
                    (middle[0] - down) / height,
                    (middle[1] - right) / width,
                    np.full_like(down, share),
                ],
                -1,
            )
            target[own, num_classes:] = parts[own]
            at_middles.append((row, column, parts[row, column]))
        # Boxes are read at middles, which may lie on what is in front of the
        # object, or be seen through it.
        for row, column, part in at_middles:
            target[row, column, num_classes:] = part
        target[label[..., 0] == tasks_lib.VOID, :num_classes] = tasks_lib.VOID
    return result


def objects(
    task: tasks_lib.Task, outputs: np.ndarray, score_min: float = SCORE_MIN
) -> Objects:
    """Returns the objects that a network sees in one image.

    Args:
      task: of kind detection.
      outputs: `[height, width, num_outputs]`, heatmaps as logits.
      score_min: of what is returned; at most `NUM_OBJECTS_MAX` are.
    """
    num_classes = task.num_outputs - tasks_lib.NUM_BOX_CHANNELS
    height, width = outputs.shape[:2]
    logits = outputs[..., :num_classes].astype(np.float64)
    scores = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
    peaks = (scores >= score_min) & (scores == _greatest_around(scores))
    rows, columns, kinds = np.nonzero(peaks)
    best = np.argsort(-scores[peaks], kind="stable")[:NUM_OBJECTS_MAX]
    rows, columns, kinds = rows[best], columns[best], kinds[best]
    size = np.array([height, width])
    halves = np.maximum(outputs[rows, columns, num_classes:][:, :2], 0) * size
    middles = np.stack([rows, columns], -1) + 0.5
    boxes = np.concatenate([middles - halves, middles + halves], -1)
    boxes = np.clip(boxes, 0, [height, width, height, width])
    same = box_overlaps(boxes, boxes) > _SAME_OVERLAP
    same &= kinds[:, None] == kinds
    selected: list[int] = []
    for i in range(len(kinds)):
        if not same[i, selected].any():
            selected.append(i)
    return Objects(
        kinds[selected] + task.first_class,
        scores[rows, columns, kinds][selected],
        boxes[selected],
        np.arange(1, len(selected) + 1),
    )


def instances(
    task: tasks_lib.Task,
    outputs: np.ndarray,
    classes: np.ndarray,
    detected: Objects,
) -> np.ndarray:
    """Returns `[height, width] int64`: the number of each pixel's object.

    A pixel of a thing belongs to the object of its class that its way comes
    nearest to; 0 where there is no such object.

    Args:
      task: of kind detection.
      outputs: `[height, width, num_outputs]`.
      classes: `[height, width]`, as a segmentation sees them.
      detected: the objects among which to choose.
    """
    num_classes = task.num_outputs - tasks_lib.NUM_BOX_CHANNELS
    height, width = classes.shape
    down, right = np.mgrid[:height, :width] + 0.5
    ways = outputs[..., num_classes + 2 :]
    ends = np.stack(
        [down + ways[..., 0] * height, right + ways[..., 1] * width], -1
    )
    middles = (detected.boxes[:, :2] + detected.boxes[:, 2:]) / 2
    numbers = np.zeros(classes.shape, np.int64)
    for class_id in np.unique(detected.classes):
        own = classes == class_id
        among = np.flatnonzero(detected.classes == class_id)
        apart = ends[own][:, None] - middles[among]
        nearest = np.argmin((apart**2).sum(-1), axis=-1)
        numbers[own] = detected.numbers[among[nearest]]
    return numbers


def box_overlaps(true: np.ndarray, detected: np.ndarray) -> np.ndarray:
    """Returns `[num_found, num_true]` of boxes `[num, 4]` of both."""
    low = np.maximum(detected[:, None, :2], true[None, :, :2])
    high = np.minimum(detected[:, None, 2:], true[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), -1)
    areas = [
        np.prod(each[:, 2:] - each[:, :2], -1) for each in (detected, true)
    ]
    union = areas[0][:, None] + areas[1][None] - shared
    return shared / np.maximum(union, 1e-9)


def _greatest_around(scores: np.ndarray) -> np.ndarray:
    """Returns the greatest score of each pixel's neighbourhood, per class."""
    reach = _PEAK_REACH
    padded = np.pad(
        scores, ((reach, reach), (reach, reach), (0, 0)), mode="edge"
    )
    height, width = scores.shape[:2]
    return np.max(
        [
            padded[i : i + height, j : j + width]
            for i in range(2 * reach + 1)
            for j in range(2 * reach + 1)
        ],
        axis=0,
    )
