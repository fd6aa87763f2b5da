"""Caches the published states of all tasks; rereads changed ones.

Invariant: what is returned is what the files hold now. A record is taken from
memory only if its file is known to be the same; so a job that publishes task
after task reads one file a task, and what follows from the records (names,
users of components, numbers) is changed by that one, however many there are.
Where the medium does not tell every change, a record that another version
published may be some minutes old; code that relies on it calls `look_at` or
`refresh` with `is_exact`.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import gc
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent import futures

from keras_munet.core import component_users
from keras_munet.store import layout
from keras_munet.store import storage
from keras_munet.store import task_state

Record = task_state.TaskState | task_state.RemovedTask
# A view that fell behind by more looks at all records.
_NUM_CHANGES_MAX = 10_000


@dataclasses.dataclass(frozen=True)
class Change:
    """A record that was replaced.

    Attributes:
      before: the record; None of a new task.
      after: the record; None of one whose file is gone.
    """

    before: Record | None
    after: Record | None


class TaskRecords:
    """The records of one system's tasks.

    Args:
      files: of the system.

    Attributes:
      users: the tasks whose published paths use each component.
    """

    def __init__(self, files: storage.Storage):
        self._files = files
        self._position: object = None
        self._folder_version: object = None
        # File name -> (its version, its record).
        self._cached: dict[str, tuple[object, Record]] = {}
        # The same in the order of tasks; None if that must be sorted again.
        self._sorted: list[Record] | None = None
        # Name in small letters -> files that are named so.
        self._small_names: dict[str, set[str]] = {}
        self._changes: collections.deque[Change] = collections.deque(
            maxlen=_NUM_CHANGES_MAX
        )
        self._num_changes = 0
        self.users = component_users.ComponentUsers()

    def read(self) -> list[Record]:
        """Returns every task's record, sorted by task.

        Raises:
          StoreError: one is damaged or cannot be read.
        """
        self.refresh()
        if self._sorted is None:
            records = [record for _, record in self._cached.values()]
            self._sorted = sorted(records, key=lambda record: record.task)
        return self._sorted

    def refresh(self, *, is_exact: bool = False) -> None:
        """Takes in what has changed.

        Args:
          is_exact: whether what other versions published counts too, at the
            cost of a look at all records.

        Raises:
          StoreError: a record is damaged or cannot be read.
        """
        since = self._position
        if is_exact and not self._files.tells_every_change:
            since = None
        position, names = self._files.changes(layout.TASKS_DIR, since)
        if names is not None:
            for name in names:
                self._reread(name, self._files.version(name))
            self._position = position
            return
        version = self._files.folder_version(layout.TASKS_DIR)
        if version is None or version != self._folder_version:
            # Until all could be read.
            self._position = self._folder_version = None
            with _without_cycle_collector():
                self._look_at_all()
            self._folder_version = version
        self._position = position

    def look_at(self, tasks: Iterable[str]) -> bool:
        """Takes in what the records of some tasks hold now.

        Returns:
          Whether one of them had changed, though nothing told it.

        Raises:
          StoreError: a record is damaged or cannot be read.
        """
        num_changes = self._num_changes
        if not self._files.tells_every_change:
            for name in map(layout.task_file, tasks):
                version = self._files.version(name)
                if version != self._cached.get(name, (None, None))[0]:
                    self._reread(name, version)
        return self._num_changes > num_changes

    def find(self, task: str) -> Record | None:
        """Returns the record of a task, or None.

        Raises:
          StoreError: a record is damaged or cannot be read.
        """
        self.refresh()
        return self.find_cached(task)

    def find_cached(self, task: str) -> Record | None:
        """Returns what `find` returned right after the last look."""
        return self._cached.get(layout.task_file(task), (None, None))[1]

    def num_changes(self) -> int:
        """Returns how many records have changed so far.

        Raises:
          StoreError: a record is damaged or cannot be read.
        """
        self.refresh()
        return self._num_changes

    def changes(self, since: int) -> Sequence[Change] | None:
        """Returns the changes after the first `since` ones.

        Returns:
          None if they are too many to be known.
        """
        num = self._num_changes - since
        if num > len(self._changes):
            return None
        return [self._changes[i] for i in range(-num, 0)]

    def like(self, name: str) -> str | None:
        """Returns a file that differs from `name` in capitals only, or None.

        Raises:
          StoreError: a record is damaged or cannot be read.
        """
        self.refresh(is_exact=True)
        names = self._small_names.get(name.lower(), set())
        return min(names - {name}, default=None)

    def _look_at_all(self) -> None:
        versions = self._files.versions(layout.TASKS_DIR)
        for name in [n for n in self._cached if n not in versions]:
            self._set(name, None, None)
        names = []
        for name, version in versions.items():
            old = self._cached.get(name)
            if old is not None and version is not None and old[0] == version:
                continue
            if old is not None or layout.is_record_file(name, layout.TASKS_DIR):
                names.append(name)
        for name, record in self._read_all(names):
            self._set(name, versions[name], record)

    def _reread(self, name: str, version: object) -> None:
        self._set(name, version, self._read(name))

    def _read(self, name: str) -> Record | None:
        """Returns the record in a file; None if it holds none."""
        try:
            return layout.read_task(self._files, name)
        except layout.MisnamedError as error:
            if not error.is_copy(self._files):
                raise
            return None
        except storage.MissingFileError:
            return None

    def _read_all(
        self, names: Sequence[str]
    ) -> Iterator[tuple[str, Record | None]]:
        """Yields files and their records, of which some are read at once."""
        num_threads = self._files.num_reads_at_once
        if len(names) <= num_threads or num_threads == 1:
            yield from zip(names, map(self._read, names), strict=True)
            return
        executor = futures.ThreadPoolExecutor(num_threads)
        try:
            records = executor.map(self._read, names)
            yield from zip(names, records, strict=True)
        finally:
            # What one read refuses, thousands would wait for as well.
            executor.shutdown(cancel_futures=True)

    def _set(self, name: str, version: object, record: Record | None) -> None:
        """Takes in what a file holds now; None if it is gone."""
        _, old = self._cached.get(name, (None, None))
        if record is not None:
            self._cached[name] = version, record
        named = record or old
        if old == record or named is None:
            return
        task = named.task
        self.users.replace(task, _component_ids(old), _component_ids(record))
        names = self._small_names.setdefault(name.lower(), set())
        names.add(name)
        if record is None:
            del self._cached[name]
            names.discard(name)
        self._sorted = None
        self._changes.append(Change(old, record))
        self._num_changes += 1


@contextlib.contextmanager
def _without_cycle_collector() -> Iterator[None]:
    """Has Python look for no cycles in a block: millions of records have none.

    It would look through all records again and again while they are read.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _component_ids(record: Record | None) -> Sequence[str]:
    if not isinstance(record, task_state.TaskState):
        return ()
    return record.published.component_ids
