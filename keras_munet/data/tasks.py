"""Where a task's data come from: one door for every kind of task.

Invariant: what `load` returns was checked, whatever its source, and a name
means the same data on every machine. Reading the module starts no TensorFlow;
only a task of TensorFlow Datasets (TFDS) does.
"""

from __future__ import annotations

import difflib

from keras_munet import errors
from keras_munet.core import names
from keras_munet.data import digits
from keras_munet.data import glyphs
from keras_munet.data import records

# The records under the name that the rest of the library knows.
Split = records.Split
TaskData = records.TaskData


def embedded_names() -> list[str]:
    """Returns the tasks whose data need no files, sorted."""
    return sorted([digits.TASK, *glyphs.ALPHABETS])


def load(
    task_name: str,
    *,
    data_dir: str = "",
    manual_dir: str = "",
    download: bool = False,
) -> TaskData:
    """Returns the data of one task.

    Args:
      task_name: `digits`, `glyphs/NAME`, or a data set of TFDS as
        `DATASET[/CONFIG]`; `private:` may stand in front.
      data_dir: prepared TFDS data; empty for TFDS's own default.
      manual_dir: source files as `<dataset>[/<config>]/<file>`, used to
        prepare what `data_dir` lacks.
      download: whether TFDS may fetch what is in neither. Nothing is ever
        fetched without it.

    Raises:
      UsageError: there is no such task.
      DataError: its data are missing, damaged or of a kind that no image
        classifier can use.
    """
    name, _ = names.split_private(task_name)
    if name == digits.TASK:
        return records.checked(digits.load())
    if name in glyphs.ALPHABETS:
        return records.checked(glyphs.load(name))
    if name.partition("/")[0] in _embedded_families():
        raise errors.UsageError(_unknown(name, []))

    # TFDS takes a second to import; embedded tasks do not need it.
    from keras_munet.data import tfds_tasks

    if not tfds_tasks.exists(name, data_dir):
        raise errors.UsageError(_unknown(name, tfds_tasks.data_set_names()))
    return records.checked(
        tfds_tasks.load(
            name, data_dir=data_dir, manual_dir=manual_dir, download=download
        )
    )


def _embedded_families() -> set[str]:
    return {name.partition("/")[0] for name in embedded_names()}


def _unknown(name: str, others: list[str]) -> str:
    embedded = embedded_names()
    close = difflib.get_close_matches(name, [*embedded, *others], n=5)
    hint = f"; did you mean {' or '.join(close)}?" if close else ";"
    return (
        f"there is no task {name!r}{hint} embedded tasks: "
        f"{', '.join(embedded)}; any other is an image-classification data "
        "set of TFDS, as DATASET or DATASET/CONFIG"
    )
