"""The task `digits`: the UCI hand-written digits that come with scikit-learn.

Invariant: the split is a function of the data alone, stratified by class, so
it is the same in every process and on every machine.
"""

from __future__ import annotations

import numpy as np

from keras_munet import errors
from keras_munet.data import splitting
from keras_munet.data import task_source
from keras_munet.data import types

TASK = "digits"
_NUM_CLASSES = 10
_TEST_FRACTION = 0.2
_VALIDATION_FRACTION = 0.1
# scikit-learn keeps the pixels as counts of set bits in 4 x 4 blocks.
_PIXEL_MAX = 16.0


def load_digits() -> types.TaskData:
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
    rows = splitting.stratified(
        labels,
        TASK,
        validation_fraction=_VALIDATION_FRACTION,
        test_fraction=_TEST_FRACTION,
    )
    splits = {
        name: types.Split(pixels[r, :, :, None], labels[r])
        for name, r in rows.items()
    }
    return types.TaskData(
        name=TASK,
        num_classes=_NUM_CLASSES,
        class_names=tuple(str(i) for i in range(_NUM_CLASSES)),
        notices=(),
        **splits,
    )


SOURCE = task_source.EmbeddedTasks({TASK: load_digits})
