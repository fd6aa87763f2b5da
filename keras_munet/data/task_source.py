"""Describes a family of tasks: their names, and how their data are loaded.

A task source is one file with a `TaskSource` and one line in `data.tasks`, or
an entry point of group `keras_munet.tasks` in another distribution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping
from typing import NamedTuple

from keras_munet.core import fingerprint
from keras_munet.core import printable
from keras_munet.core import target_types
from keras_munet.data import image_storage
from keras_munet.data import types


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Says where data lie and how they are prepared.

    Attributes:
      data_dir: prepared data; empty for the default of TensorFlow Datasets
        (TFDS). Several folders may be named with a comma between: all are
        read, the first is written to.
      manual_dir: source files as `<dataset>[/<config>]/<file>`, used to
        prepare what `data_dir` lacks.
      download: whether TFDS may fetch what is in neither. Nothing is ever
        fetched without it.
      image_size: the largest side of a model's input, pixels. Images of many
        sizes are stored large enough for it, see `image_storage.stored`.
      checks_size: whether images that were prepared for another
        `image_size` are refused.
      name: of the task that own images make; empty for one from their path.
      side: own images are stored as squares of so many pixels; 0 for a size
        that follows from the images.
      replace: whether own images are prepared anew in the place of earlier
        ones.
      progress: whether progress bars are shown.

    Example:
      >>> DataOptions(data_dir="prepared", image_size=80).download
      False
    """

    data_dir: str = ""
    manual_dir: str = ""
    download: bool = False
    image_size: int = image_storage.IMAGE_SIZE
    checks_size: bool = False
    name: str = ""
    side: int = 0
    replace: bool = False
    progress: bool = False


class ListedTask(NamedTuple):
    """One line of a list of tasks.

    Attributes:
      name: of the task.
      group: the benchmark or the kind of task.
      note: more about it, for a person.
    """

    name: str
    group: str
    note: str


class Description(NamedTuple):
    """A task as a person reads it.

    Attributes:
      rows: (label, text) pairs.
      stored_shape: height, width and channels of a stored image; None where
        its data cannot be used.
    """

    rows: list[tuple[str, str]]
    stored_shape: tuple[int, ...] | None


class TaskSource:
    """One family of tasks, e.g. `glyphs/NAME`.

    Attributes:
      families: first parts of the names that are this source's alone.

    Example:
      >>> class Stripes(TaskSource):
      ...     families = frozenset({"stripes"})
      ...
      ...     def load_data(self, name, options):
      ...         images = np.zeros([4, 8, 8, 1], np.uint8)
      ...         images[::2] = 255
      ...         split = types.Split(images, np.array([1, 0, 1, 0], np.int32))
      ...         classes = ("dark", "light")
      ...         return types.TaskData(name, 2, classes, split, split, split)
      >>> Stripes().matches("stripes/wide")
      True
      >>> Stripes().describe("stripes/wide", DataOptions()).stored_shape
      (8, 8, 1)
    """

    families: frozenset[str] = frozenset()

    def matches(self, name: str) -> bool:
        """Returns whether a bare task name is one of this source's."""
        return name_family(name) in self.families

    def has_task(self, name: str, data_dir: str) -> bool:
        """Returns whether there is a task of a name that `matches`.

        Where only loading can tell, the answer is True.

        Args:
          name: bare, without `private:`.
          data_dir: see `DataOptions`.
        """
        del name, data_dir
        return True

    def list_tasks(self, data_dir: str) -> list[ListedTask]:
        """Returns the tasks of this source, without opening their data.

        Args:
          data_dir: see `DataOptions`.
        """
        del data_dir
        return []

    def similar_names(self, data_dir: str) -> list[str]:
        """Returns the names that an unknown one is compared with.

        Args:
          data_dir: see `DataOptions`.
        """
        return [task.name for task in self.list_tasks(data_dir)]

    def load_data(self, name: str, options: DataOptions) -> types.TaskData:
        """Returns the data of a task.

        Args:
          name: bare, without `private:`.
          options: where they lie.

        Raises:
          UsageError: there is no such task.
          DataError: its data are missing, damaged or not prepared.
        """
        raise NotImplementedError

    def describe(self, name: str, options: DataOptions) -> Description:
        """Returns what a person wants to know of a task.

        Args:
          name: bare, without `private:`.
          options: where its data lie.

        Raises:
          UsageError: there is no such task.
          DataError: its data are missing, damaged or not prepared.
        """
        data = self.load_data(name, options)
        stored_shape = tuple(data.train.images.shape[1:])
        class_names = ", ".join(map(printable.printable, data.class_names))
        return Description(
            [
                ("task", data.name),
                *(
                    (split, f"{len(getattr(data, split).labels):,} examples")
                    for split in types.SPLIT_NAMES
                ),
                ("classes", f"{data.num_classes:,}: {class_names}"),
                *_label_rows(data),
                ("stored as", " x ".join(map(str, stored_shape))),
                *(("notice", printable.printable(n)) for n in data.notices),
            ],
            stored_shape,
        )

    def prepare(self, name: str, options: DataOptions) -> list[str]:
        """Makes a task ready to be read; what is ready stays as it is.

        Args:
          name: bare, without `private:`.
          options: where its data lie and how they are prepared.

        Returns:
          What happened, one line each, for a person.

        Raises:
          UsageError: there is no such task.
          DataError: its data are missing, damaged, or of a kind that no
            image classifier can use.
        """
        del options
        return [f"{name}: comes with the install"]

    def prepared_fingerprint(
        self, name: str, data_dir: str
    ) -> tuple[tuple[str, ...], fingerprint.DataFingerprint] | None:
        """Returns class names and fingerprint of prepared data, if recorded.

        No image is read.

        Args:
          name: bare, without `private:`.
          data_dir: see `DataOptions`.

        Raises:
          DataError: the files of the task are damaged.
        """
        del name, data_dir
        return None


class EmbeddedTasks(TaskSource):
    """Tasks whose data come with the install."""

    def __init__(self, loaders: Mapping[str, Callable[[], types.TaskData]]):
        """Keeps the function that loads each task, by its name."""
        self.loaders = loaders
        self.families = frozenset(map(name_family, loaders))

    def has_task(self, name: str, data_dir: str) -> bool:
        """Returns whether a task has a loader."""
        del data_dir
        return name in self.loaders

    def list_tasks(self, data_dir: str) -> list[ListedTask]:
        """Returns the tasks, sorted by name."""
        del data_dir
        note = "comes with the install"
        return [ListedTask(n, "embedded", note) for n in sorted(self.loaders)]

    def load_data(self, name: str, options: DataOptions) -> types.TaskData:
        """Returns the data of a task."""
        del options
        return types.checked(self.loaders[name]())


def _label_rows(data: types.TaskData) -> list[tuple[str, str]]:
    """Returns a row on labels, where an image may have any number of them."""
    if data.target is target_types.SINGLE_LABEL:
        return []
    mean = data.class_counts.sum() / len(data.train)
    return [("labels", f"any number an image, {mean:.2f} on average")]


def name_family(name: str) -> str:
    """Returns the first part of a bare task name."""
    return name.partition("/")[0]
