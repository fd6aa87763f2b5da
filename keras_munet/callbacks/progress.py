"""What a person and a program can follow while a job runs.

Invariant: every generation and publication is an event in `metrics.jsonl`, one
JSON object a line, every duration in seconds with `_secs` in its name.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TextIO

from keras_munet import errors
from keras_munet.core import printable
from keras_munet.store import event_log
from keras_munet.store import files as files_lib
from keras_munet.store import storage

METRICS_FILE = event_log.METRICS_FILE
FORMAT_VERSION = 1
# Events that wait for a file that cannot be written just now.
_NUM_PENDING_MAX = 10_000
_WARNING_LEVEL = 5


class Progress:
    """Prints lines and appends events; the base of quieter ones."""

    def __init__(
        self,
        workdir: str | os.PathLike[str] | None = None,
        *,
        stream: TextIO | None = None,
        quiet: bool = False,
        stop: Callable[[], bool] | None = None,
        terminate: Callable[[], bool] | None = None,
        listeners: Iterable[Callable[[Mapping[str, Any]], None]] = (),
    ):
        """Starts the clock.

        Args:
          workdir: where `metrics.jsonl` grows; None writes no events.
          stream: where lines go; None for standard output.
          quiet: print nothing.
          stop: asked after each generation, when everything is saved; True
            ends the job with KeyboardInterrupt.
          terminate: asked before each generation and after each cycle; True
            ends the job with StoppedError, on all its workers.
          listeners: each is given every event, as it stands in the file.
        """
        self._files: storage.Files | None = None
        if workdir:
            self._files = files_lib.at(workdir)
        # Lines that are not in the file yet.
        self._pending: list[bytes] = []
        self._has_warned = False
        self._stream = stream or sys.stdout
        self._quiet = quiet
        self._stop = stop or (lambda: False)
        self.terminated = terminate or (lambda: False)
        self._started = time.monotonic()
        self._generation_secs: list[float] = []
        self._num_left = 0
        self._listeners = tuple(listeners)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends what is shown and listened to; lines may still follow."""
        if self._pending:
            self._flush()
        for listener in self._listeners:
            if hasattr(listener, "close"):
                listener.close()

    def plan(self, num_generations: int, num_iterations: int) -> None:
        """Says what the whole job still has to do.

        Args:
          num_generations: over all its task iterations.
          num_iterations: its task iterations.
        """
        del num_iterations
        self._num_left = num_generations

    def begin(
        self,
        *,
        task: str,
        num_done: int,
        num_generations: int,
        num_children: int,
    ) -> None:
        """Says that a task iteration begins or goes on.

        Args:
          task: its task.
          num_done: generations that were done before this job.
          num_generations: of the task iteration.
          num_children: of the task iteration.
        """
        del task, num_generations, num_children
        self._num_left = max(0, self._num_left - num_done)

    def cycle(self, num_children: int, num_cycles: int) -> None:
        """Says that children were validated after one of their cycles.

        Args:
          num_children: how many.
          num_cycles: that each child has.
        """

    def planned(self, plan: Any) -> None:
        """Hands on a generation that is about to be trained; no file has it.

        Args:
          plan: a `search.plan.GenerationPlan`.
        """
        for listener in self._listeners:
            if hasattr(listener, "planned"):
                listener.planned(plan)

    def line(self, text: str) -> None:
        """Prints one line with the time since the start."""
        if self._quiet:
            return
        secs = time.monotonic() - self._started
        self._stream.write(f"[{secs:7.1f} s] {printable.printable(text)}\n")
        self._stream.flush()

    def event(self, event: str, **values: Any) -> None:
        """Appends one event to `metrics.jsonl`.

        A file that cannot be written costs a warning, not the job; its events
        are added as soon as it can be again.
        """
        secs = round(time.monotonic() - self._started, 3)
        record = {
            "event": event,
            "format_version": FORMAT_VERSION,
            "job_secs": secs,
            **values,
        }
        self._append(json.dumps(record, sort_keys=True, allow_nan=False) + "\n")
        self._tell(record)

    def _tell(self, record: Mapping[str, Any]) -> None:
        """Hands an event that was written on."""
        for listen in self._listeners:
            listen(record)

    def _append(self, line: str) -> None:
        if self._files is not None:
            self._pending.append(line.encode())
            del self._pending[:-_NUM_PENDING_MAX]
            self._flush()

    def _flush(self) -> None:
        assert self._files is not None
        try:
            event_log.append(self._files, METRICS_FILE, b"".join(self._pending))
        except errors.StoreError as error:
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"{METRICS_FILE} cannot be written; the job goes on, and "
                    f"its report will lack what happens meanwhile: {error}",
                    RuntimeWarning,
                    stacklevel=_WARNING_LEVEL,
                )
        else:
            self._pending.clear()

    def generation(
        self,
        *,
        task: str,
        iteration: int,
        number: int,
        num_generations: int,
        children: Sequence[Mapping[str, Any]],
        best_score: float | None,
        clock: Mapping[str, float],
        secs: float,
        cpu_secs: float | None = None,
    ) -> None:
        """Reports a finished generation.

        Args:
          task: its task.
          iteration: of the task, from 0.
          number: from 1.
          num_generations: of the task iteration.
          children: `score`, `improved` and more of each child.
          best_score: the task's best score so far; None without one.
          clock: seconds by kind of work.
          secs: wall time of the generation, seconds.
          cpu_secs: CPU time of all threads, user and system, seconds; None
            where other processes take part.
        """
        self._generation_secs.append(secs)
        self._num_left = max(0, self._num_left - 1)
        scores = " ".join(
            "diverged"
            if child["score"] is None
            else f"{child['score']:.3f}{'*' if child['improved'] else ''}"
            for child in children
        )
        best = "-" if best_score is None else f"{best_score:.4f}"
        self.line(
            f"{task} generation {number}/{num_generations}: {scores} | best "
            f"{best} | {secs:.1f} s | {self._left()}"
        )
        self.event(
            "generation",
            task=task,
            iteration=iteration,
            number=number,
            children=list(children),
            best_score=best_score,
            generation_secs=round(secs, 3),
            cpu_secs=None if cpu_secs is None else round(cpu_secs, 3),
            # Rounded down, their sum cannot come to be more than the whole.
            clock={k: math.floor(1000 * v) / 1000 for k, v in clock.items()},
        )
        if self._stop():
            raise KeyboardInterrupt

    def end_early(
        self, *, task: str, iteration: int, num_left: int, reason: str | None
    ) -> None:
        """Reports the generations that a stop rule spares, if any.

        Args:
          task: its task.
          iteration: of the task, from 0.
          num_left: generations that are not run.
          reason: the rule that held, in words; None without one.
        """
        if reason is None or not num_left:
            return
        self._num_left = max(0, self._num_left - num_left)
        secs = num_left * self._median_secs()
        self.line(
            f"{task} ends early: {reason}; {num_left} generations, about "
            f"{secs:.0f} s, are spared"
        )
        self.event(
            "ended_early",
            task=task,
            iteration=iteration,
            reason=reason,
            num_generations_spared=num_left,
            secs_spared=round(secs, 3),
        )

    def _median_secs(self) -> float:
        """Returns the median of this job's last generations, seconds."""
        recent = sorted(self._generation_secs[-9:])
        return recent[len(recent) // 2] if recent else 0.0

    def _left(self) -> str:
        secs = self._median_secs() * self._num_left
        return f"about {secs:.0f} s left" if self._num_left else "last one"
