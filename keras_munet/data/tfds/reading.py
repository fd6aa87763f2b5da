"""Reads splits of TensorFlow Datasets (TFDS) into arrays of one shape.

Invariant: records come in the order in which they are stored, wherever one
starts. Images keep their pixels or become squares of one side, as
`image_storage` says; what training and evaluation resize to is a square of
the whole image too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_munet import errors
from keras_munet.data import folders
from keras_munet.data import image_storage
from keras_munet.data import labels
from keras_munet.data import types

LABEL = "label"
_IMAGE = "image"
_READ_BATCH = 256
FULL_PIXEL = 255


class Form(NamedTuple):
    """The features of a data set that are its images and labels.

    Attributes:
      image_key: the feature that holds the images.
      label: a feature, or a key of `labels.FUNCTIONS`.
      class_names: in the order of the labels.
      shape: of the stored images: height, width, channels.
      resized: whether they are resized to it.
      pixel_max: the value of a full pixel in the source.
      resident: whether they are held in memory; otherwise in files.
    """

    image_key: str
    label: str
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    resized: bool
    pixel_max: int
    resident: bool


def form(
    name: str,
    features: tfds.features.FeaturesDict,
    num_examples: int,
    *,
    label: str,
    side_max: int,
    pixel_max: int,
    image_size: int,
) -> Form:
    """Returns how the records of a task are read.

    Args:
      name: of the task, for messages.
      features: of the data set.
      num_examples: of the task, all splits together.
      label: a feature, or a key of `labels.FUNCTIONS`.
      side_max: bound on the side of images that are resized, pixels.
      pixel_max: the value of a full pixel in the source.
      image_size: the largest side of a model's input, pixels.

    Raises:
      DataError: its features are not images and a label.
    """
    image_key, class_names = _keys(name, features, label)
    height, width, num_channels = features[image_key].shape
    shape, resized, resident = image_storage.stored(
        num_examples,
        (height or 0, width or 0, num_channels),
        side_max=side_max,
        image_size=image_size,
    )
    return Form(
        image_key, label, class_names, shape, resized, pixel_max, resident
    )


def read_examples(
    builder: tfds.core.DatasetBuilder,
    instruction: str,
    form: Form,
    num_examples: int,
) -> types.Split:
    """Returns one split, decoded, in the order in which it is stored.

    Images whose three channels are equal are kept as one: a third of the
    memory, and what training makes of them is the same.

    Args:
      builder: prepared.
      instruction: of TFDS, e.g. `train[:5%]`.
      form: of its records.
      num_examples: what its index says.

    Raises:
      DataError: the files are damaged.
    """
    images = np.empty((num_examples, *form.shape[:2], 1), np.uint8)
    labels_read = np.empty(num_examples, np.int32)
    end = 0
    for pixels, batch_labels in batches(builder, instruction, form):
        start, end = end, end + len(batch_labels)
        if end > num_examples:
            break
        if images.shape[-1] < pixels.shape[-1]:
            if (pixels == pixels[..., :1]).all():
                pixels = pixels[..., :1]
            else:
                grey = images[:start]
                images = np.empty((num_examples, *form.shape), np.uint8)
                images[:start] = grey
        images[start:end] = pixels
        labels_read[start:end] = batch_labels
    if end != num_examples:
        raise errors.DataError(
            f"{instruction!r} of {builder.data_dir} holds "
            f"{'at least ' if end > num_examples else ''}{end} examples where "
            f"its index says {num_examples}; delete that folder and prepare "
            "it again"
        )
    return types.Split(images, labels_read)


def batches(
    builder: tfds.core.DatasetBuilder,
    instruction: str | tfds.core.ReadInstruction,
    form: Form,
    *,
    with_images: bool = True,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields images `[n, *form.shape] uint8` and labels `[n] int32`.

    Args:
      builder: prepared.
      instruction: which examples.
      form: of its records.
      with_images: whether images are decoded; else there are none of them.

    Raises:
      DataError: the files are damaged.
    """
    try:
        for images, batch_labels in _decoded(
            builder, instruction, form, with_images
        ):
            yield images, batch_labels.astype(np.int32)
    except Exception as e:
        text = " ".join(str(e).split())[:200]
        advice = "delete that folder and prepare it again"
        if folders.is_remote(str(builder.data_dir)):
            advice = "check the network and your access, or copy it to a disk"
        raise errors.DataError(
            f"cannot read {instruction!r} of {builder.data_dir}: "
            f"{type(e).__name__}: {text}; {advice}"
        ) from e


def with_equal_channels(
    splits: dict[str, types.Split],
) -> dict[str, types.Split]:
    """Returns splits of which none is grey unless all are."""
    most = max(split.images.shape[-1] for split in splits.values())
    return {
        name: split
        if split.images.shape[-1] == most
        else types.Split(np.repeat(split.images, most, -1), split.labels)
        for name, split in splits.items()
    }


def _keys(name: str, features, label: str) -> tuple[str, tuple[str, ...]]:
    """Returns the feature that holds the images, and the class names."""
    named = isinstance(features, tfds.features.FeaturesDict)
    features = dict(features.items()) if named else {}
    described = ", ".join(
        f"{k} ({type(v).__name__})" for k, v in features.items()
    )
    if label in labels.FUNCTIONS:
        class_names = labels.FUNCTIONS[label].class_names
    else:
        feature = features.get(label)
        if not (
            isinstance(feature, tfds.features.ClassLabel)
            and feature.num_classes
        ):
            raise errors.DataError(
                f"data set {name!r} has no class labels: its features are "
                f"{described or 'none'}; choose one with a ClassLabel named "
                f"{label!r}"
            )
        class_names = tuple(feature.names)
    images = [k for k, v in features.items() if type(v) is tfds.features.Image]
    if _IMAGE not in images and len(images) != 1:
        raise errors.DataError(
            f"data set {name!r} has {len(images)} image features: its "
            f"features are {described}; choose one with a single Image"
        )
    key = _IMAGE if _IMAGE in images else images[0]
    shape, dtype = features[key].shape, np.dtype(features[key].np_dtype)
    if shape[-1] not in types.CHANNELS or dtype != np.uint8:
        raise errors.DataError(
            f"data set {name!r} has {dtype} images of shape {shape}; only "
            "uint8 images with 1 or 3 channels are read, as in mnist, "
            "cifar10 or dtd"
        )
    return key, class_names


def _decoded(builder, instruction, form: Form, with_images: bool):
    """Yields images `[n, *form.shape] uint8` and labels `[n]`."""
    computed = labels.FUNCTIONS.get(form.label)
    decoded_features = (
        dict(computed.features) if computed else {form.label: True}
    )
    if with_images:
        decoded_features[form.image_key] = True
    data = builder.as_dataset(
        split=instruction,
        shuffle_files=False,
        decoders=tfds.decode.PartialDecoding(decoded_features),
        # One file after the other: mixed, they would come in another order
        # from another start.
        read_config=tfds.ReadConfig(
            try_autocache=False, interleave_cycle_length=1
        ),
    )
    if with_images and (form.resized or form.pixel_max != FULL_PIXEL):
        data = data.map(
            lambda record: {
                **record,
                form.image_key: _stored(record[form.image_key], form),
            },
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    none = np.empty((0, *form.shape), np.uint8)
    if computed:
        # Records with lists of several lengths cannot be batched.
        for record in tfds.as_numpy(data.prefetch(tf.data.AUTOTUNE)):
            images = record[form.image_key][None] if with_images else none
            yield images, np.array([computed.function(record)])
    else:
        data = data.batch(_READ_BATCH).prefetch(1)
        for batch in tfds.as_numpy(data):
            images = batch[form.image_key] if with_images else none
            yield images, batch[form.label]


def _stored(image: tf.Tensor, form: Form) -> tf.Tensor:
    """Returns `[*form.shape] uint8`."""
    pixels = tf.cast(image, tf.float32) * (FULL_PIXEL / form.pixel_max)
    if form.resized:
        # Averages over all pixels that become one: no aliasing.
        pixels = tf.image.resize(pixels, form.shape[:2], antialias=True)
    pixels = tf.clip_by_value(tf.round(pixels), 0.0, FULL_PIXEL)
    return tf.ensure_shape(tf.cast(pixels, tf.uint8), form.shape)
