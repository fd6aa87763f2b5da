"""The task `digits`: the UCI hand-written digits that come with scikit-learn.

Invariant: the split is a function of the data alone, stratified by class, so
it is the same in every process and on every machine.
"""

from __future__ import annotations

import numpy as np

from keras_munet import errors
from keras_munet.core import seeds
from keras_munet.data import records

TASK = "digits"
_NUM_CLASSES = 10
_TEST_FRACTION = 0.2
_VALIDATION_FRACTION = 0.1
_SEED = 0
# scikit-learn keeps the pixels as counts of set bits in 4 x 4 blocks.
_PIXEL_MAX = 16.0


def load() -> records.TaskData:
    """Returns 1797 grey images, `[n, 8, 8, 1] uint8`, in 10 classes.

    A fifth of each class is the test split and a tenth the validation split.

    Raises:
      DataError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as e:
        raise errors.DataError(
            f"task {TASK!r} needs scikit-learn, which is not installed; run "
            "pip install keras_munet[embedded]"
        ) from e
    source = datasets.load_digits()
    pixels = np.rint(source.images * (255.0 / _PIXEL_MAX)).astype(np.uint8)
    labels = source.target.astype(np.int32)
    parts: dict[str, list[np.ndarray]] = {n: [] for n in records.SPLIT_NAMES}
    for label in range(_NUM_CLASSES):
        members = np.flatnonzero(labels == label)
        order = seeds.generator(_SEED, TASK, label).permutation(members)
        num_test = round(_TEST_FRACTION * len(order))
        num_held = num_test + round(_VALIDATION_FRACTION * len(order))
        parts["test"].append(order[:num_test])
        parts["validation"].append(order[num_test:num_held])
        parts["train"].append(order[num_held:])
    splits = {}
    for name, pieces in parts.items():
        # In the source's order, so that classes are mixed.
        rows = np.sort(np.concatenate(pieces))
        splits[name] = records.Split(pixels[rows, :, :, None], labels[rows])
    return records.TaskData(
        name=TASK,
        num_classes=_NUM_CLASSES,
        class_names=tuple(str(i) for i in range(_NUM_CLASSES)),
        **splits,
    )
