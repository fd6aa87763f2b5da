"""Linear heads on frozen features, found without a step of training.

Invariant: validation examples choose between candidates and nothing else does;
equal features give equal heads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np

from keras_munet.core import classification_metrics as metrics
from keras_munet.core import multi_label_metrics
from keras_munet.core import qualities
from keras_munet.core import target_types

# Training examples that a head is fitted to; a larger split gives a sample.
NUM_EXAMPLES_MAX = 2048
SHRINKAGES = (0.001, 0.01, 0.1)
PENALTIES = (10.0, 1.0, 0.1, 0.01)
_TEMPERATURES = tuple(2.0 ** (power / 2) for power in range(-6, 13))
_NUM_LBFGS_STEPS = 100
_NUM_LBFGS_PAIRS = 10
_NUM_HALVINGS_MAX = 20
_TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class Features:
    """Holds the features that a head reads of some examples.

    Attributes:
      values: `[n, width]`.
      labels: `[n]` whole numbers, or `[n, classes]` of 0 and 1.
    """

    values: np.ndarray
    labels: np.ndarray

    @property
    def target(self) -> target_types.TargetType:
        """The type of the labels."""
        return target_types.of_labels(self.labels)


@dataclasses.dataclass(frozen=True)
class LinearHead:
    """A classifier: features @ kernel + bias are logits.

    Attributes:
      kernel: `[width, classes] float32`.
      bias: `[classes] float32`.
      accuracy: on the validation examples, in [0, 1]; of any number of
        labels an image, the quality stands for it.
      quality: the measure that chose it, on the validation examples.
      method: how it was found, e.g. `LDA, shrinkage 0.01, temperature 2`.
    """

    kernel: np.ndarray
    bias: np.ndarray
    accuracy: float
    quality: float
    method: str


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A head before a temperature is chosen."""

    kernel: np.ndarray
    bias: np.ndarray
    method: str


def solve_head(
    train: Features,
    validation: Features,
    class_counts: np.ndarray,
    *,
    logistic: bool = False,
    quality: str = "accuracy",
    class_weights: Sequence[float] = (),
) -> LinearHead:
    """Returns the head with the best validation quality.

    Linear discriminant analysis (LDA) of several shrinkages; of equal
    qualities the one with the lower validation loss. A temperature that
    minimises this loss divides the logits.

    Where an image has any number of labels, heads are logistic regressions,
    each class against the rest, and keep their logits.

    Args:
      train: what heads are fitted to; a class may have no example.
      validation: what chooses.
      class_counts: `[classes]`, how often each class occurs in the whole
        training split, which gives the prior probabilities.
      logistic: whether regularised logistic regressions are candidates too.
      quality: a name of `qualities.QUALITIES`.
      class_weights: of each class, which multiply its prior probability, and
        its examples' losses in a regression; none for 1.

    Example:
      >>> blobs = Features(np.eye(2)[[0, 1] * 4], np.array([0, 1] * 4))
      >>> solve_head(blobs, blobs, np.array([4, 4])).accuracy
      1.0
    """
    mean = train.values.mean(0, dtype=np.float64)
    centered = Features(train.values - mean, train.labels)
    weights = np.asarray(class_weights or np.ones(len(class_counts)))
    is_multi = train.target is target_types.MULTI_LABEL
    candidates: list[_Candidate] = []
    if not is_multi:
        candidates += _lda(centered, (class_counts + 1.0) * weights)
    if logistic or is_multi:
        candidates += _logistic(centered, weights)
    judge = _judged_multi_label if is_multi else _judged
    judged = [
        judge(candidate, mean, validation, quality) for candidate in candidates
    ]
    _, best = max(judged, key=lambda item: item[0])
    return best


def _judged(
    candidate: _Candidate, mean: np.ndarray, validation: Features, quality: str
) -> tuple[tuple[float, float], LinearHead]:
    """Returns (quality, minus the loss) and the head at its temperature."""
    bias = candidate.bias - mean @ candidate.kernel
    logits = validation.values @ candidate.kernel + bias
    accuracy = float((logits.argmax(1) == validation.labels).mean())
    losses = {
        t: metrics.smoothed_log_loss(logits / t, validation.labels)
        for t in _TEMPERATURES
    }
    temperature = min(losses, key=losses.__getitem__)
    value = (
        accuracy
        if quality == qualities.ACCURACY
        else qualities.measure_quality(
            quality, logits / temperature, validation.labels
        )
    )
    head = LinearHead(
        kernel=(candidate.kernel / temperature).astype(np.float32),
        bias=(bias / temperature).astype(np.float32),
        accuracy=accuracy,
        quality=value,
        method=f"{candidate.method}, temperature {temperature:.3g}",
    )
    return (value, -losses[temperature]), head


def _judged_multi_label(
    candidate: _Candidate, mean: np.ndarray, validation: Features, quality: str
) -> tuple[tuple[float, float], LinearHead]:
    """Returns (quality, minus the loss) and the head as it is."""
    bias = candidate.bias - mean @ candidate.kernel
    logits = validation.values @ candidate.kernel + bias
    value = qualities.measure_quality(quality, logits, validation.labels)
    loss = multi_label_metrics.binary_log_loss(logits, validation.labels)
    head = LinearHead(
        kernel=candidate.kernel.astype(np.float32),
        bias=bias.astype(np.float32),
        accuracy=value,
        quality=value,
        method=candidate.method,
    )
    return (value, -loss), head


def _lda(centered: Features, priors: np.ndarray) -> Iterator[_Candidate]:
    """Yields LDA with each shrinkage towards a multiple of the identity."""
    num_examples, width = centered.values.shape
    of_class = np.eye(len(priors))[centered.labels]
    # A class without an example has the mean of all, which is zero.
    means = of_class.T @ centered.values
    means /= np.maximum(of_class.sum(0), 1.0)[:, None]
    within = centered.values - means[centered.labels]
    covariance = within.T @ within / num_examples
    # Without any spread within classes the nearest mean wins.
    scale = float(np.trace(covariance)) / width or 1.0
    priors = priors / priors.sum()
    for shrinkage in SHRINKAGES:
        shrunk = (1.0 - shrinkage) * covariance
        shrunk[np.diag_indices(width)] += shrinkage * scale
        kernel = np.linalg.solve(shrunk, means.T)
        bias = np.log(priors) - 0.5 * (means.T * kernel).sum(0)
        yield _Candidate(kernel, bias, f"LDA, shrinkage {shrinkage:g}")


def _logistic(
    centered: Features, class_weights: np.ndarray
) -> Iterator[_Candidate]:
    """Yields logistic regressions on standardised features.

    Of any number of labels an image, each class against the rest.
    """
    spread = centered.values.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    x = np.pad(centered.values / spread, ((0, 0), (0, 1)), constant_values=1.0)
    num_classes = len(class_weights)
    is_multi = centered.target is target_types.MULTI_LABEL
    if is_multi:
        targets = centered.labels.astype(np.float64)
        of_example = np.ones((len(x), 1))
    else:
        targets = np.eye(num_classes)[centered.labels]
        of_example = class_weights[centered.labels][:, None]
    weights = np.zeros((x.shape[1], num_classes))
    for penalty in PENALTIES:
        share = penalty / len(x)

        def objective(
            flat: np.ndarray, share: float = share
        ) -> tuple[float, np.ndarray]:
            w = flat.reshape(x.shape[1], num_classes)
            decayed = np.concatenate([w[:-1], np.zeros_like(w[-1:])])
            logits = x @ w
            if is_multi:
                loss = multi_label_metrics.binary_log_loss(logits, targets)
                probs = multi_label_metrics.sigmoid(logits)
            else:
                log_probs = metrics.log_softmax(logits)
                loss = -(of_example * targets * log_probs).sum() / len(x)
                probs = np.exp(log_probs)
            errors = of_example * (probs - targets)
            gradient = x.T @ errors / len(x)
            return (
                float(loss + 0.5 * share * (decayed**2).sum()),
                (gradient + share * decayed).ravel(),
            )

        # Each starts where the stronger penalty before it ended.
        weights = _minimized(objective, weights.ravel()).reshape(weights.shape)
        yield _Candidate(
            weights[:-1] / spread[:, None],
            weights[-1],
            f"logistic regression, penalty {penalty:g}",
        )


def _minimized(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]], x: np.ndarray
) -> np.ndarray:
    """Returns where a smooth convex function is least, by L-BFGS."""
    value, gradient = objective(x)
    pairs: list[tuple[np.ndarray, np.ndarray, float]] = []
    for _ in range(_NUM_LBFGS_STEPS):
        if np.abs(gradient).max() < _TOLERANCE:
            break
        direction = -gradient
        factors = []
        for moved, turned, curvature in reversed(pairs):
            factors.append(moved @ direction / curvature)
            direction = direction - factors[-1] * turned
        if pairs:
            _, turned, curvature = pairs[-1]
            direction = direction * (curvature / (turned @ turned))
        for (moved, turned, curvature), factor in zip(
            pairs, reversed(factors), strict=True
        ):
            direction = direction + moved * (
                factor - turned @ direction / curvature
            )
        slope, step = gradient @ direction, 1.0
        for _ in range(_NUM_HALVINGS_MAX):
            new_value, new_gradient = objective(x + step * direction)
            if new_value <= value + 1e-4 * step * slope:
                break
            step /= 2
        else:
            break
        moved, turned = step * direction, new_gradient - gradient
        if moved @ turned > 0:
            pairs.append((moved, turned, float(moved @ turned)))
            del pairs[:-_NUM_LBFGS_PAIRS]
        x, value, gradient = x + moved, new_value, new_gradient
    return x
