"""Agents on one system in a stand-in of a bucket, in accelerated time.

Each agent is a thread with a system and a log of its own, and does what a job
does but for the training, which is a sleep: take a task, ask what others have
published, say what it relies on, store components, save its progress, tell its
event, publish, tidy up. The stand-in runs in a process of its own, is slow,
throttles and loses answers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
import warnings

import store_samples

from keras_munet.store import event_log
from keras_munet.store import event_reader
from keras_munet.store import leases
from keras_munet.store import system_dir
from keras_munet.store.gcs import bucket as gcs_bucket
from keras_munet.store.gcs import files as gcs_files
from keras_munet.store.gcs import locks as gcs_locks

_PLACE = "gs://bucket/some/system"
_NUM_GENERATIONS = 4


@dataclasses.dataclass
class Report:
    """Holds the agents' outcome; durations in seconds of the bucket's time.

    Attributes:
      ended: one line for every agent that an error ended.
      num_events: that the agents told.
      num_kept_events: that the logs have.
      num_publications: of tasks.
      append_secs: what each event took.
      num_requests: to the bucket.
      num_faults: fault -> how often.
      problems: that `check` lists.
    """

    ended: list[str]
    num_events: int
    num_kept_events: int
    num_publications: int
    append_secs: list[float]
    num_requests: int
    num_faults: dict[str, int]
    problems: list[str]

    def to_json(self):
        """Returns the figures that are worth a line each."""
        return {
            "agents_ended": self.ended,
            "events": self.num_events,
            "events_lost": self.num_events - self.num_kept_events,
            "publications": self.num_publications,
            "median_append_secs": round(statistics.median(self.append_secs), 3),
            "longest_append_secs": round(max(self.append_secs), 3),
            "requests": self.num_requests,
            "requests_per_generation": round(
                self.num_requests / self.num_events, 1
            ),
            "faults": self.num_faults,
            "problems": self.problems,
        }


def run(
    *, num_agents, num_secs, speed, generation_secs=30.0, seed=0, **weather
) -> Report:
    """Runs agents for some seconds of the bucket's time.

    Args:
      num_agents: as many tasks there are.
      num_secs: after which no agent begins a generation.
      speed: seconds of the bucket's time in one of the clock.
      generation_secs: what training takes in the mean.
      seed: of all that is drawn.
      **weather: see `gcs_server.Weather`.
    """
    options = {"seed": seed, "speed": speed, **weather}
    with _serving(options) as counts, _accelerated(speed):
        store_samples.create(_files(speed))
        soak = _Soak(num_secs, speed, generation_secs, seed)
        threads = [
            threading.Thread(target=soak.agent, args=(number,))
            for number in range(num_agents)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        report = counts()
        files = _files(speed)
        kept = {
            (line.event["agent"], line.event["number"])
            for line in event_reader.read_events(files)
            if line.event
        }
        return Report(
            ended=soak.ended,
            num_events=len(soak.events),
            num_kept_events=len(kept & set(soak.events)),
            num_publications=soak.num_publications,
            append_secs=soak.append_secs,
            num_requests=report["requests"],
            num_faults=report["faults"],
            problems=system_dir.SystemDir.open(files).check(),
        )


class _Soak:
    def __init__(self, num_secs, speed, generation_secs, seed):
        self._end = time.monotonic() + num_secs / speed
        self._speed = speed
        self._generation_secs = generation_secs
        self._seed = seed
        self._mutex = threading.Lock()
        self.ended, self.events, self.append_secs = [], [], []
        self.num_publications = 0

    def agent(self, number):
        """Does an agent's work until the time is over."""
        rng = random.Random(self._seed * 1000 + number)
        # Agents do not start at one moment.
        time.sleep(rng.uniform(0.0, self._generation_secs / self._speed))
        try:
            self._work(number, rng)
        # Whatever ends an agent is what this is about.
        except BaseException as error:
            line = f"agent {number}: {type(error).__name__}: {error}"
            self.ended.append(line)

    def _work(self, number, rng):
        system = system_dir.SystemDir.open(_files(self._speed))
        system._job = leases.JobLeases(
            system.files, leases.LEASE_SECS / self._speed
        )
        log = event_log.JobLog(_files(self._speed))
        task, num_done, num_told = f"task-{number}", 0, 0
        while time.monotonic() < self._end:
            with system.lease(task):
                refs = []
                for generation in range(_NUM_GENERATIONS):
                    self._generation(system, task, generation, refs, rng)
                    self._tell(log, number, num_told)
                    num_told += 1
                    if time.monotonic() > self._end:
                        break
                num_done += 1
                state = store_samples.state(
                    system,
                    task,
                    num_iterations_done=num_done,
                    value=rng.random(),
                )
                system.publish(state)
                system.tidy()
            with self._mutex:
                self.num_publications += 1
        log.close()

    def _generation(self, system, task, number, refs, rng):
        with system.naming():
            system.num_changes()
            system.use(task, [ref.id for ref in refs])
        mean_secs = self._generation_secs / self._speed
        time.sleep(mean_secs * rng.uniform(0.5, 1.5))
        with system.naming():
            for _ in range(2):
                made = store_samples.component("head", rng.random())
                refs.append(system.objects.put(made))
            payload = {"refs": [ref.to_json() for ref in refs], "n": number}
            system.keep_progress(task, payload)

    def _tell(self, log, agent, number):
        event = {
            "event": "generation",
            "agent": agent,
            "number": number,
            "time": time.time(),
            # As large as an event of some children.
            "children": ["x" * 100] * 40,
        }
        began = time.monotonic()
        log.add(json.dumps(event).encode() + b"\n")
        secs = (time.monotonic() - began) * self._speed
        with self._mutex:
            self.events.append((agent, number))
            self.append_secs.append(secs)


def _files(speed):
    return gcs_files.GcsStorage(
        _PLACE,
        retry_secs=gcs_bucket.RETRY_SECS / speed,
        term_secs=gcs_locks.TERM_SECS / speed,
    )


@contextlib.contextmanager
def _accelerated(speed):
    """Shortens the pauses between the attempts of a request in a block."""
    before = gcs_bucket._PAUSE_SECS, gcs_bucket._PAUSE_SECS_MAX
    gcs_bucket._PAUSE_SECS, gcs_bucket._PAUSE_SECS_MAX = (
        secs / speed for secs in before
    )
    try:
        yield
    finally:
        gcs_bucket._PAUSE_SECS, gcs_bucket._PAUSE_SECS_MAX = before


@contextlib.contextmanager
def _serving(options):
    """Yields what returns the counts of a stand-in, which ends after it."""
    server = subprocess.Popen(
        [sys.executable, __file__, json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin and server.stdout
    before = os.environ.get("STORAGE_EMULATOR_HOST")
    os.environ["STORAGE_EMULATOR_HOST"] = server.stdout.readline().strip()

    def counts():
        server.stdin.write("calm\n")
        server.stdin.flush()
        return json.loads(server.stdout.readline())

    try:
        yield counts
    finally:
        server.stdin.close()
        server.wait(60)
        if before is None:
            del os.environ["STORAGE_EMULATOR_HOST"]
        else:
            os.environ["STORAGE_EMULATOR_HOST"] = before


def _serve(options):
    """Serves until standard input ends; a line there ends the bad weather."""
    import gcs_server

    weather = gcs_server.Weather(**options)
    with gcs_server.serving() as (url, bucket):
        bucket.fault = weather
        bucket.page_size_max = 1000
        print(url, flush=True)
        for _ in sys.stdin:
            bucket.fault = lambda *_: None
            faults = {str(k): n for k, n in weather.num_faults.items()}
            counts = {"requests": len(bucket.requests), "faults": faults}
            print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
