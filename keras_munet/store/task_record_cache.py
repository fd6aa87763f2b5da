"""Caches the published states of all tasks; rereads changed ones.

Invariant: what is returned is what the files hold now. A record is taken from
memory only if its file's version is known and the same; so a job that publishes
task after task reads one file a task, however many there are.
"""

from __future__ import annotations

from keras_munet.store import layout
from keras_munet.store import storage
from keras_munet.store import task_state

Record = task_state.TaskState | task_state.RemovedTask


class TaskRecords:
    """The records of one system's tasks.

    Args:
      files: of the system.
    """

    def __init__(self, files: storage.Storage):
        self._files = files
        self._folder_version: object = None
        # File name -> (its version, its record), sorted by task.
        self._cached: dict[str, tuple[object, Record]] = {}
        self._num_changes = 0

    def read(self) -> list[Record]:
        """Returns every task's record, sorted by task.

        Raises:
          StoreError: one is damaged or cannot be read.
        """
        version = self._files.folder_version(layout.TASKS_DIR)
        if version is None or version != self._folder_version:
            self._update()
            self._folder_version = version
        return [record for _, record in self._cached.values()]

    def num_changes(self) -> int:
        """Returns a number that grows when a record changes.

        Raises:
          StoreError: a record is damaged or cannot be read.
        """
        self.read()
        return self._num_changes

    def like(self, name: str) -> str | None:
        """Returns a file that differs from `name` in capitals only, or None.

        Raises:
          StoreError: a record is damaged or cannot be read.
        """
        self.read()
        small = name.lower()
        for other in self._cached:
            if other != name and other.lower() == small:
                return other
        return None

    def _update(self) -> None:
        versions = self._files.versions(layout.TASKS_DIR)
        updated = {}
        changed = []
        for name, version in versions.items():
            old = self._cached.get(name)
            if old is not None and version is not None and old[0] == version:
                updated[name] = old
            elif old is not None or layout.is_record_file(
                name, layout.TASKS_DIR
            ):
                try:
                    record = layout.read_task(self._files, name)
                except layout.MisnamedError as error:
                    if error.is_copy(self._files):
                        continue
                    raise
                updated[name] = version, record
                if old is None or old[1] != record:
                    changed.append(name)
        if changed or updated.keys() != self._cached.keys():
            self._num_changes += 1
        if updated.keys() != self._cached.keys() or changed:
            updated = dict(
                sorted(updated.items(), key=lambda kv: kv[1][1].task)
            )
        else:
            updated = {name: updated[name] for name in self._cached}
        self._cached = updated
