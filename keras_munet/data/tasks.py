"""Loads and prepares the data of every kind of task.

Invariant: what `load` returns was checked, from any source, and a name
means the same data on every machine. Reading the module starts no TensorFlow;
only a task of TensorFlow Datasets (TFDS) does.
"""

from __future__ import annotations

import difflib
import warnings
from typing import TYPE_CHECKING

from keras_munet import errors
from keras_munet.core import commands
from keras_munet.core import fingerprint
from keras_munet.core import names
from keras_munet.data import folders
from keras_munet.data import image_storage
from keras_munet.data import plugin_tasks
from keras_munet.data import types
from keras_munet.data.builtin import digits
from keras_munet.data.builtin import glyphs
from keras_munet.data.own import sources as own_sources
from keras_munet.data.own import store as own_store
from keras_munet.data.tfds import catalogue

if TYPE_CHECKING:
    from keras_munet.data.tfds import tasks as tfds_tasks

# The records under the name that the rest of the library knows.
Split = types.Split
TaskData = types.TaskData


def embedded_names() -> list[str]:
    """Returns the tasks whose data need no files, sorted."""
    return sorted([digits.TASK, *glyphs.ALPHABETS])


def load(
    task_name: str,
    *,
    data_dir: str = "",
    manual_dir: str = "",
    download: bool = False,
    image_size: int = image_storage.IMAGE_SIZE,
) -> TaskData:
    """Returns the data of one task.

    Args:
      task_name: `digits`, `glyphs/NAME`, a published task, another data set
        of TFDS as `DATASET[/CONFIG]`, `own/NAME`, or a plug-in's;
        `private:` may stand in front of these. Also `folder:PATH` or
        `table:PATH`, read as they are.
      data_dir: prepared data; empty for TFDS's own default. Several folders
        may be named with a comma between: all are read, the first is written
        to.
      manual_dir: source files as `<dataset>[/<config>]/<file>`, used to
        prepare what `data_dir` lacks.
      download: whether TFDS may fetch what is in neither. Nothing is ever
        fetched without it.
      image_size: the largest side of a model's input, pixels. Images of many
        sizes are stored large enough for it, see `image_storage.stored`.

    Returns:
      The data; splits that are not `resident` are views of files.

    Raises:
      UsageError: there is no such task.
      DataError: its data are missing, damaged, not prepared, or of a kind
        that no image classifier can use.
    """
    if own_sources.is_own(task_name):
        return _built(task_name)
    name, _ = names.split_private(task_name)
    if name.partition("/")[0] == own_store.FAMILY:
        return own_store.load_task(name, folders.folders(data_dir))
    if name == digits.TASK:
        return types.checked(digits.load_digits())
    if name in glyphs.ALPHABETS:
        return types.checked(glyphs.load_glyphs(name))
    if plugin_tasks.has(name):
        return plugin_tasks.load_plugin_task(name)
    task = _embedded_task(name, data_dir)

    from keras_munet.data.tfds import tasks as tfds_tasks

    return types.checked(
        tfds_tasks.load_task(
            task,
            data_dir=data_dir,
            manual_dir=manual_dir,
            download=download,
            image_size=image_size,
        )
    )


def prepared_fingerprint(
    task_name: str, *, data_dir: str = ""
) -> tuple[tuple[str, ...], fingerprint.DataFingerprint] | None:
    """Returns class names and fingerprint of own images, if they are prepared.

    No image is read. Of a task of another kind nothing is returned.

    Args:
      task_name: as of `load`.
      data_dir: as of `load`.

    Raises:
      DataError: the files of the task are damaged.
    """
    name, _ = names.split_private(task_name)
    if name.partition("/")[0] != own_store.FAMILY:
        return None
    return own_store.prepared_fingerprint(name, folders.folders(data_dir))


def check_name(task_name: str, *, data_dir: str = "") -> None:
    """Refuses a name that no task of any kind can have.

    Args:
      task_name: as of `load`, but no `folder:` or `table:`.
      data_dir: as of `load`.

    Raises:
      UsageError: there is no such task.
    """
    name, _ = names.split_private(task_name)
    own = name.partition("/")[0] == own_store.FAMILY
    ready = name in embedded_names() or plugin_tasks.has(name)
    if not own and not ready:
        _embedded_task(name, data_dir)


def describe(
    task_name: str,
    *,
    data_dir: str = "",
    image_size: int = image_storage.IMAGE_SIZE,
) -> tfds_tasks.Description:
    """Returns what is known of a task of TFDS without reading its data.

    Args:
      task_name: a published task, or `DATASET[/CONFIG]`.
      data_dir: as of `load`.
      image_size: as of `load`.

    Raises:
      UsageError: there is no such task.
      DataError: its data set cannot be opened.
    """
    from keras_munet.data.tfds import tasks as tfds_tasks

    return tfds_tasks.describe(
        _embedded_task(task_name, data_dir), data_dir, image_size
    )


def prepare(
    task_name: str,
    *,
    data_dir: str = "",
    manual_dir: str = "",
    download: bool = False,
    progress: bool = False,
    image_size: int = image_storage.IMAGE_SIZE,
) -> list[str]:
    """Makes a task of TFDS ready to be read; what is ready stays as it is.

    Args:
      task_name: a published task, or `DATASET[/CONFIG]`.
      data_dir: as of `load`.
      manual_dir: as of `load`.
      download: as of `load`.
      progress: whether progress bars are shown.
      image_size: as of `load`.

    Returns:
      The data sets and array files that were prepared; none if all were
      ready.

    Raises:
      UsageError: there is no such task.
      DataError: as of `load`.
    """
    from keras_munet.data.tfds import tasks as tfds_tasks

    return tfds_tasks.prepare_task(
        _embedded_task(task_name, data_dir),
        data_dir=data_dir,
        manual_dir=manual_dir,
        download=download,
        progress=progress,
        image_size=image_size,
    )


def _embedded_task(task_name: str, data_dir: str) -> str:
    """Returns the bare name of a task of TFDS.

    Raises:
      UsageError: there is no such task.
    """
    name, _ = names.split_private(task_name)
    family = name.partition("/")[0]
    if family in _embedded_families():
        raise errors.UsageError(_unknown(name, []))
    if catalogue.find(name):
        return name

    # TFDS takes a second to import; other tasks do not need it.
    from keras_munet.data.tfds import builders as tfds_builders

    if not tfds_builders.exists(name, data_dir):
        other_names = [*catalogue.tasks(), *tfds_builders.data_set_names()]
        raise errors.UsageError(_unknown(name, other_names, data_dir))
    return name


def _built(source: str) -> TaskData:
    """Reads a folder or table; what it skips becomes a warning."""
    # Needs Pillow, which nothing else does.
    from keras_munet.data.own import tasks as own_tasks

    data, skipped = own_tasks.build_data(source)
    if skipped:
        listed = "; ".join(f"{s.where}: {s.reason}" for s in skipped)
        warnings.warn(
            f"{source!r}: {len(skipped)} skipped: {listed}", stacklevel=3
        )
    return data


def _embedded_families() -> set[str]:
    return {name.partition("/")[0] for name in embedded_names()}


def _unknown(name: str, other_names: list[str], data_dir: str = "") -> str:
    embedded = embedded_names()
    own = {
        task
        for folder in folders.folders(data_dir)
        for task in own_store.listed(folder)
    }
    if f"{own_store.FAMILY}/{name}" in own:
        close = [f"{own_store.FAMILY}/{name}"]
    else:
        all_names = [*sorted(own), *embedded, *other_names]
        close = difflib.get_close_matches(name, all_names, n=5)
    hint = f"; did you mean {' or '.join(close)}?" if close else ";"
    return (
        f"there is no task {name!r}{hint} embedded tasks: "
        f"{', '.join(embedded)}; {commands.command('tasks')} list names the "
        "published ones; any other is an image-classification data set of "
        "TFDS, as DATASET or DATASET/CONFIG"
    )
