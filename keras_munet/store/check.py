"""Verifies a system: every hash, reference and rule.

Invariant: what is reported is damage. What an interrupted job leaves behind
(unreferenced objects, unfinished writes) is none; `collect` removes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from concurrent import futures
from typing import TypeVar

from keras_munet import errors
from keras_munet.core import lineage
from keras_munet.core import specs
from keras_munet.store import codec
from keras_munet.store import layout
from keras_munet.store import leases
from keras_munet.store import objects
from keras_munet.store import references
from keras_munet.store import storage
from keras_munet.store import task_state

# The size of a head's config that says for how many classes it is.
_NUM_CLASSES = "num_classes"
_NUM_AT_ONCE = 1000
_Task = task_state.TaskState | task_state.RemovedTask
_Record = TypeVar("_Record")


def find_problems(
    files: storage.Storage, num_threads: int = 1
) -> Iterator[str]:
    """Yields one line per problem of the system in `files`; none if clean.

    Every object is read once. A folder that cannot be listed is a problem
    too, and ends the check.

    Args:
      files: of the system.
      num_threads: how many objects are read at a time.
    """
    is_whole = True
    try:
        for problem in _problems(files, num_threads):
            is_whole = False
            yield problem
        # What is wrong with a record explains what the journal lacks.
        lack = files.journal_problem(layout.TASKS_DIR) if is_whole else None
        if lack is not None:
            yield f"{lack}; delete it: it is made anew"
    except errors.StoreError as error:
        yield str(error)


def _problems(files: storage.Storage, num_threads: int) -> Iterator[str]:
    # Records first: what a job publishes meanwhile, these do not name yet.
    system = None
    try:
        system = layout.read_system(files)
    except errors.StoreError as error:
        yield str(error)
    tasks: dict[str, _Task] = {}
    all_read = system is not None
    for name, record in _records(files, layout.TASKS_DIR, layout.read_task):
        if isinstance(record, str):
            all_read = False
            yield record
        else:
            tasks[name] = record
    used: dict[str, list[specs.ComponentRef]] = {}
    for folder in (layout.PROGRESS_DIR, layout.PREVIOUS_DIR):
        for name, progress in _records(files, folder, layout.read_progress):
            if isinstance(progress, str):
                yield progress
            elif _is_current(files, progress):
                used[name] = list(references.component_refs(progress.payload))
    specs_by_id, wrong = _objects(files, num_threads)
    yield from wrong
    yield from record_problems(system, tasks, specs_by_id, all_read=all_read)
    for name, refs in used.items():
        yield from _missing_components(name, refs, specs_by_id)
    yield from _running_jobs(files)


def record_problems(
    system: layout.SystemRecord | None,
    tasks: Mapping[str, _Task],
    specs_by_id: Mapping[str, specs.ComponentSpec | None],
    *,
    all_read: bool = True,
) -> Iterator[str]:
    """Yields what records say that cannot be, one line each.

    Args:
      system: what `system.json` holds; None if that is not known.
      tasks: file name -> record.
      specs_by_id: object id -> its spec; None for one that is damaged.
      all_read: whether no record is left out; else a lineage may lead to one
        that is.
    """
    living: dict[str, specs.PathRecord] = {}
    if system is not None:
        living[system.root.id] = system.root
        yield from _missing_components(
            layout.SYSTEM_FILE, system.root.components, specs_by_id
        )
    retired: dict[str, str | None] = {}
    small: dict[str, str] = {}
    for name, record in tasks.items():
        retired.update(record.retired)
        other = small.setdefault(name.lower(), name)
        if other != name:
            yield (
                f"{name} and {other} differ in capitals only, which some file "
                "systems do not tell apart; remove one of the tasks"
            )
        if isinstance(record, task_state.TaskState):
            path = record.published
            living[path.id] = path
            yield from _missing_components(name, path.components, specs_by_id)
            yield from other_class_counts(name, record, specs_by_id)
    for record in tasks.values():
        if isinstance(record, task_state.TaskState):
            yield from _orphan(record, living, retired, all_read)


def other_class_counts(
    name: str,
    state: task_state.TaskState,
    specs_by_id: Mapping[str, specs.ComponentSpec | None],
) -> Iterator[str]:
    """Yields a problem if a path's head has not a task's number of classes.

    Args:
      name: of the task's record, for the message.
      state: what it holds.
      specs_by_id: object id -> its spec; None for one that is damaged.
    """
    for ref in state.published.components:
        spec = specs_by_id.get(ref.id)
        if spec is None or _NUM_CLASSES not in spec.config:
            continue
        num_units = spec.config[_NUM_CLASSES]
        widths = {shape[-1] for _, shape in spec.weights if shape}
        if num_units != state.num_classes or widths != {num_units}:
            yield (
                f"{name} says that its task has {state.num_classes} classes; "
                f"its path's {ref.name!a} is made for {num_units!a} and has "
                f"weights for {', '.join(map(str, sorted(widths)))}; restore "
                "the record from a copy of the system"
            )


def _running_jobs(files: storage.Storage) -> Iterator[str]:
    """Yields problems of the folders that jobs leave their marks in."""
    for folder, is_mark in (
        (layout.LEASES_DIR, layout.is_lease_file),
        (layout.JOBS_DIR, layout.is_job_file),
    ):
        for name in files.list(folder):
            if not is_mark(name):
                yield _unknown(name)
    for name, lease in leases.all_leases(files):
        if lease is None:
            yield f"{name} is no lease, or damaged; collect removes it"


def _objects(
    files: storage.Storage, num_threads: int
) -> tuple[dict[str, specs.ComponentSpec | None], list[str]]:
    """Returns (id -> spec, None for a damaged object) and the problems."""
    specs_by_id: dict[str, specs.ComponentSpec | None] = {}
    # Millions of objects have a few specs.
    distinct: dict[specs.ComponentSpec, specs.ComponentSpec] = {}
    wrong = []

    def verified(name: str) -> specs.ComponentSpec | errors.StoreError | None:
        object_id = codec.id_of_file(name)
        if object_id is None:
            return None
        try:
            data = files.read(name, objects.OBJECT_NUM_BYTES_MAX)
            return codec.decode(data, object_id).spec
        except errors.StoreError as error:
            return error

    names = files.list(codec.OBJECTS_DIR)
    with futures.ThreadPoolExecutor(num_threads) as executor:
        # Not all at once: each that waits takes memory.
        while part := list(itertools.islice(names, _NUM_AT_ONCE)):
            for name, spec in zip(
                part, executor.map(verified, part), strict=True
            ):
                object_id = codec.id_of_file(name)
                if object_id is None:
                    wrong.append(_unknown(name))
                elif isinstance(spec, specs.ComponentSpec):
                    specs_by_id[object_id] = distinct.setdefault(spec, spec)
                else:
                    specs_by_id[object_id] = None
                    wrong.append(str(spec))
    return specs_by_id, wrong


def _records(
    files: storage.Storage,
    folder: str,
    read: Callable[[storage.Storage, str], _Record],
) -> Iterator[tuple[str, _Record | str]]:
    """Yields (file name, its record or the problem with it)."""
    for name in files.list(folder):
        if not layout.is_record_file(name, folder):
            yield name, _unknown(name)
            continue
        try:
            yield name, read(files, name)
        except storage.MissingFileError:
            # Removed by a job since it was listed.
            continue
        except errors.StoreError as error:
            yield name, str(error)


def _is_current(
    files: storage.Storage, progress: layout.ProgressRecord
) -> bool:
    """Returns whether a job can continue it; others report a damaged task.

    A loss of power may bring progress back that was cleared, without what it
    named.
    """
    try:
        return progress.follows == layout.base_of(files, progress.task)
    except errors.StoreError:
        return True


def _missing_components(
    name: str,
    refs: Iterable[specs.ComponentRef],
    specs_by_id: Mapping[str, specs.ComponentSpec | None],
) -> Iterator[str]:
    for ref in refs:
        if ref.id not in specs_by_id:
            yield (
                f"{name} needs the object {ref.id} ({ref.name!a}), which does "
                "not exist; restore it from a copy of the system"
            )
            continue
        spec = specs_by_id[ref.id]
        if spec is not None:
            try:
                objects.check_ref(ref, spec)
            except errors.StoreError as error:
                yield f"{name}: {error}"


def _orphan(
    state: task_state.TaskState,
    living: Mapping[str, specs.PathRecord],
    retired: Mapping[str, str | None],
    all_read: bool,
) -> Iterator[str]:
    """Yields a problem if a path's lineage leads to no living path."""
    path = state.published
    try:
        parent = lineage.living_parent(path, living, retired)
        if parent is None and all_read:
            yield (
                f"the parent {path.parent!a} of {state.task}'s path "
                f"{path.id} leads to no living path; restore the task it "
                "belonged to from a copy of the system"
            )
    except errors.StoreError as error:
        yield str(error)


def _unknown(name: str) -> str:
    return f"{name!a} is no part of a system; move it away"
