"""Rooms as a data set: segmentation, depth, normals, objects of images.

Invariant: the same as `rooms`: image i of a split never depends on how many
there are.
"""

from __future__ import annotations

import numpy as np

from keras_munet.overparam.experiments import tasks as tasks_lib
from keras_munet.overparam.experiments.datasets import dense_data
from keras_munet.overparam.experiments.datasets import rooms

TASKS = (
    tasks_lib.Task("segmentation", tasks_lib.SEGMENTATION, len(rooms.CLASSES)),
    tasks_lib.Task("depth", tasks_lib.DEPTH, 1),
    tasks_lib.Task("normals", tasks_lib.NORMALS, 3),
    tasks_lib.Task(
        "objects",
        tasks_lib.DETECTION,
        len(rooms.THINGS) + tasks_lib.NUM_BOX_CHANNELS,
        first_class=rooms.CLASSES.index(rooms.THINGS[0]),
    ),
)
NUM_TRAIN = 1024
NUM_TEST = 256


def load_rooms(
    seed: int,
    image_size: tuple[int, int],
    *,
    num_train: int = NUM_TRAIN,
    num_test: int = NUM_TEST,
) -> dense_data.DataSet:
    """Returns rooms; the validation split is as large as the test split.

    Args:
      seed: of the rooms.
      image_size: height and width, pixels.
      num_train: images to train on.
      num_test: images of validation and test each.

    Raises:
      UsageError: a number is out of range.
    """

    def split(name: str, num: int) -> dense_data.Examples:
        height, width = image_size
        views = rooms.views(seed, name, num, height=height, width=width)
        return dense_data.Examples(
            views.image,
            {
                "segmentation": views.segmentation,
                "depth": views.depth,
                "normals": views.normals,
                "objects": np.stack(
                    [views.segmentation, views.instances], -1
                ).astype(np.int16),
            },
        )

    return dense_data.DataSet(
        "rooms",
        TASKS,
        split("train", num_train),
        split("validation", num_test),
        split("test", num_test),
    )
