"""CamVid: street scenes with 11 classes, and two tasks derived from them.

Files are `train.npz`, `val.npz`, `test.npz` with `jpeg_bytes` uint8,
`jpeg_offsets` int64 `[num + 1]` and `label` uint8 `[num, height, width]`, where
11 is void. Edges are pixels whose right or lower neighbour is of another class;
presence is whether a class has a share of the image.

Invariant: void pixels are neither an edge nor without one, and make no class
present.
"""

from __future__ import annotations

import io
import itertools
import pathlib
import zipfile

import numpy as np
from PIL import Image

from keras_munet import errors
from keras_munet.overparam.experiments import tasks as tasks_lib
from keras_munet.overparam.experiments.datasets import dense_data

# In the order of their numbers.
CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign"),
    *("fence", "car", "pedestrian", "bicyclist"),
)
TASKS = (
    tasks_lib.Task("segmentation", tasks_lib.SEGMENTATION, len(CLASSES)),
    tasks_lib.Task("edges", tasks_lib.EDGES, 1),
    tasks_lib.Task("presence", tasks_lib.PRESENCE, len(CLASSES)),
)
_FILES = {"train": "train.npz", "validation": "val.npz", "test": "test.npz"}
_VOID = len(CLASSES)
# Of the image's pixels, from which on a class counts as present.
_PRESENT_SHARE = 0.002


def load_camvid(folder: str, image_size: tuple[int, int]) -> dense_data.DataSet:
    """Returns CamVid at one size.

    Args:
      folder: holds the three files.
      image_size: height and width, pixels.

    Raises:
      DataError: a file is missing, damaged, or of other contents.
    """
    splits = {
        split: _examples(pathlib.Path(folder) / name, image_size)
        for split, name in _FILES.items()
    }
    return dense_data.DataSet("camvid", TASKS, **splits)


def edges(classes: np.ndarray) -> np.ndarray:
    """Returns `[num, height, width] int8`: 1 where classes change, else 0.

    A pixel is on an edge if one of its four neighbours has another class, so
    that an image turned left to right has the edges of the image turned; it is
    void if it, or a neighbour while no other tells, is.

    Args:
      classes: `[num, height, width]`, `VOID` where there is no label.
    """
    void = classes == tasks_lib.VOID
    is_edge = np.zeros(classes.shape, bool)
    unknown = void.copy()
    for axis in (1, 2):
        rows = np.moveaxis(classes, axis, 0)
        voids = np.moveaxis(void, axis, 0)
        labelled = ~voids[:-1] & ~voids[1:]
        differ = labelled & (rows[:-1] != rows[1:])
        for side in (slice(None, -1), slice(1, None)):
            np.moveaxis(is_edge, axis, 0)[side] |= differ
            np.moveaxis(unknown, axis, 0)[side] |= voids[:-1] | voids[1:]
    return np.where(is_edge, 1, np.where(unknown, tasks_lib.VOID, 0)).astype(
        np.int8
    )


def presence(classes: np.ndarray) -> np.ndarray:
    """Returns `[num, classes] int8`: 1 where a class has a share, else 0.

    Args:
      classes: `[num, height, width]`, `VOID` where there is no label.
    """
    shares = np.stack(
        [(classes == i).mean((1, 2)) for i in range(len(CLASSES))], -1
    )
    return (shares >= _PRESENT_SHARE).astype(np.int8)


def _examples(path: pathlib.Path, image_size) -> dense_data.Examples:
    try:
        with np.load(path) as file:
            data, offsets = file["jpeg_bytes"], file["jpeg_offsets"]
            labels = file["label"]
        images = np.stack(
            [
                np.asarray(
                    Image.open(io.BytesIO(data[a:b].tobytes())).convert("RGB")
                )
                for a, b in itertools.pairwise(offsets)
            ]
        )
    except FileNotFoundError:
        raise errors.DataError(
            f"there is no {path}; set data_dir to the folder of "
            f"{', '.join(_FILES.values())}"
        ) from None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as e:
        raise errors.DataError(
            f"{path} cannot be read ({type(e).__name__}: {e}); copy it again"
        ) from e
    if labels.shape != images.shape[:3] or labels.max(initial=0) > _VOID:
        raise errors.DataError(
            f"{path} has labels of {labels.shape} up to {labels.max()} for "
            f"images of {images.shape}; it should have one per pixel, to "
            f"{_VOID}"
        )
    classes = np.where(labels == _VOID, tasks_lib.VOID, labels).astype(np.int8)
    small = dense_data.resized_labels(classes, image_size)
    return dense_data.Examples(
        dense_data.resized_images(images, image_size),
        {
            "segmentation": small,
            "edges": edges(small),
            "presence": presence(classes),
        },
    )
