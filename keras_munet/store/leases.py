"""Leases tasks to jobs: one lease per task, one lock per living job.

Invariant: a task has one holder at a time. A job that dies frees its tasks at
once, as the kernel frees the lock it holds while it lives; one that is stopped
loses them when its leases have not been renewed for a while, and cannot renew
them afterwards. That while is measured by the waiter, on a clock that cannot
jump. A job leaves its lock's file behind unless it left no rubbish.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from keras_munet import errors
from keras_munet.store import checksummed_json
from keras_munet.store import layout
from keras_munet.store import storage

LEASE_SECS = 120.0
_NUM_BEATS_PER_LEASE = 6
_START_SECS = 10.0
_FORMAT_VERSION = 1


class TaskHeldError(errors.UsageError):
    """Another job works on the task."""


class LeaseLostError(errors.StoreError):
    """This job stood still for so long that another took its task over."""


@dataclasses.dataclass(frozen=True)
class Lease:
    """The content of a lease's file.

    Attributes:
      task: the task, in small letters.
      job: the job's id.
      holder: who that is, for people.
      num_beats: how often it was renewed.
      uses: ids of objects that the job relies on although no record of its
        own names them yet.
    """

    task: str
    job: str
    holder: str
    num_beats: int = 0
    uses: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """Returns the bytes of its file."""
        value = dataclasses.asdict(self)
        value.update(format_version=_FORMAT_VERSION, uses=list(self.uses))
        return checksummed_json.seal(value, layout.lease_file(self.task))

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Lease:
        """Returns the lease that `to_bytes` wrote.

        Raises:
          DamagedError: it is none.
          StoreError: it is newer than this program.
        """
        body = checksummed_json.unseal(data, name, version_max=_FORMAT_VERSION)
        try:
            lease = _lease(body)
            same = lease.to_bytes() == data
            same = same and name == layout.lease_file(lease.task)
        except (KeyError, TypeError, ValueError, errors.MunetError) as error:
            raise checksummed_json.DamagedError(
                f"{name} is no lease: {' '.join(str(error).split())}; delete it"
            ) from error
        if not same:
            raise checksummed_json.DamagedError(
                f"{name} is another lease; delete it"
            )
        return lease


class JobLeases:
    """The leases of one process on one system, and the sign that it lives.

    Args:
      files: of the system.
      lease_secs: how long a lease that is not renewed is respected.
    """

    def __init__(
        self, files: storage.Storage, lease_secs: float = LEASE_SECS
    ) -> None:
        self._files = files
        self._lease_secs = lease_secs
        self._holder = f"pid {os.getpid()} on {socket.gethostname()}"
        self._id = ""
        self._alive: storage.Lock | None = None
        self._leases: dict[str, tuple[Lease, bytes]] = {}
        # Leases of others: their bytes, and when this job first saw these.
        self._watched: dict[str, tuple[bytes, float]] = {}
        self._ended = threading.Event()
        self._mutex = threading.RLock()
        # Whether a later job must look for what this one left.
        self.leaves_rubbish = False

    @property
    def id(self) -> str:
        """Names the job among those of the system; empty before the first."""
        return self._id

    def holds(self, task: str) -> bool:
        """Returns whether this job has the task (and noticed no loss)."""
        return layout.lease_file(task) in self._leases

    def take(self, task: str) -> bool:
        """Makes this job the only one that may change `task`.

        Returns:
          Whether another job left its lease, and may go on without it.

        Raises:
          TaskHeldError: another job (or another object of this process) has
            it, and has renewed its lease lately.
          StoreError: the place cannot be written.
        """
        name = layout.lease_file(task)
        with self._mutex:
            current = _read(self._files, name)
            other = _lease_or_none(current, name)
            if other is not None and not self._may_be_taken(
                name, current, other
            ):
                raise TaskHeldError(
                    f"another job ({other.holder}) is working on the task "
                    f"{task!a} of {self._files.where}; wait until it ends, or "
                    "choose another task"
                )
            self._start()
            lease = Lease(task.lower(), self._id, self._holder)
            data = lease.to_bytes()
            if not self._files.compare_and_swap(
                name, current, data, durable=False
            ):
                raise TaskHeldError(
                    f"another job has just taken the task {task!a} of "
                    f"{self._files.where}; wait until it ends, or choose "
                    "another task"
                )
            self._watched.pop(name, None)
            self._leases[name] = lease, data
            return current is not None

    def confirm(self, task: str, uses: Iterable[str] | None = None) -> None:
        """Renews a lease now.

        Args:
          task: its task.
          uses: ids of what the job relies on; None leaves them as they are.

        Raises:
          LeaseLostError: another job has taken the task over.
        """
        name = layout.lease_file(task)
        uses = None if uses is None else tuple(uses)
        with self._mutex:
            if name not in self._leases or not self._renew(name, uses):
                raise LeaseLostError(
                    f"another job has taken the task {task!a} of "
                    f"{self._files.where} over, as this one did not answer for "
                    f"{self._lease_secs:.0f} s; nothing published is lost, "
                    "run again to continue"
                )

    def release(self, task: str) -> None:
        """Lets others have the task; the last one ends the job."""
        name = layout.lease_file(task)
        with self._mutex:
            _, data = self._leases.pop(name, (None, None))
            if data is not None:
                # One that stays ends with this job all the same.
                with contextlib.suppress(errors.StoreError):
                    self._files.compare_and_swap(
                        name, data, None, durable=False
                    )
            if not self._leases:
                self._end()

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Keeps the thread that renews from writing within a block."""
        with self._mutex:
            yield

    def _may_be_taken(
        self, name: str, data: bytes | None, lease: Lease
    ) -> bool:
        if not is_alive(self._files, lease.job):
            return True
        now = time.monotonic()
        last_data, since = self._watched.get(name, (None, now))
        if last_data != data:
            since = now
        assert data is not None
        self._watched[name] = data, since
        return now - since >= self._lease_secs

    def _start(self) -> None:
        if self._alive is not None:
            return
        self._id = secrets.token_hex(8)
        # Another process may be testing just now whether this file is locked.
        self._alive = storage.wait_for_lock(
            lambda: self._files.lock(layout.job_file(self._id), self._holder),
            _START_SECS,
        )
        self.leaves_rubbish = False
        self._ended = threading.Event()
        threading.Thread(
            target=self._beat, args=(self._ended,), daemon=True
        ).start()

    def _end(self) -> None:
        alive, self._alive = self._alive, None
        if alive is None:
            return
        self._ended.set()
        try:
            if not self.leaves_rubbish:
                self._files.delete(layout.job_file(self._id))
        finally:
            alive.release()

    def _renew(self, name: str, uses: tuple[str, ...] | None = None) -> bool:
        """Writes a lease again; returns False, forgetting it, if it is lost."""
        lease, data = self._leases[name]
        renewed = dataclasses.replace(
            lease,
            num_beats=lease.num_beats + 1,
            uses=lease.uses if uses is None else uses,
        )
        new = renewed.to_bytes()
        if not self._files.compare_and_swap(name, data, new, durable=False):
            del self._leases[name]
            return False
        self._leases[name] = renewed, new
        return True

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(self._lease_secs / _NUM_BEATS_PER_LEASE):
            with self._mutex:
                if ended.is_set():
                    return
                for name in list(self._leases):
                    # What the disk refuses is raised where the job writes.
                    with contextlib.suppress(errors.StoreError):
                        self._renew(name)


def is_alive(files: storage.Storage, job: str) -> bool:
    """Returns whether a job's process still runs."""
    return bool(files.locks_in_use([layout.job_file(job)]))


def living_jobs(files: storage.Storage, jobs: Iterable[str]) -> set[str]:
    """Returns those of some jobs whose processes still run."""
    names = {layout.job_file(job): job for job in jobs}
    return {names[name] for name in files.locks_in_use(names)}


def list_jobs(files: storage.Storage) -> dict[str, bool]:
    """Returns every job that left a trace, and whether it still runs."""
    names = [n for n in files.list(layout.JOBS_DIR) if layout.is_job_file(n)]
    in_use = files.locks_in_use(names)
    return {name.rpartition("/")[2]: name in in_use for name in names}


def has_traces(files: storage.Storage) -> bool:
    """Returns whether a job that has ended left something behind."""
    if any(not alive for alive in list_jobs(files).values()):
        return True
    # A loss of power may leave a torn lease and take the job's mark.
    return any(lease is None for _, lease in all_leases(files))


def all_leases(files: storage.Storage) -> Iterator[tuple[str, Lease | None]]:
    """Yields (file name, its lease; None for one that is damaged)."""
    for name in files.list(layout.LEASES_DIR):
        if not layout.is_lease_file(name):
            continue
        data = _read(files, name)
        if data is not None:
            yield name, _lease_or_none(data, name)


def _read(files: storage.Storage, name: str) -> bytes | None:
    try:
        return files.read(name, checksummed_json.NUM_BYTES_MAX)
    except storage.MissingFileError:
        return None


def _lease_or_none(data: bytes | None, name: str) -> Lease | None:
    """Returns a lease; None for no file and for one that is damaged.

    No job waits for a damaged one: its holder cannot renew it either.
    """
    if data is None:
        return None
    try:
        return Lease.from_bytes(data, name)
    except checksummed_json.DamagedError:
        return None


def _lease(body: Mapping[str, Any]) -> Lease:
    lease = Lease(
        task=body["task"],
        job=body["job"],
        holder=body["holder"],
        num_beats=body["num_beats"],
        uses=tuple(body["uses"]),
    )
    texts = (lease.task, lease.job, lease.holder, *lease.uses)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("its parts are not texts")
    storage.check_name(layout.job_file(lease.job))
    return lease
