"""Loads the data of tasks in turn and checks that they are the right ones.

Invariant: of the images that memory holds only those of one task may be
large, or as much together as those of the largest one, however many tasks there
are; data that differ from what a published path was trained on are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from concurrent import futures

from keras_munet.core import class_weights
from keras_munet.core import fingerprint
from keras_munet.core import names
from keras_munet.core import presets
from keras_munet.core import settings as settings_lib
from keras_munet.data import fingerprints as fingerprints_lib
from keras_munet.data import folders as folders_lib
from keras_munet.data import tasks as tasks_lib
from keras_munet.data import types
from keras_munet.data.own import store as own_store
from keras_munet.store import task_state
from keras_munet.system import validation

# Tasks of so many bytes together stay in memory besides the last one.
_NUM_SMALL_BYTES_MAX = 64 * 2**20


class TaskDataLoader:
    """Gives the data of one task at a time.

    Attributes:
      settings: the experiment, which says where data lie.
      fingerprints: of the data that were loaded last, by bare task name.
    """

    def __init__(self, settings: settings_lib.Settings):
        self.settings = settings
        self.fingerprints: dict[str, fingerprint.DataFingerprint] = {}
        self._class_names: dict[str, tuple[str, ...]] = {}
        self._loaded: dict[str, types.TaskData] = {}
        # Bytes that a task's images take in memory, of all that were loaded.
        self._num_bytes: dict[str, int] = {}
        self._prefetched: tuple[str, futures.Future[types.TaskData]] | None = (
            None
        )

    def load(self, name: str) -> types.TaskData:
        """Returns the data of a task; those of large other tasks are freed.

        Args:
          name: of the task, bare.

        Raises:
          UsageError: there is no such task, or `data.class_weights` or
            `search.quality` does not fit its labels.
          DataError: its data are missing or damaged.
        """
        data = self._loaded.pop(name, None)
        if data is None:
            data = self._take_prefetched(name)
            if data is None:
                self._free()
                data = self._read(name)
            self._num_bytes[name] = _num_bytes(data)
            self._check_target(data)
            self.fingerprints[name] = fingerprints_lib.of(data)
            self._class_names[name] = data.class_names
        self._loaded[name] = data
        return data

    def _check_target(self, data: types.TaskData) -> None:
        """Refuses settings that do not fit the labels of a task.

        Raises:
          UsageError: there is one.
        """
        weights = str(self.settings.data.class_weights)
        class_weights.check(weights, data.name, data.class_names, data.target)
        data.target.quality_of(self.settings.search.quality, data.name)

    def prefetch(self, name: str) -> None:
        """Begins to load the data of the task that comes next.

        Nothing is done unless they fit beside those in memory into what the
        largest task takes alone. An error is one of `load` only.

        Args:
          name: of the task, bare; one whose data were loaded before.
        """
        if (
            name in self._loaded
            or self._prefetched is not None
            or not self._loaded
        ):
            return
        num_bytes_max = max([*self._num_bytes.values(), _NUM_SMALL_BYTES_MAX])
        num_next = self._num_bytes.get(name, num_bytes_max + 1)
        *older_sizes, current = map(_num_bytes, self._loaded.values())
        if current + num_next > num_bytes_max:
            return
        for other in list(self._loaded)[:-1]:
            if sum(older_sizes) + current + num_next > num_bytes_max:
                older_sizes.remove(_num_bytes(self._loaded.pop(other)))
        executor = futures.ThreadPoolExecutor(1, "prefetch")
        self._prefetched = name, executor.submit(self._read, name)
        executor.shutdown(wait=False)

    def _take_prefetched(self, name: str) -> types.TaskData | None:
        """Returns a task's data if they were prefetched; drops others."""
        if self._prefetched is None:
            return None
        prefetched_name, future = self._prefetched
        self._prefetched = None
        try:
            data = future.result()
        # Where the task's turn comes, its error is raised by `load`.
        except Exception:
            return None
        return data if prefetched_name == name else None

    def _read(self, name: str) -> types.TaskData:
        return validation.load_tasks([name], self.settings)[name]

    def check(
        self,
        task_names: Iterable[str],
        find_state: Callable[[str], task_state.TaskState | None] = (
            lambda name: None
        ),
    ) -> None:
        """Refuses tasks whose data are missing, damaged or other ones.

        Each task is loaded once in a process for this.

        Args:
          task_names: with or without `private:`.
          find_state: returns the published state of a task, or None.

        Raises:
          UsageError: there is no such task.
          DataError: as of `load` and `refuse_other_data`.
        """
        bare = list(map(names.bare_name, task_names))
        # The first comes last, as it is the first to be used.
        for name in [*bare[1:], *bare[:1]]:
            if name not in self.fingerprints:
                self.load(name)
            self.refuse_other_data(name, find_state(name))

    def sizes(self, task_names: Iterable[str]) -> dict[str, presets.DataSize]:
        """Returns how many images and classes tasks have that were loaded.

        Args:
          task_names: with or without `private:`.
        """
        bare = list(map(names.bare_name, task_names))
        return {
            name: presets.DataSize(
                self.fingerprints[name].splits["train"].num_examples,
                self.fingerprints[name].splits["validation"].num_examples,
                len(self._class_names[name]),
            )
            for name in bare
        }

    def refuse_other_data(
        self, name: str, state: task_state.TaskState | None
    ) -> None:
        """Refuses data other than those that a task was trained on.

        Args:
          name: of a task whose data were loaded.
          state: its published state; None where it has none.

        Raises:
          DataError: classes, labels or images differ.
        """
        if state is not None:
            fingerprint.refuse_other_data(
                name,
                (state.class_names, state.data),
                (self._class_names[name], self.fingerprints[name]),
            )

    def _free(self) -> None:
        """Frees the least recently used tasks but for some small ones."""
        num_kept_bytes = 0
        for name, data in reversed(list(self._loaded.items())):
            num_bytes = _num_bytes(data)
            if num_kept_bytes + num_bytes > _NUM_SMALL_BYTES_MAX:
                del self._loaded[name]
            else:
                num_kept_bytes += num_bytes


def _num_bytes(data: types.TaskData) -> int:
    """Returns what a task's images take in memory, bytes."""
    return sum(
        split.num_bytes
        for split in (data.train, data.validation, data.test)
        if split.resident
    )


def refuse_other_prepared(
    states: Mapping[str, task_state.TaskState],
    settings: settings_lib.DataSettings,
) -> None:
    """Refuses published tasks whose prepared own images are other ones now.

    No image is read. A task whose images are not at hand is not compared.

    Args:
      states: published tasks by name.
      settings: where data lie.

    Raises:
      DataError: classes, labels or images differ.
    """
    for name, state in states.items():
        now = tasks_lib.prepared_fingerprint(name, data_dir=settings.data_dir)
        if now is not None:
            before = state.class_names, state.data
            fingerprint.refuse_other_data(name, before, now)


def originals(
    served: Iterable[str], data: settings_lib.DataSettings
) -> dict[str, list[bytes]]:
    """Returns some picture files that own tasks were made from, by task.

    Args:
      served: bare task names.
      data: where prepared data lie; tasks that are not there have no files.
    """
    folders = folders_lib.folders(data.data_dir)
    return {
        name: own_store.originals(name, folders)
        for name in served
        if name.startswith(own_store.FAMILY + "/")
    }
