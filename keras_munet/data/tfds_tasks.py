"""Tasks of TensorFlow Datasets (TFDS), read whole into memory.

Invariant: nothing is fetched over a network unless the caller said so; data
that are prepared are read as they are, never prepared again.
"""

from __future__ import annotations

import difflib
import math

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from keras_munet import errors
from keras_munet.data import catalogue
from keras_munet.data import records
from keras_munet.data import tfds_offline

# Bound on a task's decoded pixels, all splits together.
NUM_BYTES_MAX = 2 * 2**30
_LABEL = "label"
_IMAGE = "image"
_READ_BATCH = 256


def data_set_names() -> list[str]:
    """Returns the data sets that TFDS has code for."""
    return tfds.list_builders(with_community_datasets=False)


def exists(task_name: str, data_dir: str) -> bool:
    """Whether TFDS has code for a task's data set, or its prepared files."""
    data_set = task_name.partition("/")[0]
    if data_set in data_set_names():
        return True
    root = epath.Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    return (root / data_set).is_dir()


def load(
    task_name: str,
    *,
    data_dir: str = "",
    manual_dir: str = "",
    download: bool = False,
) -> records.TaskData:
    """Returns the data of one task.

    Args:
      task_name: `DATASET[/CONFIG]`, bare.
      data_dir: prepared data; empty for TFDS's own default.
      manual_dir: source files as `<dataset>[/<config>]/<file>`.
      download: whether TFDS may fetch what is in neither.

    Raises:
      UsageError: the data set has no such config, or needs one.
      DataError: the data are missing, damaged, or not images of one shape
        with one class each, or more than `NUM_BYTES_MAX` bytes.
    """
    with tfds_offline.quiet():
        places = (data_dir, manual_dir, download)
        own = _prepared(task_name, *places)
        plan = catalogue.plan(task_name, list(own.info.splits))
        builders = {
            "train": own,
            "validation": _prepared_or(plan.validation_source, own, *places),
            "test": _prepared_or(plan.test_source, own, *places),
        }
        sources = [
            (name, builder, getattr(plan, name))
            for name, builder in builders.items()
        ]
        _refuse_large(task_name, sources)
        splits = {
            name: _read(task_name, builder, instruction)
            for name, builder, instruction in sources
        }
        feature = own.info.features[_LABEL]
        return records.TaskData(
            name=task_name,
            num_classes=feature.num_classes,
            class_names=tuple(feature.names),
            **splits,
        )


def _prepared_or(name, own, data_dir, manual_dir, download):
    return _prepared(name, data_dir, manual_dir, download) if name else own


def _prepared(
    name: str, data_dir: str, manual_dir: str, download: bool
) -> tfds.core.DatasetBuilder:
    """Returns a builder whose data are on disk and fit for a classifier."""
    builder = _builder(name, data_dir)
    # Before any work on its files.
    image_key(name, builder.info.features)
    if builder.is_prepared():
        return builder
    if not manual_dir and not download:
        config = builder.builder_config
        layout = f"{builder.name}/{config.name}" if config else builder.name
        raise errors.DataError(
            f"data set {name!r} is not prepared in {builder.data_dir_root}; "
            "pass --config.data.manual_dir=FOLDER with its source files in "
            f"FOLDER/{layout}/<file>, or --config.data.data_dir=FOLDER with "
            "prepared TFDS data"
        )
    tfds_offline.prepare(builder, manual_dir, download)
    # A builder reads what is prepared when it is made.
    return _builder(name, data_dir)


def _builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    data_set, _, config = name.partition("/")
    configs: list[str] = []
    if data_set in data_set_names():
        configs = list(tfds.builder_cls(data_set).builder_configs)
    if configs and config not in configs and (config or len(configs) > 1):
        close = difflib.get_close_matches(config, configs, n=5)
        shown = ", ".join(f"{data_set}/{c}" for c in close or configs[:20])
        raise errors.UsageError(
            f"{name!r} names none of the {len(configs)} configs of data set "
            f"{data_set!r}; name one, such as {shown}"
        )
    if config and not configs and data_set in data_set_names():
        raise errors.UsageError(
            f"data set {data_set!r} has no configs, but {config!r} was "
            f"named; write {data_set!r}"
        )
    try:
        return tfds.builder(name, data_dir=data_dir or None)
    except Exception as e:
        text = " ".join(str(e).split())[:200]
        raise errors.DataError(
            f"TFDS cannot open data set {name!r} in "
            f"{data_dir or tfds.core.constants.DATA_DIR}: "
            f"{type(e).__name__}: {text}; prepare it again"
        ) from e


def image_key(name: str, features) -> str:
    """Returns the feature that holds the images of a data set.

    Raises:
      DataError: its features are not images of one shape and one label.
    """
    named = isinstance(features, tfds.features.FeaturesDict)
    features = dict(features.items()) if named else {}
    shown = ", ".join(f"{k} ({type(v).__name__})" for k, v in features.items())
    label = features.get(_LABEL)
    if not (isinstance(label, tfds.features.ClassLabel) and label.num_classes):
        raise errors.DataError(
            f"data set {name!r} has no class labels: its features are "
            f"{shown or 'none'}; choose one with a ClassLabel named {_LABEL!r}"
        )
    images = [k for k, v in features.items() if type(v) is tfds.features.Image]
    if _IMAGE not in images and len(images) != 1:
        raise errors.DataError(
            f"data set {name!r} has {len(images)} image features: its "
            f"features are {shown}; choose one with a single Image"
        )
    key = _IMAGE if _IMAGE in images else images[0]
    shape, dtype = features[key].shape, np.dtype(features[key].np_dtype)
    if None in shape or shape[-1] not in records.CHANNELS or dtype != np.uint8:
        raise errors.DataError(
            f"data set {name!r} has {dtype} images of shape {shape}; only "
            "uint8 images of one fixed shape with 1 or 3 channels are read, "
            "as in mnist, cifar10 or cmaterdb/bangla"
        )
    return key


def _refuse_large(task_name: str, sources) -> None:
    num_bytes = 0
    for name, builder, instruction in sources:
        try:
            num_examples = builder.info.splits[instruction].num_examples
        except (KeyError, ValueError):
            raise errors.DataError(
                f"task {task_name!r} takes its {name} split from "
                f"{instruction!r} of {builder.info.full_name}, which has "
                f"{', '.join(sorted(builder.info.splits))}; prepare it again"
            ) from None
        key = image_key(task_name, builder.info.features)
        num_bytes += num_examples * math.prod(builder.info.features[key].shape)
    if num_bytes > NUM_BYTES_MAX:
        raise errors.DataError(
            f"task {task_name!r} has {num_bytes / 2**30:.1f} GiB of decoded "
            f"images; at most {NUM_BYTES_MAX / 2**30:.1f} GiB are held in "
            "memory, choose a smaller data set or config"
        )


def _read(task_name: str, builder, instruction: str) -> records.Split:
    """Returns one split, decoded, in the order in which it is stored."""
    key = image_key(task_name, builder.info.features)
    num_examples = builder.info.splits[instruction].num_examples
    shape = builder.info.features[key].shape
    images = np.empty((num_examples, *shape), np.uint8)
    labels = np.empty(num_examples, np.int32)
    end = 0
    try:
        batches = builder.as_dataset(
            split=instruction,
            batch_size=_READ_BATCH,
            shuffle_files=False,
            decoders=tfds.decode.PartialDecoding({key: True, _LABEL: True}),
            read_config=tfds.ReadConfig(try_autocache=False),
        )
        for batch in tfds.as_numpy(batches):
            start, end = end, end + len(batch[_LABEL])
            images[start:end] = batch[key]
            labels[start:end] = batch[_LABEL]
    except Exception as e:
        text = " ".join(str(e).split())[:200]
        raise errors.DataError(
            f"cannot read {instruction!r} of {builder.data_dir}: "
            f"{type(e).__name__}: {text}; delete that folder and prepare it "
            "again"
        ) from e
    if end != num_examples:
        raise errors.DataError(
            f"{instruction!r} of {builder.data_dir} holds {end} examples "
            f"where its index says {num_examples}; delete that folder and "
            "prepare it again"
        )
    return records.Split(images, labels)
