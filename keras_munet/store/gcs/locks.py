"""Locks in a bucket: leases that their holders renew, and that end untouched.

Invariant: a waiter breaks a lock only after its object's generation has
not changed for the whole term on the waiter's own clock; and the holder of a
lock that was not renewed for half the term asks the bucket before it writes
again, so that one who stood still finds out and writes nothing. No two
machines' clocks are compared.

A lock held alone is the object of its name, empty while it is free. Those who
share it have an object each in `SHARED_DIR`. Each kind is written first and
then looks for the other, so two who exclude each other cannot both have it.
"""

from __future__ import annotations

import collections
import contextlib
import json
import random
import secrets
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable

from keras_munet import errors
from keras_munet.store import storage
from keras_munet.store.gcs import bucket as bucket_lib

TERM_SECS = 30.0
# Objects of this folder are no files of the system.
SHARED_DIR = ".shared-locks"
_NUM_BEATS_PER_TERM = 6
_NUM_LOOKS_PER_TERM = 60
_NUM_BYTES_MAX = 1000
_NUM_READS_MAX = 5
_NUM_HOLDER_CHARS = 200
_FORMAT_VERSION = 1
_FREE = b""


class LockLostError(errors.StoreError):
    """This process stood still for so long that its lock was broken."""


class Locks:
    """The locks of one folder that this process holds or waits for.

    Args:
      bucket: the folder.
      term_secs: how long a lock that is not renewed is respected.
    """

    def __init__(self, bucket: bucket_lib.Bucket, term_secs: float = TERM_SECS):
        self._bucket = bucket
        self._term_secs = term_secs
        self._mutex = threading.Lock()
        self._own_locks: set[_RenewedLock] = set()
        # Object -> the generation seen last, since when, and whether another
        # was seen before it.
        self._watched: dict[str, tuple[int, float, bool]] = {}

    def verify(self) -> None:
        """Makes sure that every lock is still held, before a write.

        Raises:
          LockLostError: one was broken.
          StoreError: the bucket cannot be read.
        """
        with self._mutex:
            own_locks = list(self._own_locks)
        for lock in own_locks:
            lock.verify()

    def acquire(self, name: str, holder: str, *, shared: bool) -> storage.Lock:
        """Takes a lock; see `storage.Storage.lock`.

        If another has it, this waits until it is known whether that one
        lives: a renewal at most, or the term for one that does not. One that
        was seen to renew within the last half of a term counts as living.

        Raises:
          LockHeldError: a holder has it who lives.
          StoreError: the bucket cannot be written.
        """
        while True:
            if shared:
                lock = self._take_shared(name, holder)
            else:
                lock = self._take_alone(name, holder)
            if lock is not None:
                return lock
            self._pause()

    def exclusive_locks(self, names: Iterable[str]) -> set[str]:
        """Returns the locks that a holder has alone who lives.

        All are watched within the same term. Those of dead holders are made
        free, so that one who only stood still finds out.
        """
        names_in_use = set()
        undecided = set(names)
        while True:
            infos = self._find_all(undecided)
            for name in sorted(undecided):
                info = infos.get(name)
                try:
                    if self._free_generation(name, info, "") is None:
                        continue
                except storage.LockHeldError:
                    names_in_use.add(name)
                undecided.remove(name)
            if not undecided:
                return names_in_use
            self._pause()

    def _pause(self) -> None:
        """Waits before the next look, not as long as others who look."""
        mean_secs = self._term_secs / _NUM_LOOKS_PER_TERM
        time.sleep(mean_secs * random.uniform(0.5, 1.5))

    def _take_alone(self, name: str, holder: str) -> storage.Lock | None:
        """Returns the lock; None if its holder must be watched."""
        generation = self._look_alone(name)
        if generation is None or not self._look_shared(name):
            return None
        lock = self._new(name, name, holder, generation, keeps=True)
        if lock is not None and any(self._shared(name)):
            # Another came to share it in the meantime, and may have it.
            lock.release()
            return None
        return lock

    def _take_shared(self, name: str, holder: str) -> storage.Lock | None:
        """Returns the lock; None if its holder must be watched."""
        if self._look_alone(name) is None:
            return None
        own = _shared_start(name) + secrets.token_hex(8)
        lock = self._new(name, own, holder, 0, keeps=False)
        if lock is not None and _is_taken(self._bucket.find(name)):
            lock.release()
            return None
        return lock

    def _look_alone(self, name: str) -> int | None:
        """Returns the generation of the object of a lock that is free.

        A dead holder's is made free.

        Returns:
          0 if there is no object; None if one holder has the lock alone.
        """
        return self._free_generation(name, self._bucket.find(name))

    def _find_all(
        self, names: Iterable[str]
    ) -> dict[str, bucket_lib.ObjectInfo]:
        """Returns the objects of locks; those of one folder by one request."""
        by_folder = collections.defaultdict(list)
        for name in names:
            by_folder[name.rpartition("/")[0]].append(name)
        infos: dict[str, bucket_lib.ObjectInfo] = {}
        for folder, members in by_folder.items():
            if folder and len(members) > 1:
                infos.update(self._bucket.list(f"{folder}/", is_flat=True))
            else:
                for name in members:
                    info = self._bucket.find(name)
                    if info is not None:
                        infos[name] = info
        return infos

    def _free_generation(
        self,
        name: str,
        info: bucket_lib.ObjectInfo | None,
        holder: str | None = None,
    ) -> int | None:
        """Returns what `_look_alone` does, of an object as it was found.

        Args:
          name: of the lock.
          info: of its object; None if there is none.
          holder: who has it, for the message; None looks that up.
        """
        if info is None or not _is_taken(info):
            self._watched.pop(name, None)
            return info.generation if info else 0
        if not self._is_dead(name, name, info, holder):
            return None
        # Not one that is found later: that may be the next holder's.
        return self._bucket.write(name, _FREE, info.generation)

    def _look_shared(self, name: str) -> bool:
        """Returns whether no holder shares a lock; removes dead ones."""
        shared_locks = dict(self._shared(name))
        start = _shared_start(name)
        for released in [
            n
            for n in self._watched
            if n.startswith(start) and n not in shared_locks
        ]:
            del self._watched[released]
        is_free = True
        for other, info in shared_locks.items():
            if self._is_dead(name, other, info):
                self._bucket.delete(other, info.generation)
            else:
                is_free = False
        return is_free

    def _shared(self, name: str) -> list[tuple[str, bucket_lib.ObjectInfo]]:
        return list(self._bucket.list(_shared_start(name)))

    def _is_dead(
        self,
        name: str,
        key: str,
        info: bucket_lib.ObjectInfo,
        holder: str | None = None,
    ) -> bool:
        """Returns whether an object was not renewed for the whole term.

        Raises:
          LockHeldError: it was renewed since it was seen last, or lately.
        """
        with self._mutex:
            is_own = any(lock.key == key for lock in self._own_locks)
        now = time.monotonic()
        generation, since, renewed = self._watched.get(key, (0, now, False))
        if generation != info.generation:
            renewed = generation != 0
            generation, since = info.generation, now
            self._watched[key] = generation, since, renewed
        age_secs = now - since
        if is_own or (renewed and age_secs < self._term_secs / 2):
            if holder is None:
                holder = self._holder(key, info)
            raise storage.LockHeldError(
                f"{self._bucket.where}/{name} is held by {holder!a}; wait "
                "until it is released",
                holder,
            )
        return age_secs >= self._term_secs

    def _holder(self, key: str, info: bucket_lib.ObjectInfo) -> str:
        """Returns what a lock's holder wrote, as far as it can be read.

        The holder may renew its lock between the listing and the reading;
        then the renewed object is read.
        """
        data = self._bucket.read(key, info, _NUM_BYTES_MAX)
        for _ in range(_NUM_READS_MAX - 1):
            if data is not None:
                break
            renewed = self._bucket.find(key)
            if renewed is None:
                break
            data = self._bucket.read(key, renewed, _NUM_BYTES_MAX)
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(data or b"")["holder"])
        return ""

    def _new(
        self,
        name: str,
        key: str,
        holder: str,
        generation: int,
        *,
        keeps: bool,
    ) -> _RenewedLock | None:
        lock = _RenewedLock(
            self._bucket,
            key,
            holder,
            self._term_secs,
            keeps,
            self._drop,
        )
        lock.message = (
            f"{self._bucket.where}/{name} is locked by another process, as "
            f"this one did not answer for {self._term_secs:g} s; nothing "
            "published is lost, run again to continue"
        )
        if not lock.start(generation):
            return None
        with self._mutex:
            self._own_locks.add(lock)
        return lock

    def _drop(self, lock: _RenewedLock) -> None:
        with self._mutex:
            self._own_locks.discard(lock)


class _RenewedLock(storage.Lock):
    """One object that is renewed by a thread until it is released.

    Args:
      bucket: where.
      key: the object's name.
      holder: who this is, for people.
      term_secs: how long others respect it without a renewal.
      keeps: whether the object stays, empty, after the release.
      drop: called at the release.
    """

    def __init__(
        self,
        bucket: bucket_lib.Bucket,
        key: str,
        holder: str,
        term_secs: float,
        keeps: bool,
        drop: Callable[[_RenewedLock], None],
    ):
        self.key = key
        self.message = ""
        self._bucket = bucket
        self._holder = holder[:_NUM_HOLDER_CHARS]
        self._owner = secrets.token_hex(12)
        self._term_secs = term_secs
        self._keeps = keeps
        self._drop = drop
        self._mutex = threading.RLock()
        self._released = threading.Event()
        self._num_beats = 0
        # None once another has broken the lock.
        self._generation: int | None = None
        self._renewed = 0.0

    def start(self, generation: int) -> bool:
        """Writes the object over `generation`; returns whether it could."""
        self._renew(generation)
        if self._generation is None:
            return False
        threading.Thread(target=self._beat, daemon=True).start()
        return True

    def verify(self) -> None:
        """Makes sure that the lock is still held; see `Locks.verify`."""
        if (
            self._generation is not None
            and _now() - self._renewed < self._term_secs / 2
        ):
            return
        with self._mutex:
            if self._released.is_set():
                return
            if self._generation is not None:
                self._renew(self._generation)
            if self._generation is None:
                raise LockLostError(self.message)

    def release(self) -> None:
        """Lets others have the lock."""
        with self._mutex:
            if self._released.is_set():
                return
            self._released.set()
            self._drop(self)
            if self._generation is None:
                return
            # One that stays ends with its term all the same.
            with contextlib.suppress(errors.StoreError):
                if self._keeps:
                    self._bucket.write(self.key, _FREE, self._generation)
                else:
                    self._bucket.delete(self.key, self._generation)

    def _renew(self, generation: int) -> None:
        """Writes the object anew; the lock is lost if it is another's."""
        # Others may have seen the new generation from this moment on.
        began = _now()
        data = json.dumps(
            {
                "format_version": _FORMAT_VERSION,
                "holder": self._holder,
                "num_beats": self._num_beats,
                "owner": self._owner,
            },
            sort_keys=True,
        )
        self._num_beats += 1
        self._generation = self._bucket.write(
            self.key, data.encode(), generation
        )
        self._renewed = began

    def _beat(self) -> None:
        while not self._released.wait(self._term_secs / _NUM_BEATS_PER_TERM):
            with self._mutex:
                if self._released.is_set() or self._generation is None:
                    return
                # What the network refuses is raised where the holder writes.
                with contextlib.suppress(errors.StoreError):
                    self._renew(self._generation)


def _shared_start(name: str) -> str:
    # No name has a '!': two locks cannot have one beginning.
    return f"{SHARED_DIR}/{name}!"


def _is_taken(info: bucket_lib.ObjectInfo | None) -> bool:
    return info is not None and info.num_bytes > 0


def _now() -> float:
    """Returns seconds on a clock that also counts while a machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
