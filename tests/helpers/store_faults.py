"""Jobs that are killed, starved and robbed of unsynced writes end the same.

    python store_faults.py FOLDER SEED NUM_TRIALS STRIDE

A two-task run is hurt in every way, NUM_TRIALS times in each, and killed at
every STRIDEth call that changes the disk. Prints one JSON object of figures; a
broken promise ends it with a trace. After every fault: what was told as
published is there and whole, before anything is repaired; after the job was run
again: every file has the bytes of an undisturbed run, and `check` is clean.
"""

from __future__ import annotations

import collections
import dataclasses
import errno
import itertools
import json
import os
import pathlib
import random
import signal
import sys
import time

import store_disk
import store_jobs

from keras_munet.store import system_dir

HOWS = ("kill", "call", "power", "ENOSPC", "full", "EIO", "broken")
_KILLS = ("kill", "call", "power")


@dataclasses.dataclass(frozen=True)
class Reference:
    """A run that nothing disturbed.

    Attributes:
      start: the system before it.
      digests: of all files after it.
      published: (task, number, old path, new path) of every publication.
      num_calls: how many calls it made.
      num_secs: how long it took.
    """

    start: pathlib.Path
    digests: dict[str, str]
    published: frozenset[tuple[str, int, str, str]]
    num_calls: int
    num_secs: float

    @classmethod
    def of(cls, work: pathlib.Path) -> Reference:
        """Makes a system in `work` and runs it."""
        store_jobs.import_once()
        start = work / "start"
        store_jobs.create(start)
        log, counter = work / "whole.log", work / "calls"
        folder = store_jobs.copied(start, work / "whole")
        began = time.monotonic()
        store_jobs.ended(
            store_jobs.forked(lambda: store_jobs.run(folder, log=log))
        )
        num_secs = time.monotonic() - began
        digests = store_jobs.finished(folder)

        def count():
            seen = [0]

            def handle(name, real, args, kwargs):
                seen[0] += 1
                return real(*args, **kwargs)

            store_disk.arm(handle)
            store_jobs.run(store_jobs.copied(start, work / "counted"))
            counter.write_text(str(seen[0]))

        assert store_jobs.ended(store_jobs.forked(count)) == "done"
        published = frozenset(told[1:] for told in store_jobs.told(log))
        return cls(
            start, digests, published, int(counter.read_text()), num_secs
        )


class Trial:
    """One run that is hurt, perhaps again and again.

    Args:
      reference: the same run undisturbed.
      work: a folder for this trial alone.
    """

    def __init__(self, reference: Reference, work: pathlib.Path):
        self._reference = reference
        self._folder = store_jobs.copied(reference.start, work / "trial")
        self._log, self._journal = work / "trial.log", work / "journal"
        self._log.unlink(missing_ok=True)
        self._journal.unlink(missing_ok=True)

    def hurt(self, how: str, rng: random.Random) -> str:
        """Runs a job and hurts it once; returns how it ended.

        Args:
          how: `kill` at a random moment; `call`, at a random call that
            changes the disk; `power`, the same, and all that is not synced is
            at risk; `ENOSPC` and `EIO`, one call fails; `full` and `broken`,
            so do the later ones.
          rng: decides when and what.
        """
        at = rng.randint(1, self._reference.num_calls)
        inner = random.Random(rng.random())

        def work():
            if inner.random() < 0.5:
                store_disk.jump_about(inner)
            if how in ("call", "power"):
                store_disk.die_at(
                    at, inner, self._journal, loses_power=how == "power"
                )
            elif how in ("ENOSPC", "full"):
                store_disk.fail_at(at, errno.ENOSPC, lasts=how == "full")
            elif how in ("EIO", "broken"):
                store_disk.fail_at(at, errno.EIO, lasts=how == "broken")
            if inner.random() < 0.5:
                store_disk.write_little(inner)
            store_jobs.run(self._folder, log=self._log)

        child = store_jobs.forked(work)
        if how == "kill":
            time.sleep(rng.uniform(0.0, self._reference.num_secs))
            os.kill(child, signal.SIGKILL)
        found = store_jobs.ended(child)
        self.verify_published()
        return found

    def die_at(self, number: int, rng: random.Random, *, power: bool) -> str:
        """Runs a job that dies at one call; returns how it ended."""

        def work():
            store_disk.die_at(number, rng, self._journal, loses_power=power)
            store_jobs.run(self._folder, log=self._log)

        found = store_jobs.ended(store_jobs.forked(work))
        self.verify_published()
        return found

    def verify_published(self) -> None:
        """Verifies that nothing published is lost, before any repair."""
        directory = system_dir.SystemDir.open(self._folder)
        states = directory.tasks()
        for word, task, number, old, new in store_jobs.told(self._log):
            assert (task, number, old, new) in self._reference.published
            if word == "did":
                assert states[task].num_iterations_done >= number, task
        made = {
            (told[0], told[1], told[3]) for told in self._reference.published
        }
        for task, state in states.items():
            key = task, state.num_iterations_done, state.published.id
            assert key in made, key
            for ref in state.published.components:
                directory.objects.get(ref)

    def finish(self) -> None:
        """Runs to the end and compares every file."""
        assert store_jobs.finished(self._folder) == self._reference.digests


def hurt_often(
    reference: Reference, work: pathlib.Path, seed: int, num_trials: int
) -> dict[str, collections.Counter[str]]:
    """Hurts jobs in every way; returns how they ended, by way.

    Every third trial is hurt again while it recovers. A trial whose job ended
    before it was hurt does not count.
    """
    rng = random.Random(seed)
    results: dict[str, collections.Counter[str]] = {}
    for how in HOWS:
        counted = results[how] = collections.Counter()
        wanted = "killed" if how in _KILLS else "refused"
        while counted[wanted] < num_trials:
            trial = Trial(reference, work)
            counted[trial.hurt(how, rng)] += 1
            while rng.random() < 0.33:
                trial.hurt("call" if how == "power" else how, rng)
                counted["hurt again"] += 1
                if how == "power":
                    trial.hurt(how, rng)
            trial.finish()
    return results


def kill_at_every_call(
    reference: Reference, work: pathlib.Path, seed: int, stride: int
) -> collections.Counter[str]:
    """Kills a run at its first call, the `stride`th after it, and so on.

    Each time twice: the process alone, and with a loss of power.
    """
    counted = collections.Counter()
    for power in (False, True):
        for number in itertools.count(0, stride):
            trial = Trial(reference, work)
            rng = random.Random(f"{seed} {number}")
            if trial.die_at(number, rng, power=power) == "done":
                break
            counted["with a loss of power" if power else "killed"] += 1
            trial.finish()
    return counted


def main(work: pathlib.Path, seed: int, num_trials: int, stride: int):
    """Does both; returns the figures."""
    began = time.monotonic()
    reference = Reference.of(work)
    return {
        "seed": seed,
        "calls_of_a_run": reference.num_calls,
        "publications": len(reference.published),
        "hurt": hurt_often(reference, work, seed, num_trials),
        "at_every_call": kill_at_every_call(reference, work, seed, stride),
        "secs": round(time.monotonic() - began, 1),
    }


if __name__ == "__main__":
    print(json.dumps(main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))))
