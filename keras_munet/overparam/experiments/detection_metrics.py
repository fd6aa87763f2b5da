"""Average precision of boxes and masks, and panoptic quality.

Invariant: predictions of a whole data set are ranked together; a true object
is found at most once, by the best prediction that overlaps it enough. What
overlaps void mostly is neither right nor wrong. NumPy alone.

Average precision as COCO has it: precision, made to fall, read at 101 steps of
recall, meaned over classes that are there (and, without a number, over overlaps
of 0.5, 0.55, ... 0.95). Panoptic quality: Kirillov et al. 2019, arXiv
1801.00868, equation 1.
"""

from __future__ import annotations

import numpy as np

from keras_munet.overparam.experiments import detection
from keras_munet.overparam.experiments import metrics
from keras_munet.overparam.experiments import tasks as tasks_lib

_OVERLAPS = tuple(0.5 + 0.05 * i for i in range(10))
_NUM_RECALLS = 101
# Segments that overlap more than this match; no two can.
_MATCH = 0.5


class Detection(metrics.Meter):
    """Boxes alone, or masks and panoptic segments too with a segmentation."""

    def __init__(self, task: tasks_lib.Task):
        super().__init__(task)
        self._boxes = AveragePrecision()
        self._masks = AveragePrecision()
        self._panoptic = PanopticQuality()
        self._num = 0
        self._has_classes = False

    def update(
        self,
        labels: np.ndarray,
        outputs: np.ndarray,
        classes: np.ndarray | None = None,
    ) -> None:
        """Counts a batch.

        Args:
          labels: `[batch, height, width, 2]` (`detection`).
          outputs: `[batch, height, width, num_outputs]`.
          classes: `[batch, height, width]` as a segmentation sees them; None
            where there is none.
        """
        for i, (label, output) in enumerate(zip(labels, outputs, strict=True)):
            true = detection.labelled(label)
            detected = detection.objects(self._task, output)
            self._num += len(true.classes)
            self._boxes.add(
                true,
                detected,
                detection.box_overlaps(true.boxes, detected.boxes),
            )
            if classes is None:
                continue
            self._has_classes = True
            numbers = detection.instances(
                self._task, output, classes[i], detected
            )
            overlaps = mask_overlaps(
                _masks(label[..., 1], true.numbers),
                _masks(numbers, detected.numbers),
            )
            self._masks.add(true, detected, overlaps)
            self._panoptic.add(label, np.stack([classes[i], numbers], -1))

    def _num_labelled(self):
        return self._num

    def _measured(self):
        measured = {
            "box_ap": self._boxes.mean(),
            "box_ap50": self._boxes.at(_OVERLAPS[0]),
        }
        if self._has_classes:
            measured["mask_ap"] = self._masks.mean()
            measured["mask_ap50"] = self._masks.at(_OVERLAPS[0])
            measured["panoptic_quality"] = self._panoptic.result()
        return measured


class AveragePrecision:
    """Collects predictions of images and ranks them."""

    def __init__(self):
        # class -> (scores, overlaps with the image's true objects) by image.
        self._detections: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        self._num_true: dict[int, int] = {}

    def add(
        self,
        true: detection.Objects,
        detected: detection.Objects,
        overlaps: np.ndarray,
    ) -> None:
        """Adds an image.

        Args:
          true: its objects.
          detected: those predicted.
          overlaps: `[num_found, num_true]`, intersection over union.
        """
        for class_id in {*true.classes.tolist(), *detected.classes.tolist()}:
            own, theirs = detected.classes == class_id, true.classes == class_id
            self._num_true[class_id] = (
                self._num_true.get(class_id, 0) + theirs.sum()
            )
            self._detections.setdefault(class_id, []).append(
                (detected.scores[own], overlaps[own][:, theirs])
            )

    def at(self, overlap: float) -> float:
        """Returns the mean over classes at one overlap; 0 without objects."""
        each = [
            _average_precision(self._ranked(class_id, overlap), num)
            for class_id, num in sorted(self._num_true.items())
            if num
        ]
        return float(np.mean(each)) if each else 0.0

    def mean(self) -> float:
        """Returns the mean over classes and the ten overlaps of COCO."""
        return float(np.mean([self.at(overlap) for overlap in _OVERLAPS]))

    def _ranked(self, class_id, overlap):
        scores, right = [], []
        for each_scores, overlaps in self._detections[class_id]:
            scores.append(each_scores)
            right.append(_matches(each_scores, overlaps, overlap))
        return np.concatenate(scores), np.concatenate(right)


class PanopticQuality:
    """Collects segments of images: overlaps of matches, misses, inventions."""

    def __init__(self):
        # class -> sum of overlaps, matches, segments of both sides.
        self._counts: dict[int, np.ndarray] = {}

    def add(self, label: np.ndarray, prediction: np.ndarray) -> None:
        """Adds an image: both `[height, width, 2]`, class and number.

        All pixels of a class without a number are one segment.
        """
        void = label[..., 0] == tasks_lib.VOID
        true, detected = _segments(label), _segments(prediction)
        true.pop((tasks_lib.VOID, 0), None)
        matched = set()
        for key, mask in detected.items():
            # Mostly on void: not counted at all, unless it matches.
            overlaps = {
                other: _overlap(mask & ~void, true[other])
                for other in true
                if other[0] == key[0]
            }
            best = max(overlaps, key=lambda k: overlaps[k], default=None)
            if best is not None and overlaps[best] > _MATCH:
                matched.add(best)
                self._count(key[0], overlaps[best], 1, 0)
            elif (mask & void).sum() <= _MATCH * mask.sum():
                self._count(key[0], 0, 0, 1)
        for key in true:
            if key not in matched:
                self._count(key[0], 0, 0, 1)

    def result(self) -> float:
        """Returns the mean over classes that are there; 0 if none is."""
        each = [
            overlap / (num + 0.5 * num_alone)
            for overlap, num, num_alone in self._counts.values()
        ]
        return float(np.mean(each)) if each else 0.0

    def _count(self, class_id, *values):
        self._counts.setdefault(int(class_id), np.zeros(3))
        self._counts[int(class_id)] += values


def mask_overlaps(true: np.ndarray, detected: np.ndarray) -> np.ndarray:
    """Returns `[num_found, num_true]` of masks `[num, height, width]`."""
    # An image may have none of either, where -1 could stand for anything.
    size = int(np.prod(true.shape[1:]))
    flat = [
        each.reshape(len(each), size).astype(float) for each in (detected, true)
    ]
    shared = flat[0] @ flat[1].T
    union = flat[0].sum(-1)[:, None] + flat[1].sum(-1)[None] - shared
    return shared / np.maximum(union, 1)


def _matches(
    scores: np.ndarray, overlaps: np.ndarray, overlap: float
) -> np.ndarray:
    """Returns `[num_found] bool`: whether each finds a true object first."""
    right = np.zeros(len(scores), bool)
    free = np.ones(overlaps.shape[1], bool)
    for i in np.argsort(-scores, kind="stable"):
        candidates = np.where(free, overlaps[i], -1.0)
        if candidates.size and candidates.max() >= overlap:
            right[i] = True
            free[np.argmax(candidates)] = False
    return right


def _average_precision(
    ranked: tuple[np.ndarray, np.ndarray], num_true: int
) -> float:
    """Returns the area under precision, read at steps of recall."""
    scores, right = ranked
    order = np.argsort(-scores, kind="stable")
    num_right = np.cumsum(right[order])
    precision = num_right / np.arange(1, len(order) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.linspace(0, 1, _NUM_RECALLS)
    places = np.searchsorted(num_right / num_true, steps - 1e-12)
    return float(np.append(falling, 0.0)[places].mean())


def _masks(numbers: np.ndarray, own_numbers: np.ndarray) -> np.ndarray:
    return np.array([numbers == n for n in own_numbers], bool).reshape(
        len(own_numbers), *numbers.shape
    )


def _segments(image: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    pairs = np.unique(image.reshape(-1, 2), axis=0)
    return {
        (int(class_id), int(number)): (image == (class_id, number)).all(-1)
        for class_id, number in pairs
    }


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 0.0
