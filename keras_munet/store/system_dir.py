"""A system directory: components, the state of each task, what is running.

Invariant: a reader sees a task before or after a publication, never between;
objects are durable before anything names them, and stay while it does; what is
published about a task is replaced only by the job that has its lease, and only
if it is what that job started from. `system.json` is written last, so a folder
with it is a whole system. `docs/format.md` describes every file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.store import check
from keras_munet.store import checksummed_json
from keras_munet.store import creation
from keras_munet.store import files as files_lib
from keras_munet.store import garbage_collection
from keras_munet.store import layout
from keras_munet.store import leases
from keras_munet.store import objects
from keras_munet.store import progress_files
from keras_munet.store import reader
from keras_munet.store import references
from keras_munet.store import storage
from keras_munet.store import task_state

# The longest that a job waits for another one's collection.
_COLLECTION_SECS = 600.0


class SystemDir(reader.SystemReader):
    """One system, to read and to change; get one with `create` or `open`."""

    def __init__(self, files: storage.Storage, record: layout.SystemRecord):
        super().__init__(files, record)
        self._job = leases.JobLeases(files)
        self._naming: storage.Lock | None = None
        # Task -> what its file held when this job took its lease.
        self._read_bytes: dict[str, bytes | None] = {}
        # Ids of objects that may have become rubbish through this job.
        self._suspects: set[str] = set()
        # Task -> what its progress names that could not be saved.
        self._unsaved: dict[str, frozenset[str]] = {}

    @classmethod
    def create(
        cls,
        directory: files_lib.Location,
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
          directory: an empty or new local folder, or files.
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
        files = files_lib.open_storage(directory)
        creation.create_system(
            files,
            experiment=experiment,
            family=family,
            root_components=root_components,
            root_hparams=root_hparams,
            root_source=root_source,
        )
        return cls.open(files)

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
            checksummed_json.seal(r.to_json(), layout.SYSTEM_FILE)
            for r in (self._record, record)
        )
        with self.naming():
            if not self._files.compare_and_swap(layout.SYSTEM_FILE, old, new):
                raise errors.UsageError(
                    f"another process has just changed the settings of "
                    f"{self.where}; run again"
                )
        self._record = record

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
        if task in self._read_bytes:
            yield
            return
        with self.naming():
            took_over = self._job.take(task)
        try:
            if took_over:
                # The other job may stand still right before a write.
                self._files.revoke(layout.previous_file(task))
                self._files.revoke(layout.progress_file(task))
            self._read_bytes[task] = self._bytes_of(task)
            self._records.look_at([task])
            yield
        except BaseException:
            self._job.leaves_rubbish = True
            raise
        finally:
            self._read_bytes.pop(task, None)
            self._unsaved.pop(task, None)
            if not self._read_bytes and self._suspects:
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
        self._naming = storage.wait_for_lock(
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
        used = {*object_ids, *self._unsaved.get(task, ())}
        self._job.confirm(task, sorted(used))

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
            refs = state.published.components
            specs_by_id = {ref.id: self.objects.spec(ref.id) for ref in refs}
            for ref in refs:
                objects.check_ref(ref, specs_by_id[ref.id])
            name = layout.task_file(state.task)
            for problem in check.other_class_counts(name, state, specs_by_id):
                raise errors.StoreError(problem)
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
        expected = self._read_bytes[state.task]
        other = self._records.like(name) if expected is None else None
        if other is not None:
            # On some file systems the two would be one file.
            raise errors.UsageError(
                f"{state.task!a} cannot name a new task beside {other}, "
                "which differs in capitals only; use another name"
            )
        data = checksummed_json.seal(state.to_json(), name)
        self._job.confirm(state.task, ())
        if not self._files.publish(name, expected, data):
            raise leases.LeaseLostError(
                f"{name} of {self.where} has been changed by another job; "
                "nothing published is lost, run again to continue"
            )
        self._suspect(name, expected)
        self._read_bytes[state.task] = data
        # What was published is; the progress may be another job's by now.
        with contextlib.suppress(leases.LeaseLostError):
            self.clear_progress(state.task)

    def save_progress(self, task: str, payload: Mapping[str, Any]) -> None:
        """Keeps the state inside a running task iteration of `task`.

        Raises:
          UsageError: another job works on the task.
          LeaseLostError: another job has taken the task over.
          StoreError: `payload` is not plain JSON, or the write failed.
        """
        data = progress_files.encode_progress(self._files, task, payload)
        with self.lease(task), self.naming():
            self._job.confirm(task, ())
            progress_files.save(self._fenced(task), task, data)
            self._unsaved.pop(task, None)

    def keep_progress(
        self, task: str, payload: Mapping[str, Any]
    ) -> errors.StoreError | None:
        """Saves progress if that is possible, else keeps what it names.

        A medium that refuses the progress costs a job that ends now the
        generations since the last one that was saved, and no other job
        anything: the lease keeps their objects from being collected.

        Returns:
          The error of a write that failed.

        Raises:
          UsageError: another job works on the task.
          LeaseLostError: another job has taken the task over.
          StoreError: the lease cannot be written either.
        """
        with self.lease(task), self.naming():
            try:
                self.save_progress(task, payload)
            except leases.LeaseLostError:
                raise
            except errors.StoreError as error:
                self._unsaved[task] = frozenset(references.object_ids(payload))
                self.use(task, ())
                return error
        return None

    def load_progress(self, task: str) -> dict[str, Any] | None:
        """Returns what `save_progress` kept last, or None.

        What was kept before it, with a warning, if that cannot be read or an
        object that it names is missing or damaged: at most one generation is
        made again. None, with a warning, if both are lost; and without one if
        the task has been published since.
        """
        payload = progress_files.load_progress(self._files, self.objects, task)
        if payload is not None:
            self._suspects.update(references.object_ids(payload))
        return payload

    def clear_progress(self, task: str) -> None:
        """Forgets the running task iteration of `task`, if there is one.

        Raises:
          UsageError: another job works on the task.
          LeaseLostError: another job has taken the task over.
        """
        with self.lease(task):
            progress_files.clear(self._fenced(task), task)

    def tidy(self) -> None:
        """Removes what became rubbish through this object's own work.

        Its cost does not grow with the system. What cannot be removed now,
        and what a job left that was killed, is removed with a later call or
        by `collect`.

        Raises:
          StoreError: a record cannot be read; nothing is removed then.
        """
        suspects: set[str] | None = self._suspects | self.objects.written
        if leases.has_traces(self._files):
            suspects = None
        elif not suspects:
            return
        report = garbage_collection.collect_garbage(
            self._files,
            self.objects,
            self._records,
            self._job,
            suspects,
            num_secs=garbage_collection.TIDY_SECS,
        )
        if report is not None:
            self._suspects.clear()
            self.objects.written.clear()

    def collect(
        self,
        keep: Iterable[str] = (),
        *,
        dry_run: bool = False,
        grace_secs: float = 0.0,
    ) -> garbage_collection.CollectReport:
        """Removes the objects that nothing references, and unfinished writes.

        The root, published paths, progress and the leases of jobs that live
        reference objects; so jobs may go on meanwhile. What jobs that were
        killed left behind is removed as well.

        Args:
          keep: ids of further objects that stay.
          dry_run: whether to report only.
          grace_secs: objects that were written later than that stay.

        Raises:
          UsageError: other jobs do not stop storing objects.
          StoreError: a record cannot be read; nothing is removed then.
        """
        report = garbage_collection.collect_garbage(
            self._files,
            self.objects,
            self._records,
            self._job,
            None,
            keep=keep,
            dry_run=dry_run,
            grace_secs=grace_secs,
        )
        if report is None:
            raise errors.UsageError(
                f"other jobs are storing components in {self.where}; run "
                "again when they train or have ended"
            )
        return report

    def _fenced(self, task: str) -> storage.Storage:
        """Returns the files, which change only while the lease is held."""
        return self._files.fenced(lambda: self._job.confirm(task))

    def _suspect(self, name: str, replaced: bytes | None) -> None:
        """Remembers what a replaced record of a task named."""
        if replaced is not None:
            body = checksummed_json.unseal(
                replaced, name, version_max=task_state.FORMAT_VERSION
            )
            self._suspects.update(references.object_ids(body))

    def _bytes_of(self, task: str) -> bytes | None:
        try:
            name = layout.task_file(task)
            return self._files.read(name, checksummed_json.NUM_BYTES_MAX)
        except storage.MissingFileError:
            return None


def _checked(state: task_state.TaskState) -> None:
    try:
        state.validate()
    except ValueError as error:
        raise errors.UsageError(
            f"the task {state.task!a} cannot be published: {error}"
        ) from error
