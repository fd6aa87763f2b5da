"""Types of labels: one class an image, or any number of classes.

Invariant: a task's labels have the type of their shape, `[n]` whole numbers or
`[n, classes]` of 0 and 1; prepared data and the record of a published path
name it. What depends on it stands here: scores, measures and qualities.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import TypeAlias

import numpy as np

from keras_munet import errors
from keras_munet.core import classification_metrics
from keras_munet.core import multi_label_metrics

# Between the labels of one image, in tables and in what is predicted.
SEPARATOR = "|"
# The default of `search.quality`.
_DEFAULT_QUALITY = "accuracy"
Metrics: TypeAlias = (
    classification_metrics.ClassificationMetrics
    | multi_label_metrics.MultiLabelMetrics
)


@dataclasses.dataclass(frozen=True)
class TargetType:
    """One type of labels.

    Attributes:
      name: as records have it.
      activation: the function of `tf.nn` from logits to scores.
      scores: the same in NumPy, of `[n, classes]` logits.
      measure: returns the measures of logits and labels on test data.
      metrics: the record of these.
      default_quality: what decides where `search.quality` is not set.
      qualities: which others may be set; none for all but those of the other
        type.
    """

    name: str
    activation: str
    scores: Callable[[np.ndarray], np.ndarray]
    measure: Callable[..., Any]
    metrics: type[Any]
    default_quality: str
    qualities: tuple[str, ...] = ()

    def quality_of(self, setting: str, task: str) -> str:
        """Returns the quality that decides for a task of this type.

        Args:
          setting: `search.quality`; `accuracy`, its default, stands for the
            default of the type.
          task: for the message.

        Raises:
          UsageError: it does not measure labels of this type.

        Example:
          >>> MULTI_LABEL.quality_of("accuracy", "own/scenes")
          'mean_average_precision'
        """
        if setting == _DEFAULT_QUALITY:
            return self.default_quality
        is_multi = self is MULTI_LABEL
        if is_multi and setting not in self.qualities:
            raise errors.UsageError(
                f"config key search.quality is {setting!r}, and task {task!r} "
                "has any number of labels an image; use one of "
                f"{', '.join(self.qualities)}, or leave it out"
            )
        if not is_multi and setting == MULTI_LABEL.default_quality:
            raise errors.UsageError(
                f"config key search.quality is {setting!r}, and task {task!r} "
                "has one label an image; use accuracy, balanced_accuracy, "
                "macro_f1, auc or log_loss, or leave it out"
            )
        return setting

    def test_measure(self, setting: str) -> str:
        """Returns the measure that the record of a path has of test data.

        That is the accuracy, or where an image has any number of labels the
        quality that decides.

        Args:
          setting: as of `quality_of`; one that does not fit stands for the
            default, as a record can be read under any settings.
        """
        return setting if setting in self.qualities else self.default_quality


def _softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(classification_metrics.log_softmax(logits))


SINGLE_LABEL = TargetType(
    "single_label",
    "softmax",
    _softmax,
    classification_metrics.measure_classifier,
    classification_metrics.ClassificationMetrics,
    _DEFAULT_QUALITY,
)
MULTI_LABEL = TargetType(
    "multi_label",
    "sigmoid",
    multi_label_metrics.sigmoid,
    multi_label_metrics.measure_multi_label,
    multi_label_metrics.MultiLabelMetrics,
    "mean_average_precision",
    ("mean_average_precision", "macro_f1"),
)


def of_labels(labels: Any) -> TargetType:
    """Returns the type of labels.

    Args:
      labels: an array or tensor, `[n]` or `[n, classes]`.

    Example:
      >>> of_labels(np.zeros([4, 3], np.int32)).name
      'multi_label'
    """
    return MULTI_LABEL if len(labels.shape) > 1 else SINGLE_LABEL


def named(record: Mapping[str, Any]) -> TargetType:
    """Returns the type that a record names as its `target_type`.

    Records of one label an image name none.

    Raises:
      ValueError: there is no such type.
    """
    name = record.get("target_type", SINGLE_LABEL.name)
    for target in (SINGLE_LABEL, MULTI_LABEL):
        if target.name == name:
            return target
    raise ValueError(f"its target_type is {name!a:.60}, which is none")
