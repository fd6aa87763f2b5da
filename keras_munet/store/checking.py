"""Whether a system is what it was: every hash, reference and rule.

Invariant: what is reported is damage. What an interrupted job leaves behind
(unreferenced objects, unfinished writes) is none; `collect` removes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator

from keras_munet import errors
from keras_munet.core import lineage
from keras_munet.core import specs
from keras_munet.store import codec
from keras_munet.store import interface
from keras_munet.store import layout
from keras_munet.store import objects
from keras_munet.store import references
from keras_munet.store import task_state

_Record = task_state.TaskState | task_state.RemovedTask | layout.Progress


def problems(files: interface.Files) -> Iterator[str]:
    """Yields one line per problem of the system in `files`; none if clean.

    Every object is read once, one at a time.
    """
    found, wrong = _objects(files)
    yield from wrong
    paths: list[specs.PathRecord] = []
    try:
        root = layout.read_system(files).root
        paths.append(root)
        yield from _missing(layout.SYSTEM_FILE, root.components, found)
    except errors.StoreError as error:
        yield str(error)
    states: list[task_state.TaskState] = []
    retired: dict[str, str | None] = {}
    for name, record in _records(files, layout.TASKS_DIR):
        if isinstance(record, str):
            yield record
            continue
        assert not isinstance(record, layout.Progress)
        retired.update(record.retired)
        if isinstance(record, task_state.TaskState):
            states.append(record)
            paths.append(record.published)
            yield from _missing(name, record.published.components, found)
    for name, record in _records(files, layout.PROGRESS_DIR):
        if isinstance(record, str):
            yield record
        elif isinstance(record, layout.Progress):
            refs = references.component_refs(record.payload)
            yield from _missing(name, refs, found)
    yield from _orphans(paths, states, retired)


def _objects(
    files: interface.Files,
) -> tuple[dict[str, specs.ComponentSpec | None], list[str]]:
    """Returns (id -> spec, None for a damaged object) and the problems."""
    found: dict[str, specs.ComponentSpec | None] = {}
    wrong = []
    for name in files.list(codec.OBJECTS_DIR):
        object_id = codec.id_of_file(name)
        if object_id is None:
            wrong.append(_unknown(name))
            continue
        try:
            data = files.read(name, objects.OBJECT_NUM_BYTES_MAX)
            found[object_id] = codec.decode(data, object_id).spec
        except errors.StoreError as error:
            found[object_id] = None
            wrong.append(str(error))
    return found, wrong


def _records(
    files: interface.Files, folder: str
) -> Iterator[tuple[str, _Record | str]]:
    """Yields (file name, its record or the problem with it)."""
    for name in files.list(folder):
        if not layout.is_record_file(name, folder):
            yield name, _unknown(name)
            continue
        try:
            if folder == layout.TASKS_DIR:
                yield name, layout.read_task(files, name)
            else:
                yield name, layout.read_progress(files, name)
        except errors.StoreError as error:
            yield name, str(error)


def _missing(
    name: str,
    refs: Iterable[specs.ComponentRef],
    found: dict[str, specs.ComponentSpec | None],
) -> Iterator[str]:
    for ref in refs:
        if ref.id not in found:
            yield (
                f"{name} needs the object {ref.id} ({ref.name!a}), which does "
                "not exist; restore it from a copy of the system"
            )
            continue
        spec = found[ref.id]
        if spec is not None:
            try:
                objects.check_ref(ref, spec)
            except errors.StoreError as error:
                yield f"{name}: {error}"


def _orphans(
    paths: list[specs.PathRecord],
    states: list[task_state.TaskState],
    retired: dict[str, str | None],
) -> Iterator[str]:
    """Yields the paths whose lineage does not lead to a living path."""
    living = {path.id: path for path in paths}
    for state in states:
        path = state.published
        try:
            if lineage.living_parent(path, living, retired) is None:
                yield (
                    f"the parent {path.parent!a} of {state.task}'s path "
                    f"{path.id} leads to no living path; restore the task it "
                    "belonged to from a copy of the system"
                )
        except errors.StoreError as error:
            yield str(error)


def _unknown(name: str) -> str:
    return f"{name!a} is no part of a system; move it away"
