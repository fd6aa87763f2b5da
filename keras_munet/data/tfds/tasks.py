"""Tasks of TensorFlow Datasets (TFDS), in memory or as views of array files.

Invariant: nothing is fetched over a network unless the caller said so; data
that are prepared are read as they are, never prepared again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import tensorflow_datasets as tfds

from keras_munet import errors
from keras_munet.core import commands
from keras_munet.data import folders as folders_lib
from keras_munet.data import image_storage
from keras_munet.data import types
from keras_munet.data.tfds import arrays
from keras_munet.data.tfds import builders as builders_lib
from keras_munet.data.tfds import catalogue
from keras_munet.data.tfds import catalogue_sources as sources
from keras_munet.data.tfds import offline
from keras_munet.data.tfds import reading


@dataclasses.dataclass(frozen=True)
class Description:
    """The description of a task, before its pixels are read.

    Attributes:
      name: of the task.
      sources: the data sets it reads, `DATASET[/CONFIG]:VERSION`; the first
        trains it.
      prepared: which of these are on disk.
      instructions: of TFDS, by split name.
      num_examples: by split name; empty where nothing states it.
      form: how its records become images; None where they cannot.
      problem: why they cannot; empty where they can.
      num_array_bytes: of its array files; 0 where it needs none.
      arrays_prepared: whether these are there.
    """

    name: str
    sources: tuple[str, ...]
    prepared: tuple[bool, ...]
    instructions: Mapping[str, str]
    num_examples: Mapping[str, int]
    form: reading.Form | None
    problem: str = ""
    num_array_bytes: int = 0
    arrays_prepared: bool = False


def load_task(
    task_name: str,
    *,
    data_dir: str = "",
    manual_dir: str = "",
    download: bool = False,
    image_size: int = image_storage.IMAGE_SIZE,
) -> types.TaskData:
    """Returns the data of one task.

    Args:
      task_name: a published task, or `DATASET[/CONFIG]`, bare.
      data_dir: prepared data; empty for TFDS's own default. Of several
        folders with a comma between, each is looked in, and the first is
        where what none of them has is prepared.
      manual_dir: source files as `<dataset>[/<config>]/<file>`.
      download: whether TFDS may fetch what is in neither.
      image_size: the largest side of a model's input, pixels; what images
        are stored for, see `image_storage.stored`.

    Raises:
      UsageError: the data set has no such config, or needs one.
      DataError: the data are missing, damaged, or no images with one class
        each; or they are more than memory may hold, and their array files
        are not prepared.
    """
    with offline.quiet():
        # Before any work on its files: what cannot be read is not prepared.
        _form_or_refuse(task_name, _builders(task_name, data_dir), image_size)
        _prepare(task_name, data_dir, manual_dir, download, image_size)
        builders = _builders(task_name, data_dir)
        form = _form_or_refuse(task_name, builders, image_size)
        if form.resident:
            splits = _read(task_name, builders, form)
        else:
            splits = _mapped(task_name, builders, form, data_dir, image_size)
        return types.TaskData(
            name=task_name,
            num_classes=len(form.class_names),
            class_names=form.class_names,
            notices=(),
            **splits,
        )


def prepare_task(
    task_name: str,
    *,
    data_dir: str,
    manual_dir: str = "",
    download: bool = False,
    progress: bool = False,
    image_size: int = image_storage.IMAGE_SIZE,
) -> list[str]:
    """Prepares what a task reads and is not prepared yet.

    Args:
      task_name: as of `load_task`.
      data_dir: as of `load_task`.
      manual_dir: as of `load_task`.
      download: as of `load_task`.
      progress: whether progress bars are shown.
      image_size: as of `load_task`.

    Returns:
      The data sets and array files that it prepared; none if all were there.

    Raises:
      UsageError: as of `load_task`.
      DataError: as of `load_task`.
    """
    with offline.quiet(progress):
        _form_or_refuse(task_name, _builders(task_name, data_dir), image_size)
        prepared = _prepare(
            task_name, data_dir, manual_dir, download, image_size
        )
        builders = _builders(task_name, data_dir)
        # Refuses what is no task now, not when training starts.
        form = _form_or_refuse(task_name, builders, image_size)
        if not form.resident:
            parts = _parts(task_name, builders, form)
            prepared += arrays.prepare_parts(parts, data_dir, progress)
        return prepared


def describe(
    task_name: str,
    data_dir: str = "",
    image_size: int = image_storage.IMAGE_SIZE,
) -> Description:
    """Returns what is known of a task without reading its data.

    Raises:
      UsageError: as of `load_task`.
      DataError: its data set cannot be opened.
    """
    with offline.quiet():
        builders = _builders(task_name, data_dir)
        plan = _plan(task_name, builders)
        form, problem = None, ""
        num_bytes, arrays_prepared = 0, False
        try:
            form = _form_or_refuse(task_name, builders, image_size)
        except errors.DataError as e:
            problem = str(e)
        if form and not form.resident:
            parts = _parts(task_name, builders, form)
            num_bytes = arrays.num_bytes(parts)
            arrays_prepared = all(
                arrays.load_parts(part, data_dir) for part in parts.values()
            )
        distinct = {b.info.full_name: b for b in builders.values()}
        return Description(
            name=task_name,
            sources=tuple(_versioned(b) for b in distinct.values()),
            prepared=tuple(b.is_prepared() for b in distinct.values()),
            instructions={n: getattr(plan, n) for n in types.SPLIT_NAMES},
            num_examples=_num_examples(task_name, builders) or {},
            form=form,
            problem=problem,
            num_array_bytes=num_bytes,
            arrays_prepared=arrays_prepared,
        )


def _read(
    task_name: str, builders, form: reading.Form
) -> dict[str, types.Split]:
    """Returns the splits in memory."""
    plan = _plan(task_name, builders)
    counts = _num_examples(task_name, builders) or {}
    splits = {
        name: reading.read_examples(
            builders[name], getattr(plan, name), form, counts[name]
        )
        for name in types.SPLIT_NAMES
    }
    return reading.with_equal_channels(splits)


def _mapped(
    task_name: str,
    builders,
    form: reading.Form,
    data_dir: str,
    image_size: int,
) -> dict[str, types.Split]:
    """Returns the splits as views of their array files.

    Raises:
      DataError: these are missing or damaged.
    """
    parts = _parts(task_name, builders, form)
    folders = folders_lib.SEPARATOR.join(folders_lib.folders(data_dir))
    splits = {}
    for name, part in parts.items():
        split = arrays.load_parts(part, data_dir)
        if split is None:
            height, width, _ = form.shape
            raise errors.DataError(
                f"task {task_name!r} takes "
                f"{arrays.num_bytes(parts) / 2**30:.1f} GiB at {height} "
                f"x {width} pixels, more than memory may hold, and its array "
                f"files are not prepared in {folders}; run "
                f"{commands.command('tasks')} prepare {task_name} "
                f"--image_size={image_size} --data_dir={folders}"
            )
        splits[name] = split
    return splits


def _parts(
    task_name: str, builders, form: reading.Form
) -> dict[str, arrays.Part]:
    """Returns which examples of which data set each split is."""
    plan = _plan(task_name, builders)
    parts = {}
    for name, source_name in _source_names(task_name).items():
        builder = builders[name]
        splits = builder.info.splits or _published_splits(source_name)
        (row_range,) = _ranges(getattr(plan, name), splits)
        parts[name] = arrays.Part(builder, *row_range, form)
    return parts


def _source_names(task_name: str) -> dict[str, str]:
    """Returns the data set of each split."""
    task = catalogue.find(task_name)
    if task is None:
        return dict.fromkeys(types.SPLIT_NAMES, task_name)
    return {
        "train": task.source,
        "validation": task.plan.validation_source or task.source,
        "test": task.plan.test_source or task.source,
    }


def _builders(
    task_name: str, data_dir: str
) -> dict[str, tfds.core.DatasetBuilder]:
    """Returns the builder of each split."""
    names = _source_names(task_name)
    opened = {
        name: builders_lib.find(name, data_dir)
        for name in dict.fromkeys(names.values())
    }
    return {split: opened[name] for split, name in names.items()}


def _prepare(
    task_name: str,
    data_dir: str,
    manual_dir: str,
    download: bool,
    image_size: int,
) -> list[str]:
    """Makes all that a task reads ready; returns what was not."""
    names = dict.fromkeys(_source_names(task_name).values())
    arguments = task_name
    if image_size != image_storage.IMAGE_SIZE:
        arguments += f" --image_size={image_size}"
    options = (arguments, data_dir, manual_dir, download)
    return [n for n in names if builders_lib.make_ready(n, *options)]


def _plan(task_name: str, builders) -> catalogue.Plan:
    task = catalogue.find(task_name)
    if task:
        return task.plan
    # Nothing but its files tells the splits of other data sets.
    available = list(builders["train"].info.splits) or ["train"]
    return catalogue.plan(task_name, available)


def _num_examples(task_name: str, builders) -> dict[str, int] | None:
    """Returns the examples of each split; None where nothing states them.

    Raises:
      DataError: a data set has no such split.
    """
    plan = _plan(task_name, builders)
    counts = {}
    for split, source_name in _source_names(task_name).items():
        builder, instruction = builders[split], getattr(plan, split)
        splits = builder.info.splits or _published_splits(source_name)
        if not splits:
            return None
        try:
            counts[split] = _count(instruction, splits)
        except ValueError:
            raise errors.DataError(
                f"task {task_name!r} takes its {split} split from "
                f"{instruction!r} of {builder.info.full_name}, which has "
                f"{', '.join(sorted(splits))}; prepare it again"
            ) from None
    return counts


def _published_splits(source_name: str) -> dict[str, tfds.core.SplitInfo]:
    source = sources.SOURCES.get(source_name)
    return {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[n], num_bytes=0)
        for name, n in (source.num_examples if source else {}).items()
    }


def _count(instruction: str, splits) -> int:
    """Returns the number of examples of e.g. `train[:5%]`."""
    return sum(end - start for _, start, end in _ranges(instruction, splits))


def _ranges(instruction: str, splits) -> list[tuple[str, int, int]]:
    """Returns (split, first, one after the last) of e.g. `train[:5%]`."""
    parts = tfds.core.ReadInstruction.from_spec(instruction).to_absolute(splits)
    row_ranges = []
    for part in parts:
        end = part.to
        if end is None:
            end = splits[part.splitname].num_examples
        row_ranges.append((part.splitname, part.from_ or 0, end))
    return row_ranges


def _form_or_refuse(task_name: str, builders, image_size: int) -> reading.Form:
    task = catalogue.find(task_name)
    counts = _num_examples(task_name, builders) or {}
    source = task and sources.SOURCES[task.source]
    form = reading.form(
        task_name,
        builders["train"].info.features,
        sum(counts.values()),
        label=task.label if task else reading.LABEL,
        side_max=source.side_max if source else image_storage.SIDE_MAX,
        pixel_max=source.pixel_max if source else reading.FULL_PIXEL,
        image_size=image_size,
    )
    if task and len(form.class_names) != task.num_classes:
        raise errors.DataError(
            f"task {task_name!r} has {len(form.class_names)} classes in "
            f"{builders['train'].info.full_name} where {task.num_classes} "
            "were published; prepare that version again"
        )
    return form


def _versioned(builder) -> str:
    return f"{offline.layout(builder)}:{builder.version}"
