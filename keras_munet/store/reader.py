"""Reads a system directory without changing it.

Invariant: nothing is written. What is returned of a task is its state before or
after a publication, never between.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import TypeVar

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.store import check as check_lib
from keras_munet.store import files as files_lib
from keras_munet.store import layout
from keras_munet.store import objects
from keras_munet.store import settings_diff
from keras_munet.store import storage
from keras_munet.store import task_record_cache
from keras_munet.store import task_state

_NUM_DIFFERENCES_SHOWN = 3
_Reader = TypeVar("_Reader", bound="SystemReader")


class SystemReader:
    """Reads one system; get one with `open`.

    Attributes:
      objects: its components.
    """

    def __init__(self, files: storage.Storage, record: layout.SystemRecord):
        self._files = files
        self._record = record
        self._records = task_record_cache.TaskRecords(files)
        self.objects = objects.ObjectStore(files)

    @classmethod
    def open(cls: type[_Reader], directory: files_lib.Location) -> _Reader:
        """Returns the system in a place.

        Raises:
          UsageError: there is none.
          StoreError: `system.json` is damaged, newer, or cannot be read.
        """
        files = files_lib.open_storage(directory)
        if not cls.is_system(files):
            raise errors.UsageError(
                f"{files.where} holds no system (it has no "
                f"{layout.SYSTEM_FILE}); check the path, or create one there"
            )
        return cls(files, layout.read_system(files))

    @staticmethod
    def is_system(directory: files_lib.Location) -> bool:
        """Returns whether a place holds a system that `open` could open."""
        return files_lib.open_storage(directory).exists(layout.SYSTEM_FILE)

    @property
    def files(self) -> storage.Storage:
        """Returns the storage of the system, for maintenance."""
        return self._files

    @property
    def where(self) -> str:
        """The place of the system, for messages."""
        return self._files.where

    @property
    def experiment(self) -> dict[str, Any]:
        """A copy of the settings that the system was created with."""
        return copy.deepcopy(self._record.experiment)

    @property
    def family_json(self) -> dict[str, Any]:
        """A copy of what `Family.to_json` returned."""
        return copy.deepcopy(self._record.family)

    @property
    def root(self) -> specs.PathRecord:
        """The root path."""
        return self._record.root

    @property
    def root_source(self) -> str:
        """Returns the source of the root's values."""
        return self._record.root_source

    def compare_experiment(
        self,
        settings_json: Mapping[str, Any],
        *,
        besides: Iterable[str] = (),
        earlier: Mapping[str, Any] | None = None,
    ) -> None:
        """Verifies that the system was created with these settings.

        Args:
          settings_json: plain JSON values.
          besides: keys that may differ.
          earlier: what was in force before a key was there to be recorded.

        Raises:
          UsageError: it was not; the first differing keys are named.
        """
        given_json, stored_json = dict(settings_json), self.experiment
        for key, value in (earlier or {}).items():
            group = isinstance(value, Mapping)
            stored_json[key] = (
                {**value, **stored_json.get(key, {})}
                if group
                else stored_json.get(key, value)
            )
        for key in besides:
            given_json.pop(key, None)
            stored_json.pop(key, None)
        differences = settings_diff.differences(stored_json, given_json)
        if differences:
            more = len(differences) - _NUM_DIFFERENCES_SHOWN
            raise errors.UsageError(
                f"{self.where} holds another experiment: "
                f"{', '.join(differences[:_NUM_DIFFERENCES_SHOWN])}"
                f"{f' and {more} more' if more > 0 else ''}; use its settings, "
                "or another folder"
            )

    def tasks(self) -> dict[str, task_state.TaskState]:
        """Returns the published state of every task, sorted by name.

        Raises:
          StoreError: one of them is damaged or cannot be read.
        """
        return {
            record.task: record
            for record in self._records.read()
            if isinstance(record, task_state.TaskState)
        }

    def removed(self) -> dict[str, task_state.RemovedTask]:
        """Returns what is left of every removed task, sorted by name.

        Raises:
          StoreError: a record is damaged or cannot be read.
        """
        return {
            record.task: record
            for record in self._records.read()
            if isinstance(record, task_state.RemovedTask)
        }

    def find(self, name: str) -> task_state.TaskState | None:
        """Returns the published state of one task, or None.

        Its cost does not grow with the number of tasks.

        Raises:
          StoreError: a record is damaged or cannot be read.
        """
        record = self._records.find(name)
        return record if isinstance(record, task_state.TaskState) else None

    def find_removed(self, name: str) -> task_state.RemovedTask | None:
        """Returns what is left of one removed task, or None; see `find`."""
        record = self._records.find(name)
        return record if isinstance(record, task_state.RemovedTask) else None

    @property
    def records(self) -> task_record_cache.TaskRecords:
        """The records of its tasks, and what follows from them."""
        return self._records

    def num_changes(self) -> int:
        """Returns a number that grows when any task is published or removed.

        Raises:
          StoreError: a record is damaged or cannot be read.
        """
        return self._records.num_changes()

    def task(self, name: str) -> task_state.TaskState:
        """Returns the published state of one task.

        Raises:
          UsageError: the system has no such task.
          StoreError: it is damaged or cannot be read.
        """
        state: task_record_cache.Record | None = None
        with contextlib.suppress(storage.MissingFileError):
            state = layout.read_task(self._files, layout.task_file(name))
        if not isinstance(state, task_state.TaskState):
            raise errors.UsageError(
                f"{self.where} has no task {name!a}; there are: "
                f"{', '.join(self.tasks()) or 'none'}"
            )
        return state

    def check(self) -> list[str]:
        """Returns the problems of the system, one line each; none if clean."""
        return list(check_lib.find_problems(self._files))
