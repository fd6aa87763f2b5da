"""COCO 2017: 133-class segmentation, and detection of 80 kinds of things.

Read from the data set `coco/2017_panoptic` of TensorFlow Datasets: a panoptic
image holds, as red + 256 green + 65536 blue, the id of each pixel's segment,
and `panoptic_objects` the class of each id. Classes 0 to 79 are things, 80 to
132 are stuff. With both tasks instances of things are distinguished.

Invariant: crowds, whose objects are not told apart, and pixels without a
segment are void. Images are squeezed to one size, boxes with them.
"""

from __future__ import annotations

import numpy as np

from keras_munet import errors
from keras_munet.overparam.experiments import tasks as tasks_lib
from keras_munet.overparam.experiments.datasets import dense_data

NAME = "coco/2017_panoptic"
NUM_THINGS = 80
NUM_CLASSES = 133
TASKS = (
    tasks_lib.Task("segmentation", tasks_lib.SEGMENTATION, NUM_CLASSES),
    tasks_lib.Task(
        "objects",
        tasks_lib.DETECTION,
        NUM_THINGS + tasks_lib.NUM_BOX_CHANNELS,
    ),
)
# Of the train split, its first images; the published test labels are secret,
# so that the validation split is what is reported.
_NUM_VALIDATION = 1000
_NUM_BYTES_MAX = 2**33


def load_coco(
    folder: str,
    image_size: tuple[int, int],
    *,
    num_train: int = 0,
    num_test: int = 0,
) -> dense_data.DataSet:
    """Returns COCO at one size.

    Args:
      folder: of prepared TFDS data.
      image_size: height and width, pixels.
      num_train: images to train on; 0 for all.
      num_test: images to measure on; 0 for all.

    Raises:
      DataError: it is not prepared there, or damaged.
      UsageError: it would not fit in memory.
    """
    from keras_munet.data.tfds import builders as tfds_builders

    builder = tfds_builders.find(NAME, folder)
    if not builder.is_prepared():
        raise errors.DataError(
            f"{NAME} is not prepared in {folder}; run "
            f"tfds.builder({NAME!r}, data_dir=...).download_and_prepare() once"
        )
    train = builder.info.splits["train"].num_examples
    num_validation = min(_NUM_VALIDATION, train // 10)
    stop = train
    if num_train:
        stop = min(num_validation + num_train, train)
    test = builder.info.splits["validation"].num_examples
    test = min(num_test, test) if num_test else test
    # Three channels, a class, and a class and a number again, 2 bytes each.
    num_bytes = (stop + test) * image_size[0] * image_size[1] * 9
    if num_bytes > _NUM_BYTES_MAX:
        raise errors.UsageError(
            f"{stop + test} images of COCO at {image_size[0]} x "
            f"{image_size[1]} are {num_bytes / 2**30:.0f} GiB; set num_train "
            "or a smaller image"
        )
    splits = {
        "train": f"train[{num_validation}:{stop}]",
        "validation": f"train[:{num_validation}]",
        "test": f"validation[:{test}]",
    }
    return dense_data.DataSet(
        "coco",
        TASKS,
        **{
            name: _examples(builder, split, image_size)
            for name, split in splits.items()
        },
    )


def classes_and_numbers(
    panoptic: np.ndarray,
    ids: np.ndarray,
    labels: np.ndarray,
    are_crowds: np.ndarray,
) -> np.ndarray:
    """Returns `[height, width, 2] int16`: class, and number of a thing.

    Args:
      panoptic: `[height, width, 3] uint8`, ids in base 256.
      ids: `[num]` of the segments; 0 is none.
      labels: `[num]` classes of the segments.
      are_crowds: `[num] bool`.

    Raises:
      DataError: a pixel's id is not listed.
    """
    pixels = panoptic.astype(np.int64) @ np.array([1, 256, 65536])
    colors, places = np.unique(pixels, return_inverse=True)
    table = np.full((len(colors), 2), [tasks_lib.VOID, 0], np.int16)
    number = 0
    listed = {
        int(i): (int(label), bool(crowd))
        for i, label, crowd in zip(ids, labels, are_crowds, strict=True)
    }
    for row, segment in enumerate(colors.tolist()):
        if segment == 0:
            continue
        if segment not in listed:
            raise errors.DataError(
                f"a panoptic image has segment {segment}, which its objects do "
                f"not list; prepare {NAME} again"
            )
        label, is_crowd = listed[segment]
        if is_crowd:
            continue
        is_thing = label < NUM_THINGS
        number += is_thing
        table[row] = label, number if is_thing else 0
    return table[places.reshape(pixels.shape)]


def _examples(builder, split, image_size) -> dense_data.Examples:
    import tensorflow_datasets as tfds

    images, labels = [], []
    for example in tfds.as_numpy(
        builder.as_dataset(split=split, shuffle_files=False)
    ):
        image = example["image"][None]
        images.append(dense_data.resized_images(image, image_size)[0])
        objects = example["panoptic_objects"]
        label = classes_and_numbers(
            example["panoptic_image"],
            objects["id"],
            objects["label"],
            objects["is_crowd"],
        )
        labels.append(dense_data.resized_labels(label[None], image_size)[0])
    if not images:
        raise errors.DataError(
            f"split {split} of {NAME} is empty; prepare it again"
        )
    both = np.stack(labels)
    return dense_data.Examples(
        np.stack(images), {"segmentation": both[..., 0], "objects": both}
    )
