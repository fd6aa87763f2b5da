"""Measures on validation data that decide which child is better.

Invariant: a quality lies in [0, 1] and more of it is better, whether it is
built in or a plug-in's; what a plug-in returns is checked.
"""

from __future__ import annotations

import math
import numbers
from typing import Protocol

import numpy as np

from keras_munet import errors
from keras_munet.core import classification_metrics
from keras_munet.core import multi_label_metrics
from keras_munet.core import plugins
from keras_munet.core import registry
from keras_munet.core import target_types

# What the published methods maximise.
ACCURACY = "accuracy"
QUALITIES = registry.Registry(
    "quality",
    "keras_munet.qualities",
    builtin={
        name: f"keras_munet.core.qualities:{name}"
        for name in (
            *(ACCURACY, "balanced_accuracy", "macro_f1", "auc", "log_loss"),
            "mean_average_precision",
        )
    },
)


class Quality(Protocol):
    """A quality; an entry point of group `keras_munet.qualities` names one.

    Example:
      >>> def least_recall(labels, scores):
      ...     right = scores.argmax(axis=1) == labels
      ...     return min(right[labels == c].mean() for c in set(labels))
      >>> scores = np.array([[0.9, 0.1], [0.8, 0.2]])
      >>> float(least_recall(np.array([0, 1]), scores))
      0.0
    """

    def __call__(self, labels: np.ndarray, scores: np.ndarray) -> float:
        """Returns a number from 0 to 1; more is better.

        Args:
          labels: `[n] int64`, the right classes. A plug-in is not called for
            tasks with any number of labels an image.
          scores: `[n, classes] float64`, the probabilities of the classes.
        """
        ...


def measure_quality(name: str, logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the quality of a classifier on labelled examples.

    Args:
      name: of a quality that is built in or a plug-in's.
      logits: `[n, classes]`, n from 1.
      labels: `[n]`, or `[n, classes]` of 0 and 1.

    Returns:
      A number in [0, 1]; NaN where a logit is not finite.

    Raises:
      UsageError: there is no such quality, or its plug-in fails.

    Example:
      >>> logits = np.array([[9.0, 0.0], [0.0, 9.0], [9.0, 0.0]])
      >>> measure_quality("balanced_accuracy", logits, np.array([0, 1, 1]))
      0.75
    """
    function: Quality = QUALITIES.get(name, "search.quality")
    logits = np.asarray(logits, np.float64)
    if not np.isfinite(logits).all():
        return math.nan
    labels = np.asarray(labels, np.int64)
    scores = target_types.of_labels(labels).scores(logits)
    with plugins.name_errors("quality", name):
        value = function(labels, scores)
    if (
        isinstance(value, bool | np.bool_)
        or not isinstance(value, numbers.Real)
        or not 0 <= float(value) <= 1
    ):
        raise errors.UsageError(
            f"quality {name!r} returned {value!r:.40}; it must be a number "
            "from 0 to 1, of which more is better; fix the plug-in"
        )
    return float(value)


def accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the share of examples whose class has the highest score."""
    return float((scores.argmax(axis=1) == labels).mean())


def balanced_accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the mean recall of the classes that have examples."""
    return _measure_confusion(labels, scores).balanced_accuracy


def macro_f1(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the mean F1 of classes that have examples or are predicted.

    Of any number of labels an image, those of a score of at least 0.5 are
    predicted.
    """
    if target_types.of_labels(labels) is target_types.MULTI_LABEL:
        return multi_label_metrics.macro_f1(labels, scores)
    return _measure_confusion(labels, scores).macro_f1


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the mean one-vs-rest area under the ROC curve.

    Without a class to compare with another it is 0.5.
    """
    area = classification_metrics.area_under_roc(scores, labels)
    return 0.5 if area is None else area


def mean_average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the mean average precision of the classes that have examples.

    Args:
      labels: `[n, classes]`, 0 or 1.
      scores: `[n, classes]`.
    """
    return multi_label_metrics.mean_average_precision(labels, scores)


def log_loss(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the geometric mean of the right classes' probabilities.

    That is exp(-x) of a log loss of x nats.
    """
    with np.errstate(divide="ignore"):
        log_probs = np.log(scores)
    return math.exp(-classification_metrics.log_loss(log_probs, labels))


def _measure_confusion(
    labels: np.ndarray, scores: np.ndarray
) -> classification_metrics.ClassificationMetrics:
    return classification_metrics.ClassificationMetrics(
        scores.shape[1],
        classification_metrics.confusion_cells(labels, scores.argmax(axis=1)),
    )
