"""Eight jobs evolve eight tasks in one system, hurt at random, and are read.

    python store_crowds.py FOLDER SEED NUM_SECS

Prints one JSON object of figures; a broken promise ends it with a trace. Jobs
are killed, and stopped for less and for more than a lease. Every publication
must stand on the one before it, from the first to the last that is there; a
reader that loads all tasks in a loop must never see one that is torn or older.
"""

from __future__ import annotations

import collections
import json
import os
import pathlib
import random
import signal
import sys
import time

import store_jobs

from keras_munet.store import objects
from keras_munet.store import storage
from keras_munet.store import system_dir

_NUM_JOBS = 8
# More than any crowd gets done.
_NUM_ROUNDS = 3_000
_LEASE_SECS = 2.0
_NUM_MORE_SECS = 120.0


class Crowd:
    """Several jobs on one system, some of them killed or stopped at random.

    Args:
      folder: of the system.
      logs: a folder where every job tells what it publishes.
      rng: decides who is hurt.
    """

    def __init__(
        self, folder: pathlib.Path, logs: pathlib.Path, rng: random.Random
    ):
        self._folder = folder
        self._logs = logs
        self._rng = rng
        # Job -> when it is woken; 0 for one that runs.
        self._jobs: dict[int, float] = {}
        self.counted: collections.Counter[str] = collections.Counter()

    def work(self, num_secs: float) -> None:
        """Keeps the jobs going and hurts them; then ends them all.

        On a busy machine it goes on until something has been published.
        """
        deadline = time.monotonic() + num_secs
        try:
            while time.monotonic() < deadline or not self._has_published():
                assert time.monotonic() < deadline + _NUM_MORE_SECS
                self._bury()
                while len(self._jobs) < _NUM_JOBS:
                    self._jobs[self._started()] = 0.0
                    self.counted["started"] += 1
                self._wake()
                self._hurt_one()
                time.sleep(self._rng.uniform(0.2, 0.8))
        finally:
            store_jobs.end_all(self._jobs)

    def _has_published(self) -> bool:
        logs = self._logs.iterdir()
        return any(
            told[0] == "did" for log in logs for told in store_jobs.told(log)
        )

    def _started(self) -> int:
        def job():
            log = self._logs / str(os.getpid())
            store_jobs.run(self._folder, log=log, lease_secs=_LEASE_SECS)

        return store_jobs.forked(job)

    def _bury(self) -> None:
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        for child in list(self._jobs):
            if os.waitid(os.P_PID, child, flags):
                del self._jobs[child]
                self.counted[store_jobs.ended(child)] += 1

    def _wake(self) -> None:
        now = time.monotonic()
        for child, wakes in self._jobs.items():
            if wakes and now > wakes:
                os.kill(child, signal.SIGCONT)
                self._jobs[child] = 0.0

    def _hurt_one(self) -> None:
        awake = [child for child, wakes in self._jobs.items() if not wakes]
        if not awake:
            return
        child = self._rng.choice(awake)
        if self._rng.random() < 0.8:
            os.kill(child, signal.SIGKILL)
        else:
            os.kill(child, signal.SIGSTOP)
            secs = self._rng.choice([0.5, 1.5]) * _LEASE_SECS
            self._jobs[child] = time.monotonic() + secs
            self.counted["stopped"] += 1


def read_again_and_again(folder: pathlib.Path, result: pathlib.Path) -> None:
    """Loads all tasks in a loop until killed; writes what it found.

    Whatever it sees must be whole: every object there and intact, and no task
    ever older than it was. One reader stays open, one is opened each time.
    """
    stays = system_dir.SystemDir.open(folder)
    # Nothing is taken from memory.
    stays.objects = objects.ObjectStore(stays.files, cache_num_bytes=0)
    done: dict[str, int] = {}
    found = {"loads": 0, "replaced_meanwhile": 0}
    while True:
        for directory in (stays, system_dir.SystemDir.open(folder)):
            for name, state in directory.tasks().items():
                assert state.num_iterations_done >= done.get(name, 0), name
                done[name] = state.num_iterations_done
                try:
                    for ref in state.published.components:
                        directory.objects.get(ref)
                except storage.MissingFileError:
                    # Only if a successor has been published meanwhile.
                    again = directory.task(name)
                    assert again.published.id != state.published.id, name
                    found["replaced_meanwhile"] += 1
                found["loads"] += 1
        part = result.with_suffix(".part")
        part.write_text(json.dumps(found))
        os.replace(part, result)
        # The jobs need the processor too.
        time.sleep(0.01)


def verify_no_update_lost(logs: pathlib.Path, states) -> int:
    """Verifies that what is there came about by every update that was told.

    Args:
      logs: a folder with the log of every job.
      states: task -> its published state.

    Returns:
      How many publications were told as done.
    """
    will = collections.defaultdict(set)
    did = collections.defaultdict(list)
    for log in logs.iterdir():
        for word, task, number, old, new in store_jobs.told(log):
            if word == "will":
                will[task, number].add((old, new))
            else:
                did[task, number].append((old, new))
    for task, state in states.items():
        # Which paths may have been there; a job that was killed may have
        # published what it did not tell any more.
        seen = {state.published.id}
        for number in range(state.num_iterations_done, 0, -1):
            steps = {s for s in will[task, number] if s[1] in seen}
            told = did.pop((task, number), [])
            assert len(told) <= 1, f"{task} {number} was published twice"
            assert steps >= set(told), f"{task} {number} was lost"
            seen = {old for old, _ in told or steps}
        assert "-" in seen, f"{task} does not go back to its first path"
        did[task, 0] = []
    num_told = 0
    for log in logs.iterdir():
        num_told += sum(t[0] == "did" for t in store_jobs.told(log))
    assert not any(did.values()), "an update of a later number was lost"
    return num_told


def crowd(work: pathlib.Path, seed: int, num_secs: float):
    """Lets a crowd work, and verifies what it leaves."""
    folder, logs, seen = work / "system", work / "logs", work / "seen.json"
    logs.mkdir()
    store_jobs.create(folder, _NUM_JOBS, _NUM_ROUNDS)
    store_jobs.import_once()
    jobs = Crowd(folder, logs, random.Random(seed))
    reader = store_jobs.forked(lambda: read_again_and_again(folder, seen))
    try:
        jobs.work(num_secs)
        deadline = time.monotonic() + _NUM_MORE_SECS
        while True:
            assert os.waitpid(reader, os.WNOHANG) == (0, 0), "the reader failed"
            if seen.exists():
                break
            # On a busy machine it may not have come to its first look.
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        store_jobs.end_all([reader])
    directory = system_dir.SystemDir.open(folder)
    states = directory.tasks()
    num_told = verify_no_update_lost(logs, states)
    assert states
    # What the last jobs left: nothing that a collection does not clear.
    directory.collect()
    assert directory.check() == []
    assert not list((folder / "jobs").iterdir())
    assert not list(folder.rglob(".tmp-*"))
    return {
        "seed": seed,
        "secs": num_secs,
        "published": sum(s.num_iterations_done for s in states.values()),
        "published_and_told": num_told,
        "jobs": jobs.counted,
        "reader": json.loads(seen.read_text()),
    }


if __name__ == "__main__":
    folder, seed, num_secs = sys.argv[1:]
    figures = crowd(pathlib.Path(folder), int(seed), float(num_secs))
    print(json.dumps(figures))
