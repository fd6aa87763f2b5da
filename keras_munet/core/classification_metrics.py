"""Measures of a classifier on labelled examples, from its logits.

Invariant: what a confusion matrix holds is derived from it and never stored
beside it; scikit-learn's functions of the same names give the same numbers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from keras_munet.core import json_fields

# Top-5 accuracy says little of fewer classes.
NUM_CLASSES_OF_TOP_5 = 11
_NUM_BINS = 15
_TEMPERATURE_MAX = 100.0
_NUM_DIGITS = 6
# Quantile of the normal distribution for an interval of 95%.
_Z = 1.959963984540054


class ClassMetrics(NamedTuple):
    """Measures of one class against all others.

    Attributes:
      precision: share of the predictions of this class that are right; 0
        where there are none.
      recall: share of the examples of this class that are predicted so; 0
        where there are none.
      f1: harmonic mean of both.
      support: examples of this class.
    """

    precision: float
    recall: float
    f1: float
    support: int


@dataclasses.dataclass(frozen=True)
class ClassificationMetrics:
    """Measures of one path on one split.

    Attributes:
      num_classes: width of the head.
      confusion: (class, predicted class, examples), in order, without zeros.
      log_loss: mean cross-entropy, nats; None if only predictions are known,
        as for what follows.
      auc: mean over classes of the area under the ROC curve of one class
        against the others; None where no class has examples and others too.
      top_5_accuracy: None for up to 10 classes.
      calibration_error: expected calibration error, 15 bins of equal width.
      temperature: logits are divided by it to be calibrated; fitted on other
        examples.
      calibration_error_scaled: of the logits so divided.
    """

    num_classes: int
    confusion: tuple[tuple[int, int, int], ...]
    log_loss: float | None = None
    auc: float | None = None
    top_5_accuracy: float | None = None
    calibration_error: float | None = None
    temperature: float | None = None
    calibration_error_scaled: float | None = None

    @property
    def num_examples(self) -> int:
        """The number of examples that were measured."""
        return sum(num for _, _, num in self.confusion)

    @property
    def num_correct(self) -> int:
        """The number of them that were predicted right."""
        return sum(n for label, guess, n in self.confusion if label == guess)

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the accuracy."""
        return wilson_interval(self.num_correct, self.num_examples)

    @property
    def per_class(self) -> list[ClassMetrics]:
        """The measures of each class, in the order of the logits."""
        support, predicted, correct = self._totals()
        return [
            class_metrics(s, p, c)
            for s, p, c in zip(support, predicted, correct, strict=True)
        ]

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have examples."""
        support, _, correct = self._totals()
        pairs = zip(correct, support, strict=True)
        return mean([c / s for c, s in pairs if s])

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that have examples or are predicted."""
        return mean_f1(*self._totals())

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_json` is the inverse."""
        value = {k: v for k, v in vars(self).items() if v is not None}
        value["confusion"] = [list(cell) for cell in self.confusion]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ClassificationMetrics:
        """Returns the metrics that `to_json` wrote.

        Raises:
          ValueError: the value is something else.
        """
        try:
            cells = tuple((a, b, n) for a, b, n in value["confusion"])
            metrics = cls(**{**value, "confusion": cells})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("its metrics have other parts") from error
        metrics._validate()
        return metrics

    def summary(self, class_names: Sequence[str] = ()) -> dict[str, Any]:
        """Returns every measure as plain JSON values, for people.

        Args:
          class_names: one per class; numbers where there are none.
        """
        names = class_names or [str(i) for i in range(self.num_classes)]
        values = {k: v for k, v in vars(self).items() if v is not None}
        return {
            **values,
            "confusion": [list(cell) for cell in self.confusion],
            "num_examples": self.num_examples,
            "accuracy_interval": [
                rounded(end) for end in self.accuracy_interval
            ],
            "balanced_accuracy": rounded(self.balanced_accuracy),
            "macro_f1": rounded(self.macro_f1),
            "per_class": [
                {
                    "class": name,
                    "precision": rounded(row.precision),
                    "recall": rounded(row.recall),
                    "f1": rounded(row.f1),
                    "support": row.support,
                }
                for name, row in zip(names, self.per_class, strict=True)
            ],
        }

    def _totals(self) -> tuple[list[int], list[int], list[int]]:
        """Returns examples, predictions and right ones, each per class."""
        support, predicted, correct = ([0] * self.num_classes for _ in range(3))
        for label, guess, num in self.confusion:
            support[label] += num
            predicted[guess] += num
            if label == guess:
                correct[label] += num
        return support, predicted, correct

    def _validate(self) -> None:
        """Refuses values that no measurement gives.

        Raises:
          ValueError: there are some.
        """
        counts = [self.num_classes, *(n for c in self.confusion for n in c)]
        if not self.confusion or not all(
            json_fields.is_count(n) for n in counts
        ):
            raise ValueError("its metrics need whole numbers from 0")
        if not all(
            max(label, guess) < self.num_classes and num
            for label, guess, num in self.confusion
        ):
            raise ValueError("its confusion names a class that it has not")
        for field in dataclasses.fields(self)[2:]:
            number = getattr(self, field.name)
            if number is not None and not (
                json_fields.is_number(number) and number >= 0
            ):
                raise ValueError(f"its {field.name} must be a number from 0")


def measure_classifier(
    logits: np.ndarray,
    labels: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
) -> ClassificationMetrics | None:
    """Returns the measures of a classifier; None if a logit is not finite.

    Args:
      logits: `[n, classes]`, n from 1.
      labels: `[n]`, whole numbers.
      validation: logits and labels of other examples, which the temperature
        is fitted on; None for no temperature.
    """
    logits = np.asarray(logits, np.float64)
    labels = np.asarray(labels, np.int64)
    if not np.isfinite(logits).all():
        return None
    log_probs = log_softmax(logits)
    probs = np.exp(log_probs)
    num_classes = logits.shape[1]
    temperature = None
    if validation is not None and np.isfinite(validation[0]).all():
        temperature = rounded(fit_temperature(*validation))
    return ClassificationMetrics(
        num_classes=num_classes,
        confusion=confusion_cells(labels, logits.argmax(axis=1)),
        log_loss=rounded(log_loss(log_probs, labels)),
        auc=area_under_roc(probs, labels),
        top_5_accuracy=(
            rounded(np.mean(_ranks(logits, labels) < 5))
            if num_classes >= NUM_CLASSES_OF_TOP_5
            else None
        ),
        calibration_error=rounded(calibration_error(probs, labels)),
        temperature=temperature,
        calibration_error_scaled=(
            None
            if temperature is None
            else rounded(
                calibration_error(
                    np.exp(log_softmax(logits / temperature)), labels
                )
            )
        ),
    )


def class_metrics(support: int, predicted: int, correct: int) -> ClassMetrics:
    """Returns the measures of one class.

    Args:
      support: its examples.
      predicted: examples that are predicted so.
      correct: of these, the right ones.
    """
    return ClassMetrics(
        precision=_ratio(correct, predicted),
        recall=_ratio(correct, support),
        f1=_ratio(2 * correct, predicted + support),
        support=support,
    )


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the logarithms of the `[n, classes]` probabilities of logits."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def log_loss(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean cross-entropy, nats.

    Args:
      log_probs: `[n, classes]`, from `log_softmax`.
      labels: `[n]`.
    """
    return float(-log_probs[np.arange(len(labels)), labels].mean())


def smoothed_log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns a log loss that is least at finite logits, nats.

    An example's target is (n + 1) / (n + 2) for its class, the rest for the
    likeliest other one (for two classes: Platt 1999). Where all n examples are
    right, certainty is not proven.

    Args:
      logits: `[n, classes]`.
      labels: `[n]`.
    """
    log_probs = log_softmax(logits)
    share = 1 / (len(labels) + 2)
    other = _best_other(log_probs, labels)
    return (1 - share) * log_loss(log_probs, labels) - share * float(
        other.mean()
    )


def confusion_cells(
    labels: np.ndarray, predicted: np.ndarray
) -> tuple[tuple[int, int, int], ...]:
    """Returns (class, predicted class, examples), in order, without zeros."""
    cells, counts = np.unique(
        np.stack([labels, predicted]), axis=1, return_counts=True
    )
    return tuple(
        (int(label), int(guess), int(num))
        for (label, guess), num in zip(cells.T, counts, strict=True)
    )


def wilson_interval(num_correct: int, num_examples: int) -> tuple[float, float]:
    """Returns Wilson's 95% interval of a share of at least one example."""
    share = num_correct / num_examples
    scale = 1 + _Z**2 / num_examples
    centre = share + _Z**2 / (2 * num_examples)
    half = _Z * math.sqrt(
        share * (1 - share) / num_examples + (_Z / (2 * num_examples)) ** 2
    )
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def calibration_error(probs: np.ndarray, labels: np.ndarray) -> float:
    """Returns the expected calibration error, 15 bins of equal width.

    Args:
      probs: `[n, classes]`.
      labels: `[n]`.
    """
    confidence = probs.max(axis=1)
    correct = probs.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * _NUM_BINS) - 1, 0, _NUM_BINS - 1)
    gaps = np.bincount(
        bins.astype(np.int64), correct - confidence, minlength=_NUM_BINS
    )
    return float(np.abs(gaps).sum() / len(labels))


def area_under_roc(probs: np.ndarray, labels: np.ndarray) -> float | None:
    """Returns the mean one-vs-rest area under the ROC curve.

    Args:
      probs: `[n, classes]`; only their order in each class counts.
      labels: `[n]`.

    Returns:
      None where no class has examples and others too.
    """
    areas = []
    for index in range(probs.shape[1]):
        positive = labels == index
        num = int(positive.sum())
        if not 0 < num < len(labels):
            continue
        _, where, counts = np.unique(
            probs[:, index], return_inverse=True, return_counts=True
        )
        # Equal scores share the mean of their ranks.
        ranks = np.cumsum(counts) - (counts - 1) / 2
        rank_sum = ranks[where.ravel()][positive].sum()
        areas.append(
            (rank_sum - num * (num + 1) / 2) / (num * (len(labels) - num))
        )
    return rounded(mean(areas)) if areas else None


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature of the least smoothed log loss, 0.01 to 100.

    Args:
      logits: `[n, classes]`, finite.
      labels: `[n]`.
    """
    logits = np.asarray(logits, np.float64)
    share = 1 / (len(labels) + 2)
    right = logits[np.arange(len(labels)), labels].mean()
    chosen = (1 - share) * right + share * _best_other(logits, labels).mean()
    low, high = -math.log(_TEMPERATURE_MAX), math.log(_TEMPERATURE_MAX)
    # The loss is convex in the inverse of the temperature: bisect its slope.
    for _ in range(30):
        middle = (low + high) / 2
        probs = np.exp(log_softmax(logits * math.exp(middle)))
        if (probs * logits).sum(axis=1).mean() > chosen:
            high = middle
        else:
            low = middle
    return math.exp(-(low + high) / 2)


def _best_other(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the `[n]` highest logits of other classes than the right one."""
    rest = np.array(logits, np.float64)
    if rest.shape[1] > 1:
        rest[np.arange(len(labels)), labels] = -np.inf
    return rest.max(axis=1)


def _ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns how many classes stand before the right one."""
    right = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    return ((logits > right) | ((logits == right) & earlier)).sum(axis=1)


def mean_f1(
    support: Sequence[int], predicted: Sequence[int], correct: Sequence[int]
) -> float:
    """Returns the mean F1 of classes that have examples or are predicted.

    Args:
      support: of each class, its examples.
      predicted: examples that are predicted so.
      correct: of these, the right ones.
    """
    rows = zip(support, predicted, correct, strict=True)
    return mean([2 * c / (p + s) for s, p, c in rows if p + s])


def mean(values: Sequence[float]) -> float:
    """Returns the mean of values; 0 of none."""
    return float(sum(values) / len(values)) if values else 0.0


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def rounded(value: float | np.floating[Any]) -> float:
    """Returns a number with as many digits as records have."""
    return round(float(value), _NUM_DIGITS)
