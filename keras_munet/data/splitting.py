"""Held-out examples where a data set has no splits of its own.

Invariant: the split is a function of the labels' order and the key alone, so
it is the same in every process and on every machine; each class is split by
itself. An image with several labels is split as one of its rarest label, and
images without any are a class of their own.
"""

from __future__ import annotations

import numpy as np

from keras_munet.core import seeds
from keras_munet.core import target_types

_SEED = 0
# A class of fewer examples leaves some split without it.
_NUM_FOR_ALL_SPLITS = 3


def stratified(
    labels: np.ndarray,
    key: str,
    *,
    validation_fraction: float,
    test_fraction: float,
) -> dict[str, np.ndarray]:
    """Returns the rows of each split, in the order of the source.

    A class of 3 or more examples is in every split; of 2, one trains and one
    validates; a single one trains.

    Args:
      labels: `[n] int32`, or `[n, classes] int32` of 0 and 1.
      key: what the draw depends on besides.
      validation_fraction: of each class; 0 for no such split.
      test_fraction: of each class; 0 for no such split.

    Returns:
      `[m] int64` by split name; together every row once.
    """
    parts: dict[str, list[np.ndarray]] = {
        "train": [],
        "validation": [],
        "test": [],
    }
    labels = strata(labels)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        generator = seeds.generator(_SEED, key, int(label))
        order = generator.permutation(members)
        num_test = round(test_fraction * len(order))
        num_validation = round(validation_fraction * len(order))
        if len(order) >= _NUM_FOR_ALL_SPLITS:
            num_test = max(num_test, int(test_fraction > 0.0))
            num_validation = max(num_validation, int(validation_fraction > 0.0))
        else:
            num_test = 0
            num_validation = min(len(order) - 1, int(validation_fraction > 0.0))
        num_held = num_test + num_validation
        parts["test"].append(order[:num_test])
        parts["validation"].append(order[num_test:num_held])
        parts["train"].append(order[num_held:])
    return {
        name: np.sort(np.concatenate(pieces)) for name, pieces in parts.items()
    }


def strata(labels: np.ndarray) -> np.ndarray:
    """Returns what each image is split as, `[n]` whole numbers.

    That is its label; of several its rarest one, of equally rare ones the
    first, and the number of classes where it has none.

    Args:
      labels: as of `stratified`.

    Example:
      >>> strata(np.array([[1, 1], [1, 0], [1, 0], [0, 0]])).tolist()
      [1, 0, 0, 2]
    """
    if target_types.of_labels(labels) is target_types.SINGLE_LABEL:
        return labels
    by_rarity = np.argsort(labels.sum(axis=0), kind="stable")
    first = by_rarity[labels[:, by_rarity].argmax(axis=1)]
    return np.where(labels.any(axis=1), first, labels.shape[1])
