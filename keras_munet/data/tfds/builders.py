"""Finds data sets of TensorFlow Datasets (TFDS) in the folders of a machine.

Invariant: a data set that is prepared in any of the folders is used as it is,
without a write and without the network; only the first folder is written to.
"""

from __future__ import annotations

import difflib

import tensorflow_datasets as tfds
from etils import epath

from keras_munet import errors
from keras_munet.core import commands
from keras_munet.core import plain_paths
from keras_munet.data import folders
from keras_munet.data.tfds import catalogue_sources as sources
from keras_munet.data.tfds import guard
from keras_munet.data.tfds import offline


def data_set_names() -> list[str]:
    """Returns the data sets that TFDS has code for."""
    return tfds.list_builders(with_community_datasets=False)


def exists(task_name: str, data_dir: str) -> bool:
    """Returns whether TFDS has code or prepared files of a task's data set."""
    data_set = task_name.partition("/")[0]
    if data_set in data_set_names():
        return True
    return any(
        (epath.Path(d) / data_set).is_dir() for d in folders.folders(data_dir)
    )


def find(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    """Returns the builder that is prepared, or else the first folder's.

    Args:
      name: `DATASET[/CONFIG]`, of which `exists` is true.
      data_dir: folders with a comma between.

    Raises:
      UsageError: the data set has no such config, or needs one.
      DataError: what is there cannot be opened.
    """
    named = folders.folders(data_dir)
    data_set = name.partition("/")[0]
    if data_set not in data_set_names():
        # Without code it can be opened only where its files are.
        named = [f for f in named if (epath.Path(f) / data_set).is_dir()]
    builders = [open_in(name, f) for f in named]
    for builder in builders:
        if builder.is_prepared():
            return builder
    return builders[0]


def open_in(name: str, folder: str) -> tfds.core.DatasetBuilder:
    """Returns the builder of a data set in one folder, prepared or not.

    A published data set is opened in the version that the catalogue states.

    Raises:
      UsageError: the data set has no such config, or needs one.
      DataError: what is there cannot be opened.
    """
    data_set, _, config = name.partition("/")
    configs: list[str] = []
    if data_set in data_set_names():
        configs = list(tfds.builder_cls(data_set).builder_configs)
    if configs and config not in configs and (config or len(configs) > 1):
        close = difflib.get_close_matches(config, configs, n=5)
        suggestions = ", ".join(
            f"{data_set}/{c}" for c in close or configs[:20]
        )
        raise errors.UsageError(
            f"{name!r} names none of the {len(configs)} configs of data set "
            f"{data_set!r}; name one, such as {suggestions}"
        )
    if config and not configs and data_set in data_set_names():
        raise errors.UsageError(
            f"data set {data_set!r} has no configs, but {config!r} was "
            f"named; write {data_set!r}"
        )
    source = sources.SOURCES.get(name)
    full_name = f"{name}:{source.version}" if source else name
    if not folders.is_remote(folder):
        guard.refuse_odd_files(epath.Path(folder) / data_set)
    try:
        with guard.no_imports():
            return tfds.builder(
                full_name, data_dir=plain_paths.without_patterns(folder)
            )
    except errors.UsageError:
        raise
    except Exception as e:
        text = " ".join(str(e).split())[:200]
        raise errors.DataError(
            f"TFDS cannot open data set {full_name!r} in {folder}: "
            f"{type(e).__name__}: {text}; prepare it again"
        ) from e


def make_ready(
    name: str, arguments: str, data_dir: str, manual_dir: str, download: bool
) -> bool:
    """Prepares a data set that no folder has; returns whether it had to.

    Args:
      name: `DATASET[/CONFIG]`.
      arguments: what to tell the user to prepare: a task, and flags.
      data_dir: folders with a comma between.
      manual_dir: source files; may be empty.
      download: whether files may be fetched.

    Raises:
      DataError: it is not ready, and cannot be prepared.
    """
    builder = find(name, data_dir)
    if builder.is_prepared():
        return False
    if not manual_dir and not download:
        raise errors.DataError(_not_prepared(builder, arguments, data_dir))
    offline.prepare_data_set(builder, manual_dir, download)
    return True


def _not_prepared(builder, arguments: str, data_dir: str) -> str:
    layout = offline.layout(builder)
    named = folders.folders(data_dir)
    return (
        f"data set {layout!r} is not prepared in "
        f"{folders.SEPARATOR.join(named)}; run {commands.command('tasks')} "
        f"prepare {arguments} --data_dir={named[0]} with --manual_dir=FOLDER "
        f"(source files in FOLDER/{layout}/<file>) or with --download, or "
        "name the folder of prepared TFDS data by --data_dir, in commands with "
        "--config by --config.data.data_dir"
    )
