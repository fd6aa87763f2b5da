"""Removal of what nothing references.

Invariant: nothing is removed before every record has been read, so a record
that cannot be read never costs the objects it names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from keras_munet.store import interface
from keras_munet.store import layout
from keras_munet.store import objects
from keras_munet.store import references
from keras_munet.store import sealed
from keras_munet.store import task_state


@dataclasses.dataclass(frozen=True)
class CollectReport:
    """What `collect` removed, or would have.

    Attributes:
      num_objects: objects that nothing references.
      num_bytes: their size.
      num_temporaries: unfinished writes.
    """

    num_objects: int
    num_bytes: int
    num_temporaries: int


def collect(
    files: interface.Files,
    store: objects.ObjectStore,
    keep: Iterable[str],
    *,
    dry_run: bool,
) -> CollectReport:
    """Removes unreferenced objects and unfinished writes.

    Args:
      files: of the system; nobody else may be writing to it.
      store: its objects.
      keep: ids of objects that stay although no record names them.
      dry_run: whether to report only.

    Raises:
      StoreError: a record cannot be read; nothing has been removed. Progress
        whose bytes are damaged counts as absent instead, with a warning.
    """
    used = set(keep)
    used.update(r.id for r in layout.read_system(files).root.components)
    for name in layout.record_files(files, layout.TASKS_DIR):
        state = layout.read_task(files, name)
        if isinstance(state, task_state.TaskState):
            used.update(ref.id for ref in state.published.components)
    for name in layout.record_files(files, layout.PROGRESS_DIR):
        try:
            progress = layout.read_progress(files, name)
        except sealed.DamagedError as error:
            # It counts as absent. One that is newer than this program, or
            # that the disk refuses just now, does not.
            layout.warn_of_progress(name, error)
        else:
            used.update(references.object_ids(progress.payload))
    unused = [i for i in store.ids() if i not in used]
    num_bytes = sum(map(store.num_bytes, unused))
    temporaries = list(files.temporaries())
    if not dry_run:
        for object_id in unused:
            store.delete(object_id)
        for name in temporaries:
            files.delete(name)
    return CollectReport(len(unused), num_bytes, len(temporaries))
