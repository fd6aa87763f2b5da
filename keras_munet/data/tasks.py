"""Loads and prepares the data of every kind of task.

Invariant: what `load` returns was checked, from any source, and a name
means the same data on every machine. Reading the module starts no TensorFlow;
only a task of TensorFlow Datasets (TFDS) does. A built-in name is found
without looking at plug-ins.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from keras_munet import errors
from keras_munet.core import commands
from keras_munet.core import fingerprint
from keras_munet.core import names
from keras_munet.core import plugins
from keras_munet.core import registry
from keras_munet.data import image_storage
from keras_munet.data import task_source
from keras_munet.data import types
from keras_munet.data.tfds import tfds_source

# The records under the name that the rest of the library knows.
Split = types.Split
TaskData = types.TaskData
DataOptions = task_source.DataOptions

# In the order in which they are listed; a name is the first one's that matches.
_BUILTIN = {
    "digits": "keras_munet.data.builtin.digits:SOURCE",
    "glyphs": "keras_munet.data.builtin.glyphs:SOURCE",
    "own": "keras_munet.data.own.own_source:PREPARED",
    "images": "keras_munet.data.own.own_source:BY_PATH",
}
_LAST = "tfds"
SOURCES = registry.Registry(
    "task family",
    "keras_munet.tasks",
    reserved=tfds_source.SOURCE.families,
    builtin={**_BUILTIN, _LAST: "keras_munet.data.tfds.tfds_source:SOURCE"},
)


def embedded_names() -> list[str]:
    """Returns the tasks whose data come with the install, sorted."""
    return sorted(
        name
        for source in _builtin_sources()
        if isinstance(source, task_source.EmbeddedTasks)
        for name in source.loaders
    )


def list_tasks(data_dir: str = "") -> list[task_source.ListedTask]:
    """Returns every task, and the family of every plug-in, unloaded.

    Args:
      data_dir: as of `load`.

    Raises:
      UsageError: two plug-ins share a name, or one has a built-in one.

    Example:
      >>> list_tasks()[0]
      ListedTask(name='digits', group='embedded', note='comes with the install')
    """
    sources = [*_builtin_sources(), SOURCES.get(_LAST)]
    return [
        *(task for source in sources for task in source.list_tasks(data_dir)),
        *(
            task_source.ListedTask(
                f"{family}[/...]", "plug-in", f"of {plugin.distribution}"
            )
            for family, plugin in SOURCES.plugins().items()
        ),
    ]


def find_source(
    task_name: str, *, data_dir: str = ""
) -> tuple[task_source.TaskSource, str]:
    """Returns the source of a task and the task's bare name.

    Args:
      task_name: as of `load`.
      data_dir: as of `load`.

    Raises:
      UsageError: no task of any kind can have the name.
    """
    for source in _builtin_sources():
        # A path has characters that no name of a task may have.
        if source.matches(task_name):
            name = task_name
            break
    else:
        name = names.bare_name(task_name)
        source = _named_source(name)
    if not source.has_task(name, data_dir):
        raise errors.UsageError(_unknown(name, source, data_dir))
    return source, name


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
      data_dir: prepared data; see `DataOptions` for this and what follows.
      manual_dir: source files.
      download: whether TFDS may fetch what is in neither.
      image_size: the largest side of a model's input, pixels.

    Returns:
      The data; splits that are not `resident` are views of files.

    Raises:
      UsageError: there is no such task.
      DataError: its data are missing, damaged, not prepared, or of a kind
        that no image classifier can use.

    Example:
      >>> data = load("digits")
      >>> data.num_classes, data.train.images.shape[1:]
      (10, (8, 8, 1))
    """
    source, name = find_source(task_name, data_dir=data_dir)
    return source.load_data(
        name, DataOptions(data_dir, manual_dir, download, image_size)
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
    name = names.bare_name(task_name)
    return _named_source(name).prepared_fingerprint(name, data_dir)


def check_name(task_name: str, *, data_dir: str = "") -> None:
    """Refuses a name that no task of any kind can have.

    Args:
      task_name: as of `load`.
      data_dir: as of `load`.

    Raises:
      UsageError: there is no such task.
    """
    find_source(task_name, data_dir=data_dir)


def describe(
    task_name: str, options: DataOptions | None = None
) -> task_source.Description:
    """Returns what a person wants to know of a task.

    Of a task of TFDS no data are read.

    Args:
      task_name: as of `load`.
      options: where its data lie.

    Raises:
      UsageError: there is no such task.
      DataError: its data cannot be opened.
    """
    options = options or DataOptions()
    source, name = find_source(task_name, data_dir=options.data_dir)
    return source.describe(name, options)


def prepare(task_name: str, options: DataOptions | None = None) -> list[str]:
    """Makes a task ready to be read; what is ready stays as it is.

    Args:
      task_name: as of `load`.
      options: where its data lie and how they are prepared.

    Returns:
      What happened, one line each, for a person.

    Raises:
      UsageError: there is no such task.
      DataError: as of `load`; or own images were prepared from another
        request.
    """
    options = options or DataOptions()
    source, name = find_source(task_name, data_dir=options.data_dir)
    return source.prepare(name, options)


class _PluginTasks(task_source.TaskSource):
    """Tasks that a function of another distribution loads."""

    def __init__(self, family: str, load_task: Callable[[str], TaskData]):
        self.families = frozenset({family})
        self._load_task = load_task

    def load_data(self, name: str, options: DataOptions) -> TaskData:
        """Returns the data of a task."""
        del options
        return self._load_task(name)


class _CheckedTasks(task_source.TaskSource):
    """A plug-in's source: its data are checked, and its errors name it."""

    def __init__(self, family: str, source: task_source.TaskSource):
        self.families = frozenset({family})
        self._family = family
        self._source = source

    def has_task(self, name: str, data_dir: str) -> bool:
        """Returns what the plug-in's source does."""
        with plugins.name_errors("task family", self._family):
            return self._source.has_task(name, data_dir)

    def load_data(self, name: str, options: DataOptions) -> TaskData:
        """Returns the data of a task.

        Raises:
          UsageError: the plug-in fails.
          DataError: what it returns is not the task's data.
        """
        with plugins.name_errors("task family", self._family):
            data = self._source.load_data(name, options)
        if not isinstance(data, TaskData) or data.name != name:
            label = getattr(data, "name", type(data).__name__)
            raise errors.DataError(
                f"the plug-in for task {name!r} returned {label!a:.40}; it "
                "must return a TaskData of that name; fix the plug-in"
            )
        return types.checked(data)

    def similar_names(self, data_dir: str) -> list[str]:
        """Returns what the plug-in's source does."""
        with plugins.name_errors("task family", self._family):
            return self._source.similar_names(data_dir)

    def prepared_fingerprint(
        self, name: str, data_dir: str
    ) -> tuple[tuple[str, ...], fingerprint.DataFingerprint] | None:
        """Returns what the plug-in's source does."""
        with plugins.name_errors("task family", self._family):
            return self._source.prepared_fingerprint(name, data_dir)

    def describe(
        self, name: str, options: DataOptions
    ) -> task_source.Description:
        """Returns what the plug-in's source does."""
        with plugins.name_errors("task family", self._family):
            return self._source.describe(name, options)

    def prepare(self, name: str, options: DataOptions) -> list[str]:
        """Returns what the plug-in's source does."""
        with plugins.name_errors("task family", self._family):
            return self._source.prepare(name, options)


def _builtin_sources() -> list[task_source.TaskSource]:
    return [SOURCES.get(name) for name in _BUILTIN]


def _named_source(name: str) -> task_source.TaskSource:
    """Returns the source that a bare name belongs to.

    Raises:
      UsageError: two plug-ins share a name, or one has a built-in one.
    """
    for source in _builtin_sources():
        if source.matches(name):
            return source
    family = task_source.name_family(name)
    if family not in SOURCES.names() and family in SOURCES.plugins():
        source = SOURCES.get(family)
        if not isinstance(source, task_source.TaskSource):
            source = _PluginTasks(family, source)
        return _CheckedTasks(family, source)
    return SOURCES.get(_LAST)


def _unknown(name: str, source: task_source.TaskSource, data_dir: str) -> str:
    """Returns the message about a name that no task has."""
    embedded = embedded_names()
    own_names = SOURCES.get("own").similar_names(data_dir)
    if f"own/{name}" in own_names:
        close = [f"own/{name}"]
    else:
        same_source = source.similar_names(data_dir)
        close = difflib.get_close_matches(
            name, dict.fromkeys([*own_names, *embedded, *same_source]), n=5
        )
    hint = f"; did you mean {' or '.join(close)}?" if close else ";"
    return (
        f"there is no task {name!r}{hint} embedded tasks: "
        f"{', '.join(embedded)}; {commands.command('tasks')} list names the "
        "published ones; any other is an image-classification data set of "
        "TFDS, as DATASET or DATASET/CONFIG"
    )
