"""Computes the fingerprint of a task's data.

Invariant: images are hashed as the `.npy` file that NumPy writes of them, so
that a checksum recorded beside such a file is the same number; it is taken
where there is one.
"""

from __future__ import annotations

import hashlib

import numpy as np

from keras_munet.core import fingerprint
from keras_munet.data import types
from keras_munet.data.tfds import array_files

_NUM_BLOCK_BYTES = 64 * 2**20


def of(data: types.TaskData) -> fingerprint.DataFingerprint:
    """Returns what identifies the data of a task.

    Example:
      >>> from keras_munet.data import tasks
      >>> of(tasks.load("digits")).splits["train"].num_examples
      1257
    """
    splits = {name: getattr(data, name) for name in fingerprint.SPLITS}
    height, width, num_channels = data.train.images.shape[1:]
    return fingerprint.DataFingerprint(
        image_shape=(height, width, num_channels),
        splits={
            name: fingerprint.SplitFingerprint(
                num_examples=len(split),
                labels=digest_split(split.labels),
                images=split.images_digest or digest_split(split.images),
                files=split.files_digest,
            )
            for name, split in splits.items()
        },
        notices=fingerprint.bounded_notices(data.notices),
    )


def digest_split(array: np.ndarray) -> str:
    """Returns the digest of the `.npy` file of an array."""
    total = hashlib.sha256(array_files.header(array.shape, array.dtype))
    row_bytes = max(1, array.nbytes // max(1, len(array)))
    num_rows = max(1, _NUM_BLOCK_BYTES // row_bytes)
    for start in range(0, len(array), num_rows):
        rows = np.ascontiguousarray(array[start : start + num_rows])
        total.update(rows.data)
    return fingerprint.digest_text(total.hexdigest())
