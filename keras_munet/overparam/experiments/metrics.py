"""Measures predictions over a whole data set, per kind of task.

Invariant: a metric is that of all labelled elements together, in any
batches they come; what is not labelled (see `tasks`) does not count.

Shares and scores are in [0, 1]; depth errors in metres and relative to the
depth; angles in degrees.
"""

from __future__ import annotations

import abc
import types
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from keras_munet import errors
from keras_munet.core import plugins
from keras_munet.overparam.experiments import tasks as tasks_lib

# Whether more of it is better, of every metric that there is.
HIGHER_IS_BETTER = {
    "miou": True,
    "pixel_accuracy": True,
    "abs_error": False,
    "rel_error": False,
    "mean_angle": False,
    "median_angle": False,
    "within_11.25": True,
    "within_22.5": True,
    "within_30": True,
    "average_precision": True,
    "best_f1": True,
    "mean_average_precision": True,
    "box_ap": True,
    "box_ap50": True,
    "mask_ap": True,
    "mask_ap50": True,
    "panoptic_quality": True,
    "accuracy": True,
}
_WITHIN_DEGREES = (11.25, 22.5, 30)
# Bins of a degree that angles are counted in for their median.
_BINS_PER_DEGREE = 100
_LENGTH_MIN = 1e-6


class Meter(abc.ABC):
    """Counts batches; one per task and data set."""

    def __init__(self, task: tasks_lib.Task):
        self._task = task

    @abc.abstractmethod
    def update(self, labels: np.ndarray, outputs: np.ndarray) -> None:
        """Counts a batch: labels and outputs as of `losses.loss`."""

    @abc.abstractmethod
    def _measured(self) -> dict[str, float]:
        """Returns the metrics, if anything was labelled."""

    @abc.abstractmethod
    def _num_labelled(self) -> int:
        """Returns how much was labelled."""

    def result(self) -> dict[str, float]:
        """Returns the metrics by name.

        Raises:
          DataError: nothing was labelled.
        """
        if not self._num_labelled():
            raise errors.DataError(
                f"task {self._task.name!r} has no label in these data; "
                "measure it on data that have some, or leave it out"
            )
        return self._measured()


def make_metric(task: tasks_lib.Task) -> Meter:
    """Returns a new meter of a task that is measured by itself."""
    return _METERS[task.task_type](task)


class Segmentation(Meter):
    """Mean intersection over union, and the share of right pixels.

    The mean is over classes that are in the labels or the predictions.
    """

    def __init__(self, task: tasks_lib.Task):
        super().__init__(task)
        # Settings name metrics, and reading them needs no TensorFlow.
        import keras

        # float64: float32 cannot count beyond 2^24 pixels.
        self._iou = keras.metrics.MeanIoU(
            task.num_outputs, ignore_class=tasks_lib.VOID, dtype="float64"
        )

    def update(self, labels: np.ndarray, outputs: np.ndarray) -> None:
        """Counts `[b, h, w]` classes and `[b, h, w, classes]` logits."""
        self._iou.update_state(labels, np.argmax(outputs, -1))

    def _num_labelled(self):
        return int(np.sum(self._iou.total_cm))

    def _measured(self):
        counts = np.asarray(self._iou.total_cm)
        return {
            "miou": float(self._iou.result()),
            "pixel_accuracy": float(np.trace(counts) / counts.sum()),
        }


class Depth(Meter):
    """Mean absolute error, and mean absolute error per depth."""

    def __init__(self, task: tasks_lib.Task):
        super().__init__(task)
        self._num = 0
        self._absolute = 0.0
        self._relative = 0.0

    def update(self, labels: np.ndarray, outputs: np.ndarray) -> None:
        """Counts `[b, h, w]` metres and `[b, h, w, 1]` predictions."""
        labelled = np.isfinite(labels) & (labels > 0)
        depths = labels[labelled].astype(np.float64)
        apart = np.abs(outputs[..., 0][labelled] - depths)
        self._num += depths.size
        self._absolute += apart.sum()
        self._relative += (apart / depths).sum()

    def _num_labelled(self):
        return self._num

    def _measured(self):
        return {
            "abs_error": float(self._absolute / self._num),
            "rel_error": float(self._relative / self._num),
        }


class Normals(Meter):
    """Angles between predicted and true normals.

    The median is to the nearest hundredth of a degree. A prediction without
    direction is 90 degrees off.
    """

    def __init__(self, task: tasks_lib.Task):
        super().__init__(task)
        self._num = 0
        self._total = 0.0
        self._within = np.zeros(len(_WITHIN_DEGREES), np.int64)
        self._bins = np.zeros(180 * _BINS_PER_DEGREE + 1, np.int64)

    def update(self, labels: np.ndarray, outputs: np.ndarray) -> None:
        """Counts `[b, h, w, 3]` normals and predictions of any length."""
        lengths = np.linalg.norm(labels.astype(np.float64), axis=-1)
        labelled = np.isfinite(lengths) & (lengths > _LENGTH_MIN)
        true = labels[labelled] / lengths[labelled][:, None]
        predicted = outputs[labelled].astype(np.float64)
        long = np.linalg.norm(predicted, axis=-1, keepdims=True)
        predicted = predicted / np.maximum(long, _LENGTH_MIN)
        # Exact for small angles, where the arc of a cosine is not.
        sines = np.linalg.norm(np.cross(true, predicted), axis=-1)
        angles = np.degrees(np.arctan2(sines, (true * predicted).sum(-1)))
        angles = np.where(long[:, 0] < _LENGTH_MIN, 90.0, angles)
        self._num += angles.size
        self._total += angles.sum()
        self._within += [(angles < limit).sum() for limit in _WITHIN_DEGREES]
        places = np.rint(angles * _BINS_PER_DEGREE).astype(np.int64)
        self._bins += np.bincount(places, minlength=self._bins.size)

    def _num_labelled(self):
        return self._num

    def _measured(self):
        upto = np.cumsum(self._bins)
        middles = ((self._num - 1) // 2, self._num // 2)
        places = [np.searchsorted(upto, m, side="right") for m in middles]
        measured = {
            "mean_angle": float(self._total / self._num),
            "median_angle": float(np.mean(places) / _BINS_PER_DEGREE),
        }
        for limit, num in zip(_WITHIN_DEGREES, self._within, strict=True):
            measured[f"within_{limit}"] = float(num / self._num)
        return measured


class Edges(Meter):
    """Average precision, and the best F1 of any threshold, pixel by pixel."""

    def __init__(self, task: tasks_lib.Task):
        super().__init__(task)
        self._truths: list[np.ndarray] = []
        self._scores: list[np.ndarray] = []

    def update(self, labels: np.ndarray, outputs: np.ndarray) -> None:
        """Counts `[b, h, w]` of 0 and 1, and `[b, h, w, 1]` logits."""
        labelled = labels != tasks_lib.VOID
        self._truths.append(labels[labelled] > 0)
        self._scores.append(outputs[..., 0][labelled])

    def _num_labelled(self):
        # Without an edge there is neither precision nor recall.
        return sum(int(truths.sum()) for truths in self._truths)

    def _measured(self):
        truths, scores = map(np.concatenate, (self._truths, self._scores))
        precision, recall, _ = _scikit_learn().precision_recall_curve(
            truths, scores
        )
        both = precision + recall
        f1 = 2 * precision * recall / np.where(both > 0, both, 1)
        return {
            "average_precision": float(
                _scikit_learn().average_precision_score(truths, scores)
            ),
            "best_f1": float(f1.max()),
        }


class Presence(Meter):
    """Average precision of each class, and its mean over those present."""

    def __init__(self, task: tasks_lib.Task):
        super().__init__(task)
        self._labels: list[np.ndarray] = []
        self._scores: list[np.ndarray] = []

    def update(self, labels: np.ndarray, outputs: np.ndarray) -> None:
        """Counts `[b, classes]` of 0 and 1, and `[b, h, w, classes]`."""
        self._labels.append(np.asarray(labels))
        self._scores.append(outputs.mean((1, 2)))

    def _num_labelled(self):
        return sum(int((labels > 0).sum()) for labels in self._labels)

    def _measured(self):
        labels = np.concatenate(self._labels)
        scores = np.concatenate(self._scores)
        areas = []
        for label, score in zip(labels.T, scores.T, strict=True):
            labelled = label != tasks_lib.VOID
            if (label > 0).any():
                areas.append(
                    _scikit_learn().average_precision_score(
                        label[labelled] > 0, score[labelled]
                    )
                )
        return {"mean_average_precision": float(np.mean(areas))}


class Classification(Meter):
    """The share of images whose class has the highest mean output."""

    def __init__(self, task: tasks_lib.Task):
        super().__init__(task)
        self._num = self._num_right = 0

    def update(self, labels: np.ndarray, outputs: np.ndarray) -> None:
        """Counts `[b]` classes, and `[b, h, w, classes]`."""
        labelled = labels != tasks_lib.VOID
        right = outputs.mean((1, 2)).argmax(-1) == labels
        self._num += int(labelled.sum())
        self._num_right += int((right & labelled).sum())

    def _num_labelled(self):
        return self._num

    def _measured(self):
        return {"accuracy": self._num_right / self._num}


_METERS: dict[str, type[Meter]] = {
    tasks_lib.SEGMENTATION: Segmentation,
    tasks_lib.DEPTH: Depth,
    tasks_lib.NORMALS: Normals,
    tasks_lib.EDGES: Edges,
    tasks_lib.PRESENCE: Presence,
    tasks_lib.CLASSIFICATION: Classification,
}


def _scikit_learn() -> types.ModuleType:
    return plugins.import_extra("sklearn.metrics", "overparam", "edges need")


def relative_improvement(
    measured: Mapping[str, Mapping[str, float]],
    reference: Mapping[str, Mapping[str, float]],
    metric_names: Sequence[str] | None = None,
) -> float:
    """Returns the average relative improvement over a reference.

    Of every task the mean over its metrics of how much better each is, as a
    share of the reference's value; then the mean over tasks.

    Args:
      measured: task -> metric -> value.
      reference: the same tasks, e.g. of single-task networks.
      metric_names: those to use; default all.

    Raises:
      UsageError: a task or metric is missing, or a reference value is 0.
    """
    each = []
    for task, values in sorted(measured.items()):
        there = reference.get(task, {})
        names = [
            name
            for name in values
            if metric_names is None or name in metric_names
        ]
        bad = [name for name in names if not there.get(name)]
        if bad or not names:
            raise errors.UsageError(
                f"task {task!r} has no reference above 0 for "
                f"{bad[0] if bad else 'any metric'}; measure both alike"
            )
        better = [
            (values[name] - there[name])
            / there[name]
            * (1 if HIGHER_IS_BETTER[name] else -1)
            for name in names
        ]
        each.append(sum(better) / len(better))
    if not each:
        raise errors.UsageError(
            "no task is measured; give at least one to compare"
        )
    return sum(each) / len(each)
