"""NYUv2: 13-class segmentation, depth and normals of 795 and 654 images.

What is read are the preprocessed files that multitask papers share (Liu, Johns
and Davison 2019, arXiv 1803.10704): in `train` and `val`, folders `image`,
`label`, `depth` and `normal` hold `0.npy`, `1.npy`, ...: images
`[288, 384, 3]` in [0, 1], classes `[288, 384]` from -1 (void) to 12, depths
`[288, 384, 1]` in metres, 0 where there is none, and normals `[288, 384, 3]`, 0
where there are none. TFDS's `nyu_depth_v2` has depth alone.

Invariant: the split is the published one; files of another number, shape or
range are refused. The published protocol measures on the 654 images and has no
validation split: the last images of `train` are one.
"""

from __future__ import annotations

import pathlib

import numpy as np

from keras_munet import errors
from keras_munet.overparam.experiments import tasks as tasks_lib
from keras_munet.overparam.experiments.datasets import dense_data

# Of the 13 classes, in the order of their numbers.
CLASSES = (
    *("bed", "books", "ceiling", "chair", "floor", "furniture", "objects"),
    *("picture", "sofa", "table", "tv", "wall", "window"),
)
TASKS = (
    tasks_lib.Task("segmentation", tasks_lib.SEGMENTATION, len(CLASSES)),
    tasks_lib.Task("depth", tasks_lib.DEPTH, 1),
    tasks_lib.Task("normals", tasks_lib.NORMALS, 3),
)
NUM_TRAIN = 795
NUM_TEST = 654
SIZE = (288, 384)
_FOLDERS = {"train": ("train", NUM_TRAIN), "test": ("val", NUM_TEST)}
# Each file's shape behind height and width.
_SHAPES = {"image": (3,), "label": (), "depth": (1,), "normal": (3,)}
# Every so many of the train images, the last ones, validate.
_VALIDATION_SHARE = 10


def load_nyuv2(folder: str, image_size: tuple[int, int]) -> dense_data.DataSet:
    """Returns NYUv2 at one size.

    Args:
      folder: holds `train` and `val`.
      image_size: height and width, pixels.

    Raises:
      DataError: a file is missing, damaged, or of other contents.
    """
    splits = {
        split: _examples(pathlib.Path(folder) / name, num, image_size)
        for split, (name, num) in _FOLDERS.items()
    }
    num = NUM_TRAIN - NUM_TRAIN // _VALIDATION_SHARE
    return dense_data.DataSet(
        "nyuv2",
        TASKS,
        dense_data.rows(splits["train"], 0, num),
        dense_data.rows(splits["train"], num, NUM_TRAIN),
        splits["test"],
    )


def _examples(folder, num, image_size) -> dense_data.Examples:
    parts: dict[str, list[np.ndarray]] = {name: [] for name in _SHAPES}
    for name, behind in _SHAPES.items():
        count = len(list((folder / name).glob("*.npy")))
        if count != num:
            raise errors.DataError(
                f"{folder / name} has {count} .npy files; NYUv2's "
                f"{folder.name} split has {num}: 0.npy to {num - 1}.npy"
            )
        for i in range(num):
            array = _array(folder / name / f"{i}.npy", (*SIZE, *behind))
            if name == "image":
                array = np.rint(255 * array).astype(np.uint8)
                array = dense_data.resized_images(array[None], image_size)
            else:
                array = dense_data.resized_labels(array[None], image_size)
            parts[name].append(array[0])
    images, labels, depths, normals = (
        np.stack(parts[name]) for name in _SHAPES
    )
    return dense_data.Examples(
        images,
        {
            "segmentation": labels.astype(np.int8),
            "depth": depths[..., 0].astype(np.float32),
            "normals": normals.astype(np.float32),
        },
    )


def _array(path: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        raise errors.DataError(
            f"{path} cannot be read ({type(e).__name__}: {e}); copy it again"
        ) from e
    if array.shape != shape:
        raise errors.DataError(
            f"{path} has shape {array.shape}; the preprocessed files have "
            f"{shape}"
        )
    array_name = path.parent.name
    if array_name == "image" and not (array.min() >= 0 and array.max() <= 1):
        raise errors.DataError(
            f"{path} has values from {array.min()} to {array.max()}; images "
            "are in [0, 1]"
        )
    if (
        array_name == "label"
        and not np.isin(array, range(-1, len(CLASSES))).all()
    ):
        raise errors.DataError(
            f"{path} has classes {array.min()} to {array.max()}; the protocol "
            f"has -1 to {len(CLASSES) - 1}"
        )
    return array
