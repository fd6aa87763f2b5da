"""Held-out examples where a data set has no splits of its own.

Invariant: the split is a function of the labels' order and the key alone, so
it is the same in every process and on every machine; each class is split by
itself.
"""

from __future__ import annotations

import numpy as np

from keras_munet.core import seeds

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
      labels: `[n] int32`.
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
