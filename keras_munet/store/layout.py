"""Names the records of a system and parses them.

Invariant: a record is returned only if its seal holds, its version is known,
its ids fit its content, and its file is named after what it holds.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

from keras_munet import errors
from keras_munet.core import canonical_json
from keras_munet.core import guarded_json
from keras_munet.core import names
from keras_munet.core import specs
from keras_munet.core import system_paths
from keras_munet.store import checksummed_json
from keras_munet.store import storage
from keras_munet.store import task_state

SYSTEM_FORMAT_VERSION = 1
PROGRESS_FORMAT_VERSION = 1
SYSTEM_FILE = system_paths.SYSTEM_FILE
# Held by the job that creates the system.
LOCK_FILE = "lock"
TASKS_DIR = "tasks"
PROGRESS_DIR = "progress"
# The progress before the newest, in case that one gets damaged.
PREVIOUS_DIR = "previous"
LEASES_DIR = "leases"
JOBS_DIR = "jobs"
# Shared by jobs that store objects which nothing names yet; alone by the one
# that collects.
OBJECTS_LOCK = "locks/objects"
# Settings and families are copied and compared level by level.
_NUM_LEVELS_MAX = 50
_COMPONENTS = '"components":'
_COMPONENTS_END = ']],"hparams":'
_JOB = re.compile(r"[0-9a-f]{16}")
Record = task_state.TaskState | task_state.RemovedTask


class MisnamedError(errors.StoreError):
    """A record's file is named after another task.

    Attributes:
      own_name: the name that it should have.
    """

    def __init__(self, message: str, own_name: str):
        super().__init__(message)
        self.own_name = own_name

    def is_copy(self, files: storage.Storage) -> bool:
        """Returns whether it is a copy, such as a program that syncs leaves."""
        return files.exists(self.own_name)


@dataclasses.dataclass(frozen=True)
class SystemRecord:
    """The content of `system.json`.

    Attributes:
      experiment: the settings, as plain JSON values.
      family: what paths look like, as plain JSON values.
      root: the root path.
      root_source: where its values come from, for people to read.
    """

    experiment: dict[str, Any]
    family: dict[str, Any]
    root: specs.PathRecord
    root_source: str

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "format_version": SYSTEM_FORMAT_VERSION,
            "experiment": self.experiment,
            "family": self.family,
            "root": self.root.to_json(),
            "root_source": self.root_source,
        }


@dataclasses.dataclass(frozen=True)
class ProgressRecord:
    """The content of a progress file.

    Attributes:
      task: the task whose iteration runs.
      follows: (task iterations done, published path id) of the task's state
        that the iteration started from; None before the first.
      payload: the caller's own values.
    """

    task: str
    follows: tuple[int, str] | None
    payload: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "format_version": PROGRESS_FORMAT_VERSION,
            "task": self.task,
            "follows": list(self.follows) if self.follows else None,
            "payload": self.payload,
        }


def task_file(task: str) -> str:
    """Returns the name of the file that holds a task's published state."""
    return _record_file(TASKS_DIR, task)


def progress_file(task: str) -> str:
    """Returns the name of the file that holds a running task iteration."""
    return _record_file(PROGRESS_DIR, task)


def previous_file(task: str) -> str:
    """Returns the name of the file with the progress before the newest."""
    return _record_file(PREVIOUS_DIR, task)


def lease_file(task: str) -> str:
    """Returns the name of the file that says who works on a task.

    Tasks that differ in capitals only share one: they may not both exist.
    """
    return _record_file(LEASES_DIR, task).lower()


def job_file(job: str) -> str:
    """Returns the name of the file that a job locks while it lives."""
    return f"{JOBS_DIR}/{job}"


def is_job_file(name: str) -> bool:
    """Returns whether `name` can be that of a job's file."""
    job = name.rpartition("/")[2]
    return name == job_file(job) and _JOB.fullmatch(job) is not None


def record_files(files: storage.Storage, folder: str) -> Iterator[str]:
    """Yields the names of the records in one of the folders of records.

    Other files there are no record: `check` names them.
    """
    for name in files.list(folder):
        if is_record_file(name, folder):
            yield name


def is_record_file(name: str, folder: str) -> bool:
    """Returns whether `name` can be that of a record in `folder`."""
    stem = name[len(folder) + 1 :].removesuffix(".json")
    try:
        return name == _record_file(folder, stem.replace("~", "/"))
    except errors.UsageError:
        return False


def is_lease_file(name: str) -> bool:
    """Returns whether `name` can be that of a lease."""
    return name == name.lower() and is_record_file(name, LEASES_DIR)


def read_system(files: storage.Storage) -> SystemRecord:
    """Returns the content of `system.json`.

    Raises:
      MissingFileError: there is none.
      StoreError: it is damaged, or newer than this program.
    """
    return parse_system(files.read(SYSTEM_FILE, checksummed_json.NUM_BYTES_MAX))


def parse_system(data: bytes) -> SystemRecord:
    """Returns what the bytes of `system.json` say.

    Raises:
      StoreError: they are damaged, or newer than this program.
    """
    body = checksummed_json.unseal(
        data, SYSTEM_FILE, version_max=SYSTEM_FORMAT_VERSION
    )
    try:
        record = SystemRecord(
            experiment=dict(body["experiment"]),
            family=dict(body["family"]),
            root=specs.PathRecord.from_json(body["root"]),
            root_source=str(body["root_source"]),
        )
        same = record.to_json() == body and record.root.is_root
        if guarded_json.nesting_depth(body) > _NUM_LEVELS_MAX:
            raise ValueError(f"it has more than {_NUM_LEVELS_MAX} levels")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(SYSTEM_FILE, error) from error
    if not same:
        raise _unreadable(SYSTEM_FILE, ValueError("it has unexpected parts"))
    return record


def read_task(
    files: storage.Storage, name: str
) -> task_state.TaskState | task_state.RemovedTask:
    """Returns the published state in the file `name`, or what is left of it.

    Raises:
      MissingFileError: there is none.
      StoreError: it is damaged, newer than this program, or another task's.
    """
    return parse_task(files.read(name, checksummed_json.NUM_BYTES_MAX), name)


def parse_task(
    data: bytes, name: str
) -> task_state.TaskState | task_state.RemovedTask:
    """Returns what the bytes of the file `name` say of its task.

    Raises:
      StoreError: they are damaged, newer than this program, or another
        task's.
    """
    state = _parse_quickly(data)
    if state is None:
        body = checksummed_json.unseal(
            data, name, version_max=task_state.FORMAT_VERSION
        )
        try:
            state = task_state.from_json(body)
        except ValueError as error:
            raise _unreadable(name, error) from error
    if name != task_file(state.task):
        raise _misnamed(name, state.task, TASKS_DIR)
    return state


def _parse_quickly(data: bytes) -> Record | None:
    """Returns the state whose sealed bytes are `data`; None if in doubt.

    A state that is written as these very bytes is what they say: no further
    comparison of its parts is needed. Of its components, most of the bytes,
    the text is verified, and nothing is made.
    """
    text = checksummed_json.unsealed_text(data)
    if text is None:
        return None
    start = text.find(_COMPONENTS) + len(_COMPONENTS)
    end = text.find(_COMPONENTS_END, start) + 2
    rest = f"{text[:start]}[]{text[end:]}"
    try:
        body = json.loads(rest)
        refs = specs.RefsText(text[start:end])
        body["published"]["components"] = refs
        state = task_state.TaskState.parse(body)
        value = state.to_json(with_components=False)
        if canonical_json.dumps(value) == rest:
            return state
    except (
        *(KeyError, TypeError, ValueError, AttributeError, RecursionError),
        errors.MunetError,
    ):
        pass
    return None


def base_of(files: storage.Storage, task: str) -> tuple[int, str] | None:
    """Returns what progress of a task must follow to be of use now.

    Raises:
      StoreError: the task's record is damaged or cannot be read.
    """
    try:
        return base_of_record(read_task(files, task_file(task)))
    except storage.MissingFileError:
        return None


def base_of_record(record: Record | None) -> tuple[int, str] | None:
    """Returns what progress of a task with this record must follow."""
    if record is None:
        return None
    if isinstance(record, task_state.RemovedTask):
        return record.num_iterations_done, ""
    return record.num_iterations_done, record.published.id


def read_progress(files: storage.Storage, name: str) -> ProgressRecord:
    """Returns the progress in the file `name`.

    Raises:
      MissingFileError: there is none.
      StoreError: it is damaged, newer than this program, or another task's.
    """
    return parse_progress(
        files.read(name, checksummed_json.NUM_BYTES_MAX), name
    )


def parse_progress(data: bytes, name: str) -> ProgressRecord:
    """Returns what the bytes of the file `name` say of an iteration.

    Raises:
      StoreError: they are damaged, newer than this program, or another
        task's.
    """
    body = checksummed_json.unseal(
        data, name, version_max=PROGRESS_FORMAT_VERSION
    )
    try:
        follows = body["follows"]
        if follows is not None:
            num_iterations_done, path_id = follows
            follows = (num_iterations_done, path_id)
        progress = ProgressRecord(body["task"], follows, dict(body["payload"]))
        same = progress.to_json() == body
        named = name in (
            progress_file(progress.task),
            previous_file(progress.task),
        )
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        errors.UsageError,
    ) as error:
        raise _unreadable(name, error) from error
    if not same:
        raise _unreadable(name, ValueError("it has unexpected parts"))
    if not named:
        raise _misnamed(name, progress.task, name.partition("/")[0])
    return progress


def _record_file(folder: str, task: str) -> str:
    bare, private = names.split_private(task)
    if private:
        raise errors.UsageError(
            f"{task!a} is no bare task name; the store knows this task as "
            f"{bare!a}"
        )
    return f"{folder}/{names.file_name(task)}.json"


def _unreadable(name: str, error: Exception) -> errors.StoreError:
    return errors.StoreError(
        f"{name} is intact but wrong: {' '.join(str(error).split())}; restore "
        "it from a copy of the system"
    )


def _misnamed(name: str, task: str, folder: str) -> MisnamedError:
    own_name = _record_file(folder, task)
    return MisnamedError(
        f"{name} holds the task {task!a}; a file is named after its task: "
        f"give it its old name {own_name} again, or move it away if that is "
        "there",
        own_name,
    )
