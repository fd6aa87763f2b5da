"""Removal of what nothing references.

Invariant: nothing is removed before every record has been read, so a record
that cannot be read never costs the objects it names; and no job stores an
object that nothing names yet while objects are removed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Collection
from collections.abc import Iterable

from keras_munet.core import unfinished
from keras_munet.store import codec
from keras_munet.store import layout
from keras_munet.store import leases
from keras_munet.store import objects
from keras_munet.store import progress_files
from keras_munet.store import storage
from keras_munet.store import task_record_cache

# Jobs store what a generation made within seconds, then train.
QUIET_SECS = 30.0
# A job that tidies up does not wait: another will.
TIDY_SECS = 0.2


@dataclasses.dataclass(frozen=True)
class CollectReport:
    """The number of objects that `collect_garbage` removed, or would remove.

    Attributes:
      num_objects: objects that nothing references.
      num_bytes: their size.
      num_temporaries: unfinished writes.
      num_young: objects that nothing references either, but that were
        written so lately that they stay.
    """

    num_objects: int
    num_bytes: int
    num_temporaries: int
    num_young: int = 0


def collect_garbage(
    files: storage.Storage,
    store: objects.ObjectStore,
    records: task_record_cache.TaskRecords,
    job: leases.JobLeases,
    suspects: Collection[str] | None,
    *,
    keep: Iterable[str] = (),
    dry_run: bool = False,
    grace_secs: float = 0.0,
    num_secs: float = QUIET_SECS,
) -> CollectReport | None:
    """Removes unreferenced objects, and what dead jobs left behind.

    Args:
      files: of the system.
      store: its objects.
      records: of its tasks.
      job: that collects.
      suspects: the only objects to look at; None looks at all of them, and
        at unfinished writes and traces of dead jobs too.
      keep: ids of objects that stay although no record names them.
      dry_run: whether to report only.
      grace_secs: objects that were written later than that stay.
      num_secs: how long to wait until no job stores objects.

    Returns:
      None, with nothing removed, if other jobs do not stop storing objects.

    Raises:
      StoreError: a record cannot be read; nothing has been removed. Progress
        whose bytes are damaged counts as absent instead, with a warning.
    """
    if dry_run:
        return _collect(
            files, store, records, suspects, set(keep), grace_secs, dry_run
        )
    if suspects is None:
        # In a bucket this takes a while, in which other jobs go on.
        leases.list_jobs(files)
    try:
        quiet = storage.wait_for_lock(
            lambda: files.lock(layout.OBJECTS_LOCK, str(os.getpid())),
            num_secs,
        )
    except storage.NotInTimeError:
        return None
    try:
        with job.quiet():
            if suspects is None:
                # First, or an interruption would leave progress that names
                # objects which are gone.
                progress_files.remove_stale(files)
            garbage = _collect(
                files, store, records, suspects, set(keep), grace_secs, dry_run
            )
            if suspects is None:
                _remove_dead_jobs(files)
            return garbage
    finally:
        quiet.release()


def _collect(
    files: storage.Storage,
    store: objects.ObjectStore,
    records: task_record_cache.TaskRecords,
    suspects: Collection[str] | None,
    keep: set[str],
    grace_secs: float,
    dry_run: bool,
) -> CollectReport:
    records.refresh(is_exact=True)
    used = keep | _used_besides_paths(files, records, suspects)
    everything = sorted(suspects) if suspects is not None else store.ids()
    unused = [i for i in everything if i not in used and i not in records.users]
    if suspects is not None:
        unused = [i for i in unused if store.has(i)]
    num_unused = len(unused)
    if grace_secs > 0:
        unused = [
            i
            for i in unused
            if files.age_secs(codec.file_name(i)) >= grace_secs
        ]
    num_bytes = sum(map(store.num_bytes, unused))
    temporaries = [] if suspects is not None else _abandoned(files)
    if not dry_run:
        for object_id in unused:
            store.delete(object_id)
        for name in temporaries:
            files.delete(name)
    return CollectReport(
        len(unused), num_bytes, len(temporaries), num_unused - len(unused)
    )


def _used_besides_paths(
    files: storage.Storage,
    records: task_record_cache.TaskRecords,
    suspects: Collection[str] | None,
) -> set[str]:
    """Returns the ids of objects in use that no task's path may name.

    Args:
      files: of the system.
      records: of its tasks.
      suspects: the only objects that matter; None for all.
    """
    used = {ref.id for ref in layout.read_system(files).root.components}
    find_record = records.find_cached
    used.update(progress_files.used_object_ids(files, find_record, suspects))
    lease_list = [lease for _, lease in leases.all_leases(files) if lease]
    # Together: in a bucket each would wait for a renewal.
    living = leases.living_jobs(files, {lease.job for lease in lease_list})
    for lease in lease_list:
        if lease.job in living:
            used.update(lease.uses)
    return used


def _abandoned(files: storage.Storage) -> list[str]:
    """Returns the unfinished writes that no process goes on with."""
    abandoned = []
    for name in files.temporaries():
        # Finished since it was listed.
        with contextlib.suppress(storage.MissingFileError):
            if unfinished.is_abandoned(name, files.age_secs(name)):
                abandoned.append(name)
    return abandoned


def _remove_dead_jobs(files: storage.Storage) -> None:
    """Removes the traces of jobs whose rubbish has been removed."""
    all_leases = list(leases.all_leases(files))
    living = leases.living_jobs(files, {x.job for _, x in all_leases if x})
    for name, lease in all_leases:
        if lease is None:
            files.delete(name)
        elif lease.job not in living:
            files.compare_and_swap(name, lease.to_bytes(), None, durable=False)
    for job, alive in leases.list_jobs(files).items():
        if not alive:
            files.delete(layout.job_file(job))
