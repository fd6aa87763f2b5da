"""Tasks of TensorFlow Datasets (TFDS), read whole into memory.

Invariant: nothing is fetched over a network unless the caller said so; data
that are prepared are read as they are, never prepared again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import tensorflow_datasets as tfds

from keras_munet import errors
from keras_munet.data import catalogue
from keras_munet.data import catalogue_sources as sources
from keras_munet.data import records
from keras_munet.data import storage
from keras_munet.data import tfds_builders
from keras_munet.data import tfds_offline
from keras_munet.data import tfds_reading


@dataclasses.dataclass(frozen=True)
class Description:
    """What a task is, before its pixels are read.

    Attributes:
      name: of the task.
      sources: the data sets it reads, `DATASET[/CONFIG]:VERSION`; the first
        trains it.
      prepared: which of these are on disk.
      instructions: of TFDS, by split name.
      num_examples: by split name; empty where nothing states it.
      form: how its records become images; None where they cannot.
      problem: why they cannot; empty where they can.
    """

    name: str
    sources: tuple[str, ...]
    prepared: tuple[bool, ...]
    instructions: Mapping[str, str]
    num_examples: Mapping[str, int]
    form: tfds_reading.Form | None
    problem: str = ""


def load(
    task_name: str,
    *,
    data_dir: str = "",
    manual_dir: str = "",
    download: bool = False,
) -> records.TaskData:
    """Returns the data of one task.

    Args:
      task_name: a published task, or `DATASET[/CONFIG]`, bare.
      data_dir: prepared data; empty for TFDS's own default. Of several
        folders with a comma between, each is looked in, and the first is
        where what none of them has is prepared.
      manual_dir: source files as `<dataset>[/<config>]/<file>`.
      download: whether TFDS may fetch what is in neither.

    Raises:
      UsageError: the data set has no such config, or needs one.
      DataError: the data are missing, damaged, or no images with one class
        each, or more than memory may hold.
    """
    with tfds_offline.quiet():
        # Before any work on its files: what cannot be read is not prepared.
        _form_or_refuse(task_name, _builders(task_name, data_dir))
        _prepare(task_name, data_dir, manual_dir, download)
        builders = _builders(task_name, data_dir)
        plan = _plan(task_name, builders)
        form = _form_or_refuse(task_name, builders)
        counts = _num_examples(task_name, builders) or {}
        splits = {
            name: tfds_reading.read(
                builders[name], getattr(plan, name), form, counts[name]
            )
            for name in records.SPLIT_NAMES
        }
        return records.TaskData(
            name=task_name,
            num_classes=len(form.class_names),
            class_names=form.class_names,
            **tfds_reading.with_equal_channels(splits),
        )


def prepare(
    task_name: str,
    *,
    data_dir: str,
    manual_dir: str = "",
    download: bool = False,
    progress: bool = False,
) -> list[str]:
    """Prepares what a task reads and is not prepared yet.

    Args:
      task_name: as of `load`.
      data_dir: as of `load`.
      manual_dir: as of `load`.
      download: as of `load`.
      progress: whether TFDS shows its progress bars.

    Returns:
      The data sets that it prepared; none if all were there.

    Raises:
      UsageError: as of `load`.
      DataError: as of `load`.
    """
    with tfds_offline.quiet(progress):
        _form_or_refuse(task_name, _builders(task_name, data_dir))
        done = _prepare(task_name, data_dir, manual_dir, download)
        builders = _builders(task_name, data_dir)
        # Refuses what is too large now, not when training starts.
        _form_or_refuse(task_name, builders)
        return done


def describe(task_name: str, data_dir: str = "") -> Description:
    """Returns what is known of a task without reading its data.

    Raises:
      UsageError: as of `load`.
      DataError: its data set cannot be opened.
    """
    with tfds_offline.quiet():
        builders = _builders(task_name, data_dir)
        plan = _plan(task_name, builders)
        form, problem = None, ""
        try:
            form = _form_or_refuse(task_name, builders)
        except errors.DataError as e:
            problem = str(e)
        distinct = {b.info.full_name: b for b in builders.values()}
        return Description(
            name=task_name,
            sources=tuple(_versioned(b) for b in distinct.values()),
            prepared=tuple(b.is_prepared() for b in distinct.values()),
            instructions={n: getattr(plan, n) for n in records.SPLIT_NAMES},
            num_examples=_num_examples(task_name, builders) or {},
            form=form,
            problem=problem,
        )


def _source_names(task_name: str) -> dict[str, str]:
    """Returns the data set of each split."""
    task = catalogue.find(task_name)
    if task is None:
        return dict.fromkeys(records.SPLIT_NAMES, task_name)
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
        name: tfds_builders.find(name, data_dir)
        for name in dict.fromkeys(names.values())
    }
    return {split: opened[name] for split, name in names.items()}


def _prepare(
    task_name: str, data_dir: str, manual_dir: str, download: bool
) -> list[str]:
    """Makes all that a task reads ready; returns what was not."""
    names = dict.fromkeys(_source_names(task_name).values())
    options = (task_name, data_dir, manual_dir, download)
    return [n for n in names if tfds_builders.make_ready(n, *options)]


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
    found = {}
    for split, source_name in _source_names(task_name).items():
        builder, instruction = builders[split], getattr(plan, split)
        splits = builder.info.splits or _published_splits(source_name)
        if not splits:
            return None
        try:
            found[split] = _count(instruction, splits)
        except ValueError:
            raise errors.DataError(
                f"task {task_name!r} takes its {split} split from "
                f"{instruction!r} of {builder.info.full_name}, which has "
                f"{', '.join(sorted(splits))}; prepare it again"
            ) from None
    return found


def _published_splits(source_name: str) -> dict[str, tfds.core.SplitInfo]:
    source = sources.SOURCES.get(source_name)
    return {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[n], num_bytes=0)
        for name, n in (source.num_examples if source else {}).items()
    }


def _count(instruction: str, splits) -> int:
    """Returns the number of examples of e.g. `train[:5%]`."""
    parts = tfds.core.ReadInstruction.from_spec(instruction).to_absolute(splits)
    total = 0
    for part in parts:
        end = part.to
        if end is None:
            end = splits[part.splitname].num_examples
        total += end - (part.from_ or 0)
    return total


def _form_or_refuse(task_name: str, builders) -> tfds_reading.Form:
    task = catalogue.find(task_name)
    counts = _num_examples(task_name, builders) or {}
    source = task and sources.SOURCES[task.source]
    form = tfds_reading.form(
        task_name,
        builders["train"].info.features,
        sum(counts.values()),
        label=task.label if task else tfds_reading.LABEL,
        side_max=source.side_max if source else storage.SIDES[0],
        pixel_max=source.pixel_max if source else tfds_reading.FULL_PIXEL,
    )
    if task and len(form.class_names) != task.num_classes:
        raise errors.DataError(
            f"task {task_name!r} has {len(form.class_names)} classes in "
            f"{builders['train'].info.full_name} where {task.num_classes} "
            "were published; prepare that version again"
        )
    return form


def _versioned(builder) -> str:
    return f"{tfds_offline.layout(builder)}:{builder.version}"
