"""A system directory: components, the state of each task, what is running.

Invariant: a reader sees a task before or after a publication, never between;
objects are durable before anything names them, and stay while it does; what is
published about a task is replaced only by the job that has its lease, and only
if it is what that job started from. `system.json` is written last, so a folder
with it is a whole system. `docs/format.md` describes every file.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.store import checking
from keras_munet.store import codec
from keras_munet.store import collecting
from keras_munet.store import comparison
from keras_munet.store import files as files_lib
from keras_munet.store import interface
from keras_munet.store import job_lock
from keras_munet.store import layout
from keras_munet.store import leases
from keras_munet.store import objects
from keras_munet.store import references
from keras_munet.store import sealed
from keras_munet.store import task_records
from keras_munet.store import task_state

Place = str | os.PathLike[str] | interface.Files
ROOT_BORN = (-1, 0, 0)
_NUM_DIFFERENCES_SHOWN = 3
# The longest that a job waits for another one's collection.
_COLLECTION_SECS = 600.0


class SystemDir:
    """One system; get one with `create` or `open`.

    Attributes:
      objects: its components.
    """

    def __init__(self, files: interface.Files, record: layout.SystemRecord):
        self._files = files
        self._record = record
        self._job = leases.Job(files)
        self._records = task_records.TaskRecords(files)
        self._naming: interface.Lock | None = None
        # Task -> what its file held when this job took its lease.
        self._found: dict[str, bytes | None] = {}
        # Ids of objects that may have become rubbish through this job.
        self._suspects: set[str] = set()
        self.objects = objects.ObjectStore(files)

    @classmethod
    def create(
        cls,
        place: Place,
        *,
        experiment: Mapping[str, Any],
        family: Mapping[str, Any],
        root_components: Sequence[specs.Component],
        root_hparams: Mapping[str, Any],
        root_source: str,
    ) -> SystemDir:
        """Returns a new system that has a root and no tasks.

        A call that was interrupted can be made again in the same place.

        Args:
          place: an empty or new local folder, or files.
          experiment: the settings, plain JSON values.
          family: what `Family.to_json` returned.
          root_components: the components of the root path, input first.
          root_hparams: the hyperparameters of the root path.
          root_source: where the root's values came from, for people.

        Raises:
          UsageError: the place holds a system or something else, or another
            job is making a system there.
          StoreError: it cannot be written.
        """
        files = files_lib.at(place)
        _check_free(files)
        places = [component.spec.name for component in root_components]
        if not places or len(set(places)) < len(places):
            raise errors.UsageError(
                f"a root cannot have the components {places!a}; give at least "
                "one, each with a name of its own"
            )

        def sealed_record(refs: tuple[specs.ComponentRef, ...]) -> bytes:
            root = specs.PathRecord(
                task=specs.NOT_TRAINABLE,
                parent=None,
                born=ROOT_BORN,
                hparams=dict(root_hparams),
                components=refs,
            )
            record = layout.SystemRecord(
                dict(experiment), dict(family), root, root_source
            )
            return sealed.seal(record.to_json(), layout.SYSTEM_FILE)

        # Before the first write: settings that cannot be stored leave nothing.
        sealed_record(())
        with job_lock.held(files):
            _check_free(files)
            store = objects.ObjectStore(files)
            data = sealed_record(tuple(map(store.put, root_components)))
            files.write_atomic(layout.SYSTEM_FILE, data)
        return cls.open(files)

    @classmethod
    def open(cls, place: Place) -> SystemDir:
        """Returns the system in a place.

        Raises:
          UsageError: there is none.
          StoreError: `system.json` is damaged, newer, or cannot be read.
        """
        files = files_lib.at(place)
        if not cls.is_system(files):
            raise errors.UsageError(
                f"{files.where} holds no system (it has no "
                f"{layout.SYSTEM_FILE}); check the path, or create one there"
            )
        return cls(files, layout.read_system(files))

    @staticmethod
    def is_system(place: Place) -> bool:
        """Whether a place holds a system that `open` could open."""
        return files_lib.at(place).exists(layout.SYSTEM_FILE)

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
        """Where the root's values came from."""
        return self._record.root_source

    def compare_experiment(
        self, settings_json: Mapping[str, Any], *, besides: Iterable[str] = ()
    ) -> None:
        """Verifies that the system was created with these settings.

        Args:
          settings_json: plain JSON values.
          besides: keys that may differ.

        Raises:
          UsageError: it was not; the first differing keys are named.
        """
        asked, seen = dict(settings_json), dict(self._record.experiment)
        for key in besides:
            asked.pop(key, None)
            seen.pop(key, None)
        found = comparison.differences(seen, asked)
        if found:
            more = len(found) - _NUM_DIFFERENCES_SHOWN
            raise errors.UsageError(
                f"{self.where} holds another experiment: "
                f"{', '.join(found[:_NUM_DIFFERENCES_SHOWN])}"
                f"{f' and {more} more' if more > 0 else ''}; use its settings, "
                "or another folder"
            )

    def change_experiment(self, settings_json: Mapping[str, Any]) -> None:
        """Records other settings for what is still to come, in one step.

        Raises:
          UsageError: another process has changed them since they were read.
          StoreError: the write failed; the old settings are still there.
        """
        record = dataclasses.replace(
            self._record, experiment=dict(settings_json)
        )
        old, new = (
            sealed.seal(r.to_json(), layout.SYSTEM_FILE)
            for r in (self._record, record)
        )
        with self.naming():
            if not self._files.write_if(layout.SYSTEM_FILE, old, new):
                raise errors.UsageError(
                    f"another process has just changed the settings of "
                    f"{self.where}; run again"
                )
        self._record = record

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
        state = self._record_of(name)
        if not isinstance(state, task_state.TaskState):
            raise errors.UsageError(
                f"{self.where} has no task {name!a}; there are: "
                f"{', '.join(self.tasks()) or 'none'}"
            )
        return state

    @contextlib.contextmanager
    def lease(self, task: str) -> Iterator[None]:
        """Makes this object the only one that may change `task` in a block.

        Inside another block of the same task it does nothing more. The lease
        ends with the block or with the process, however that ends.

        Raises:
          TaskHeldError: another job (or another object of this process) has
            it.
          StoreError: the place cannot be written.
        """
        if task in self._found:
            yield
            return
        with self.naming():
            self._job.take(task)
        try:
            self._found[task] = self._bytes_of(task)
            yield
        except BaseException:
            self._job.leaves_rubbish = True
            raise
        finally:
            self._found.pop(task, None)
            if not self._found and self._suspects:
                self._job.leaves_rubbish = True
            self._job.release(task)

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Keeps every object in a block, named or not, from being collected.

        An object that is stored in such a block is safe if a record names it,
        or `use` says so, before the block ends.

        Raises:
          StoreError: a collection is running and does not end.
        """
        if self._naming is not None:
            yield
            return
        self._naming = interface.wait_for(
            lambda: self._files.lock(
                layout.OBJECTS_LOCK, str(os.getpid()), shared=True
            ),
            _COLLECTION_SECS,
        )
        try:
            yield
        finally:
            lock, self._naming = self._naming, None
            lock.release()

    def use(self, task: str, object_ids: Iterable[str]) -> None:
        """Says which objects the running iteration of `task` relies on.

        They stay until it says something else or saves its progress, even if
        no record names them any more.

        Raises:
          LeaseLostError: another job has taken the task over.
        """
        self._job.confirm(task, sorted(set(object_ids)))

    def publish(self, state: task_state.TaskState) -> None:
        """Makes `state` the one that every reader sees, in one durable step.

        The task's progress is removed after that.

        Raises:
          UsageError: the state's parts do not agree, another task's name
            differs in capitals only, or another job works on the task.
          LeaseLostError: another job has taken the task over.
          StoreError: an object of the published path is missing or another,
            or the write failed; the old state is then still there.
        """
        _checked(state)
        with self.lease(state.task), self.naming():
            for ref in state.published.components:
                objects.check_ref(ref, self.objects.spec(ref.id))
            self._write_task(state)

    def remove(self, name: str) -> None:
        """Takes a task out of the system in one durable step.

        Other tasks keep what they share with it. Its own objects stay until
        `tidy` or `collect`.

        Raises:
          UsageError: the system has no such task, or another job works on it.
          StoreError: the write failed; the task is then still there.
        """
        self.task(name)
        with self.lease(name), self.naming():
            self._write_task(task_state.RemovedTask.of(self.task(name)))

    def _write_task(
        self, state: task_state.TaskState | task_state.RemovedTask
    ) -> None:
        """Replaces a task's record; the caller has its lease."""
        name = layout.task_file(state.task)
        found = self._found[state.task]
        other = self._records.like(name) if found is None else None
        if other is not None:
            # On some file systems the two would be one file.
            raise errors.UsageError(
                f"{state.task!a} cannot name a new task beside {other}, "
                "which differs in capitals only; use another name"
            )
        data = sealed.seal(state.to_json(), name)
        self._job.confirm(state.task)
        if not self._files.write_if(name, found, data):
            raise leases.LeaseLostError(
                f"{name} of {self.where} has been changed by another job; "
                "nothing published is lost, run again to continue"
            )
        self._suspect(name, found)
        self._found[state.task] = data
        self.clear_progress(state.task)

    def save_progress(self, task: str, payload: Mapping[str, Any]) -> None:
        """Keeps the state inside a running task iteration of `task`.

        Raises:
          UsageError: another job works on the task.
          LeaseLostError: another job has taken the task over.
          StoreError: `payload` is not plain JSON, or the write failed.
        """
        name = layout.progress_file(task)
        progress = layout.Progress(task, self._base(task), dict(payload))
        data = sealed.seal(progress.to_json(), name)
        with self.lease(task), self.naming():
            self._job.confirm(task)
            self._files.write_atomic(name, data)

    def load_progress(self, task: str) -> dict[str, Any] | None:
        """Returns what `save_progress` kept, or None.

        None too, with a warning, if it cannot be read or names objects that
        do not exist; and if the task has been published since, which is what
        a job leaves that is killed between publishing and clearing.
        """
        name = layout.progress_file(task)
        progress = layout.read_progress_or_warn(self._files, name)
        if progress is None or progress.follows != self._base(task):
            return None
        try:
            for ref in references.component_refs(progress.payload):
                objects.check_ref(ref, self.objects.spec(ref.id))
        except errors.StoreError as error:
            layout.warn_of_progress(name, error)
            return None
        self._suspects.update(references.object_ids(progress.payload))
        return progress.payload

    def clear_progress(self, task: str) -> None:
        """Forgets the running task iteration of `task`, if there is one.

        Raises:
          UsageError: another job works on the task.
        """
        with self.lease(task):
            self._files.delete(layout.progress_file(task))

    def tidy(self) -> None:
        """Removes what became rubbish through this object's own work.

        Its cost does not grow with the system. What cannot be removed now,
        and what a job left that was killed, is removed with a later call or
        by `collect`.

        Raises:
          StoreError: a record cannot be read; nothing is removed then.
        """
        suspects: set[str] | None = self._suspects | self.objects.written
        if any(not alive for alive in leases.jobs(self._files).values()):
            suspects = None
        report = collecting.collect(
            self._files, self.objects, self._records, self._job, suspects
        )
        if report is not None:
            self._suspects.clear()
            self.objects.written.clear()

    def collect(
        self, keep: Iterable[str] = (), *, dry_run: bool = False
    ) -> collecting.CollectReport:
        """Removes the objects that nothing references, and unfinished writes.

        The root, published paths, progress and the leases of jobs that live
        reference objects; so jobs may go on meanwhile. What jobs that were
        killed left behind is removed as well.

        Args:
          keep: ids of further objects that stay.
          dry_run: whether to report only.

        Raises:
          UsageError: other jobs do not stop storing objects.
          StoreError: a record cannot be read; nothing is removed then.
        """
        report = collecting.collect(
            self._files,
            self.objects,
            self._records,
            self._job,
            None,
            keep=keep,
            dry_run=dry_run,
        )
        if report is None:
            raise errors.UsageError(
                f"other jobs are storing components in {self.where}; run "
                "again when they train or have ended"
            )
        return report

    def check(self) -> list[str]:
        """Returns the problems of the system, one line each; none if clean."""
        return list(checking.problems(self._files))

    def _suspect(self, name: str, replaced: bytes | None) -> None:
        """Remembers what a replaced record of a task named."""
        if replaced is not None:
            body = sealed.unseal(
                replaced, name, version_max=task_state.FORMAT_VERSION
            )
            self._suspects.update(references.object_ids(body))

    def _bytes_of(self, task: str) -> bytes | None:
        try:
            name = layout.task_file(task)
            return self._files.read(name, sealed.NUM_BYTES_MAX)
        except interface.MissingFileError:
            return None

    def _record_of(
        self, task: str
    ) -> task_state.TaskState | task_state.RemovedTask | None:
        try:
            return layout.read_task(self._files, layout.task_file(task))
        except interface.MissingFileError:
            return None

    def _base(self, task: str) -> tuple[int, str] | None:
        record = self._record_of(task)
        if record is None:
            return None
        if isinstance(record, task_state.RemovedTask):
            return record.num_iterations_done, ""
        return record.num_iterations_done, record.published.id


def _checked(state: task_state.TaskState) -> None:
    try:
        state.validate()
    except ValueError as error:
        raise errors.UsageError(
            f"the task {state.task!a} cannot be published: {error}"
        ) from error


def _check_free(files: interface.Files) -> None:
    """Raises UsageError unless a system can be created in `files`."""
    if files.exists(layout.SYSTEM_FILE):
        raise errors.UsageError(
            f"{files.where} already holds a system; open it, or use another "
            "folder"
        )
    for name in files.list():
        # What a creation that was interrupted leaves behind.
        if name != layout.LOCK_FILE and codec.id_of_file(name) is None:
            raise errors.UsageError(
                f"{files.where} is not empty (it has {name!a}) and holds no "
                "system; use a new or empty folder"
            )
