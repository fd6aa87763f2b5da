"""Measures of a model that gives an image any number of labels.

Invariant: scikit-learn's functions of the same names give the same numbers,
except that a class without examples has no average precision and no part in
the mean of these; scikit-learn counts it as 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_munet.core import classification_metrics
from keras_munet.core import json_fields

# Of a class whose threshold is not fitted.
THRESHOLD = 0.5
# A threshold that fewer examples of its class give says little.
NUM_EXAMPLES_MIN = 5
_CALIBRATION = ("calibration_error", "temperature", "calibration_error_scaled")


@dataclasses.dataclass(frozen=True)
class MultiLabelMetrics:
    """Measures of one path on one split; a value per class in each tuple.

    Attributes:
      num_classes: width of the head.
      num_examples: that were measured.
      thresholds: an image has a class whose score is at least its threshold;
        fitted on validation data, see `fit_thresholds`.
      support: examples that have the class.
      predicted: examples that are given the class.
      num_right: examples that have the class and are given it.
      average_precision: None where no example has the class.
      log_loss: mean over examples of the sum of the classes' binary
        cross-entropies, nats.
      num_exact: examples that are given the labels that they have and no more.
      calibration_error: expected calibration error of the decisions about an
        image and a class together, 15 bins of equal width; None in records of
        earlier versions, as for what follows.
      temperature: logits are divided by it to be calibrated; fitted on
        validation data, see `fit_temperature`.
      calibration_error_scaled: of the logits so divided.
    """

    num_classes: int
    num_examples: int
    thresholds: tuple[float, ...]
    support: tuple[int, ...]
    predicted: tuple[int, ...]
    num_right: tuple[int, ...]
    average_precision: tuple[float | None, ...]
    log_loss: float
    num_exact: int
    calibration_error: float | None = None
    temperature: float | None = None
    calibration_error_scaled: float | None = None

    @property
    def per_class(self) -> list[classification_metrics.ClassMetrics]:
        """The measures of each class, in the order of the logits."""
        return [
            classification_metrics.class_metrics(s, p, right)
            for s, p, right in zip(
                self.support, self.predicted, self.num_right, strict=True
            )
        ]

    @property
    def mean_average_precision(self) -> float:
        """Mean average precision of the classes that have examples."""
        return classification_metrics.mean(
            [v for v in self.average_precision if v is not None]
        )

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that have examples or are predicted."""
        return classification_metrics.mean_f1(
            self.support, self.predicted, self.num_right
        )

    @property
    def micro_f1(self) -> float:
        """F1 of all decisions about an image and a class together."""
        total = sum(self.support) + sum(self.predicted)
        return 2 * sum(self.num_right) / total if total else 0.0

    @property
    def exact_match(self) -> float:
        """Share of the examples whose set of labels is right as a whole."""
        return self.num_exact / self.num_examples

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_json` is the inverse."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in vars(self).items()
            if value is not None
        }

    @property
    def calibrated(self) -> MultiLabelMetrics:
        """These measures with the thresholds of calibrated scores.

        They assign the same classes.

        Raises:
          ValueError: there is no temperature.
        """
        if self.temperature is None:
            raise ValueError("it has no temperature")
        scores = np.array(self.thresholds)
        with np.errstate(divide="ignore"):
            logits = np.log(scores) - np.log1p(-scores)
        scaled = sigmoid(logits / self.temperature)
        return dataclasses.replace(self, thresholds=tuple(scaled.tolist()))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MultiLabelMetrics:
        """Returns the metrics that `to_json` wrote.

        Raises:
          ValueError: the value is something else.
        """
        try:
            parts: dict[str, Any] = {
                key: tuple(part) if isinstance(part, list) else part
                for key, part in value.items()
            }
            metrics = cls(**parts)
            is_right = metrics._is_valid()
        except (AttributeError, TypeError) as error:
            raise ValueError("its metrics have other parts") from error
        if not is_right:
            raise ValueError("its metrics are no measures of several labels")
        return metrics

    def summary(self, class_names: Sequence[str] = ()) -> dict[str, Any]:
        """Returns every measure as plain JSON values, for people.

        Args:
          class_names: one per class; numbers where there are none.
        """
        names = class_names or [str(i) for i in range(self.num_classes)]
        return {
            "num_classes": self.num_classes,
            "num_examples": self.num_examples,
            "mean_average_precision": classification_metrics.rounded(
                self.mean_average_precision
            ),
            "macro_f1": classification_metrics.rounded(self.macro_f1),
            "micro_f1": classification_metrics.rounded(self.micro_f1),
            "exact_match": classification_metrics.rounded(self.exact_match),
            "log_loss": self.log_loss,
            **self._calibration(),
            "per_class": [
                {
                    "class": name,
                    "precision": classification_metrics.rounded(row.precision),
                    "recall": classification_metrics.rounded(row.recall),
                    "f1": classification_metrics.rounded(row.f1),
                    "support": row.support,
                    "average_precision": precision,
                    "threshold": threshold,
                }
                for name, row, precision, threshold in zip(
                    names,
                    self.per_class,
                    self.average_precision,
                    self.thresholds,
                    strict=True,
                )
            ],
        }

    def _calibration(self) -> dict[str, Any]:
        """Returns the known measures of calibration by their names."""
        values = {name: getattr(self, name) for name in _CALIBRATION}
        return {k: v for k, v in values.items() if v is not None}

    def _is_valid(self) -> bool:
        """Returns whether a measurement may give these values.

        Raises:
          TypeError: a part is of another kind.
        """
        counts = [self.support, self.predicted, self.num_right]
        precisions = [v for v in self.average_precision if v is not None]
        shares = [*self.thresholds, *precisions]
        return (
            json_fields.is_whole(self.num_classes, least=1)
            and json_fields.is_whole(self.num_examples, least=1)
            and {*map(len, [*counts, self.thresholds, self.average_precision])}
            == {self.num_classes}
            and all(json_fields.is_number(v) and 0 <= v <= 1 for v in shares)
            and all(
                json_fields.is_number(value) and value >= 0
                for value in (self.log_loss, *self._calibration().values())
            )
            and self.temperature != 0
            and all(
                json_fields.is_count(n) and n <= self.num_examples
                for n in (*(n for part in counts for n in part), self.num_exact)
            )
            and all(
                right <= min(s, p) for s, p, right in zip(*counts, strict=True)
            )
            and [v is None for v in self.average_precision]
            == [num == 0 for num in self.support]
        )


def measure_multi_label(
    logits: np.ndarray,
    labels: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
) -> MultiLabelMetrics | None:
    """Returns the measures of a model; None if a logit is not finite.

    Args:
      logits: `[n, classes]`, n from 1.
      labels: `[n, classes]`, 0 or 1.
      validation: logits and labels of other examples, which the thresholds
        and the temperature are fitted on; None for thresholds of 0.5 and no
        temperature.
    """
    logits = np.asarray(logits, np.float64)
    labels = np.asarray(labels, np.int64)
    if not np.isfinite(logits).all():
        return None
    thresholds: tuple[float, ...] = (THRESHOLD,) * logits.shape[1]
    temperature = scaled = None
    if validation is not None and np.isfinite(validation[0]).all():
        thresholds = fit_thresholds(sigmoid(validation[0]), validation[1])
        temperature = classification_metrics.rounded(
            fit_temperature(*validation)
        )
        scaled = classification_metrics.rounded(
            calibration_error(logits / temperature, labels)
        )
    scores = sigmoid(logits)
    assigned = scores >= np.array(thresholds)
    return MultiLabelMetrics(
        num_classes=logits.shape[1],
        num_examples=len(logits),
        thresholds=thresholds,
        support=_counts(labels),
        predicted=_counts(assigned),
        num_right=_counts(assigned & (labels == 1)),
        average_precision=tuple(
            None if value is None else classification_metrics.rounded(value)
            for value in average_precisions(labels, scores)
        ),
        log_loss=classification_metrics.rounded(
            binary_log_loss(logits, labels)
        ),
        num_exact=int((assigned == labels).all(axis=1).sum()),
        calibration_error=classification_metrics.rounded(
            calibration_error(logits, labels)
        ),
        temperature=temperature,
        calibration_error_scaled=scaled,
    )


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Returns 1 / (1 + exp(-logits)) in float64, without overflow.

    Example:
      >>> sigmoid(np.array([-1e4, 0.0, 1e4])).tolist()
      [0.0, 0.5, 1.0]
    """
    logits = np.asarray(logits, np.float64)
    small = np.exp(-np.abs(logits))
    return np.where(logits < 0, small, 1.0) / (1.0 + small)


def binary_log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean over examples of the classes' summed losses, nats.

    Args:
      logits: `[n, classes]`.
      labels: `[n, classes]`, 0 or 1.
    """
    whole = np.logaddexp(0.0, np.asarray(logits, np.float64))
    return float((whole - logits * labels).sum(axis=1).mean())


def average_precisions(
    labels: np.ndarray, scores: np.ndarray
) -> list[float | None]:
    """Returns the average precision of each class; None without examples.

    It is the mean over the examples that have the class of the precision at
    their score; equal scores are one step.

    Args:
      labels: `[n, classes]`, 0 or 1.
      scores: `[n, classes]`.

    Example:
      >>> labels = np.array([[1, 0], [0, 0], [1, 0]])
      >>> average_precisions(labels, np.array([[0.9, 0.1], [0.8, 0.2], [0, 0]]))
      [0.8333333333333333, None]
    """
    return [
        _average_precision(labels[:, index], scores[:, index])
        for index in range(scores.shape[1])
    ]


def mean_average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the mean over classes with examples; 0 where no class has any.

    Args:
      labels: as of `average_precisions`.
      scores: likewise.
    """
    values = average_precisions(labels, scores)
    return classification_metrics.mean(
        [value for value in values if value is not None]
    )


def macro_f1(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the mean F1 of classes at thresholds of 0.5.

    Args:
      labels: as of `average_precisions`.
      scores: likewise.
    """
    assigned = scores >= THRESHOLD
    right = assigned & (labels == 1)
    return classification_metrics.mean_f1(
        *map(_counts, (labels, assigned, right))
    )


def fit_thresholds(scores: np.ndarray, labels: np.ndarray) -> tuple[float, ...]:
    """Returns the threshold of each class with the highest F1.

    It lies midway between two scores that follow each other. Of equal F1 the
    one nearest to 0.5 is taken. It is 0.5 for a class that fewer than 5
    examples have.

    Args:
      scores: `[n, classes]`, from 0 to 1.
      labels: `[n, classes]`, 0 or 1.

    Example:
      >>> labels = np.array([[1]] * 5 + [[0]] * 5)
      >>> fit_thresholds(np.array([[0.5]] * 5 + [[0.25]] * 5), labels)
      (0.375,)
    """
    return tuple(
        _fit_threshold(scores[:, index], labels[:, index])
        for index in range(scores.shape[1])
    )


def calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the expected calibration error of decisions, 15 bins.

    A decision is that an image has a class or has it not, whichever is more
    probable.

    Args:
      logits: `[n, classes]`.
      labels: `[n, classes]`, 0 or 1.
    """
    scores = sigmoid(logits).ravel()
    return classification_metrics.calibration_error(
        np.stack([1.0 - scores, scores], axis=1), np.ravel(labels)
    )


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature of the least smoothed log loss, 0.01 to 100.

    It is the one of all decisions about an image and a class together: a
    softmax over 0 and a logit is the logit's sigmoid.

    Args:
      logits: `[n, classes]`, finite.
      labels: `[n, classes]`, 0 or 1.
    """
    values = np.ravel(logits)
    return classification_metrics.fit_temperature(
        np.stack([np.zeros_like(values), values], axis=1), np.ravel(labels)
    )


def _fit_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    num = int(labels.sum())
    if num < NUM_EXAMPLES_MIN:
        return THRESHOLD
    values, num_at_least, num_right = _steps(labels, scores)
    f1 = 2 * num_right / (num_at_least + num)
    below = np.append(values[1:], 0.0)
    middles = (values + below) / 2
    best = np.flatnonzero(f1 == f1.max())
    nearest = best[np.argmin(np.abs(middles[best] - THRESHOLD))]
    return float(middles[nearest])


def _average_precision(labels: np.ndarray, scores: np.ndarray) -> float | None:
    num = int(labels.sum())
    if not num:
        return None
    _, num_at_least, num_right = _steps(labels, scores)
    precision = num_right / num_at_least
    gained = np.diff(num_right, prepend=0)
    return float((gained * precision).sum() / num)


def _steps(
    labels: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns distinct scores from the highest, and counts at or above each.

    The counts are of all examples and of those that have the class.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    return ordered[last], last + 1, np.cumsum(labels[order])[last]


def _counts(flags: np.ndarray) -> tuple[int, ...]:
    return tuple(map(int, flags.sum(axis=0)))
