"""Reports a running job: lines for people, events for programs.

Invariant: every generation and publication is an event in the job's log, one
JSON object a line, every duration in seconds with `_secs` in its name; no log
and no callback ends the job.
"""

from __future__ import annotations

import json
import math
import numbers
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

from keras_munet.callbacks import callback as callback_lib
from keras_munet.core import printable
from keras_munet.search import plan as plan_lib
from keras_munet.store import event_log
from keras_munet.store import files as files_lib

METRICS_FILE = event_log.METRICS_FILE
FORMAT_VERSION = 1
_WARNING_LEVEL = 5
# Of the message of a callback that failed.
_NUM_CHARS_MAX = 200


class Lines(callback_lib.Callback):
    """Prints the lines for people, each with the time since the start."""

    is_display = True

    def __init__(self, stream: TextIO):
        """Prints nothing yet.

        Args:
          stream: where lines go.
        """
        self._stream = stream

    def on_message(self, text: str, job_secs: float) -> None:
        """Prints one line."""
        self._stream.write(f"[{job_secs:7.1f} s] {text}\n")
        self._stream.flush()


class Progress:
    """Records a job's events and hands them to callbacks.

    Example:
      >>> progress = Progress(quiet=True)
      >>> system.run(progress=progress)  # Nothing is left to do.
      False
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str] | None = None,
        *,
        stream: TextIO | None = None,
        quiet: bool = False,
        stop: Callable[[], bool] | None = None,
        terminate: Callable[[], bool] | None = None,
        callbacks: Iterable[callback_lib.Callback] = (),
    ):
        """Starts the clock.

        Args:
          workdir: where the job's log grows, see `store.event_log`; None
            writes no events.
          stream: where lines go; None for standard output.
          quiet: print nothing.
          stop: called after each generation, when everything is saved; True
            ends the job with KeyboardInterrupt.
          terminate: called before each generation and after each cycle; True
            ends the job with StoppedError, on all its workers.
          callbacks: follow the job, in order.
        """
        self._log: event_log.JobLog | None = None
        if workdir:
            self._log = event_log.JobLog(files_lib.open_storage(workdir))
        self._warned_subjects: set[str] = set()
        self._stop = stop or (lambda: False)
        self.terminated = terminate or (lambda: False)
        self._started = time.monotonic()
        self._generation_secs: list[float] = []
        self._num_left = 0
        self._callbacks: list[callback_lib.Callback] = []
        if not quiet:
            self._callbacks.append(Lines(stream or sys.stdout))
        self.add(callbacks)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def add(self, callbacks: Iterable[callback_lib.Callback]) -> None:
        """Adds callbacks behind those that it has."""
        self._callbacks.extend(callbacks)

    def close(self) -> None:
        """Ends the callbacks' run; lines may still follow."""
        if self._log is not None:
            self._log.close()
        self._call("on_run_end")

    def warn_once(self, subject: str, text: str) -> None:
        """Warns of a subject the first time in this job."""
        if subject not in self._warned_subjects:
            self._warned_subjects.add(subject)
            warnings.warn(text, RuntimeWarning, stacklevel=_WARNING_LEVEL)

    def begin_run(self, run: callback_lib.Run) -> None:
        """Reports what the whole job still has to do."""
        self._num_left = run.num_generations
        self._call("on_run_begin", run)

    def begin_task(self, start: callback_lib.TaskStart) -> None:
        """Reports that a task iteration begins or is resumed."""
        self._num_left = max(0, self._num_left - start.num_generations_done)
        self._call("on_task_begin", start)

    def begin_generation(self, plan: plan_lib.GenerationPlan) -> None:
        """Reports a generation that is about to be trained; no file has it."""
        self._call("on_generation_begin", plan)

    def end_cycle(self, num_children: int, num_cycles: int) -> None:
        """Reports that children were validated after one of their cycles.

        Args:
          num_children: how many.
          num_cycles: that each child has.
        """
        self._call("on_cycle_end", num_children, num_cycles)

    def line(self, text: str) -> None:
        """Reports one line to people."""
        secs = time.monotonic() - self._started
        self._call("on_message", printable.printable(text), secs)

    def event(self, event: str, **values: Any) -> None:
        """Appends one event to the job's log.

        A log that cannot be written costs a warning, not the job; its events
        are added as soon as it can be again.
        """
        record = {
            "event": event,
            "format_version": FORMAT_VERSION,
            "job_secs": round(time.monotonic() - self._started, 3),
            "time": round(time.time(), 3),
            **values,
        }
        if self._log is not None:
            self._log.add(_json_line(record))
        self._call("on_event", record)
        if event == "generation":
            for child in record["children"]:
                self._call("on_child_end", record, child)
            self._call("on_generation_end", record)
        elif event == "published":
            self._call("on_task_end", record)

    def _call(self, method: str, *args: Any) -> None:
        """Calls a method of all callbacks; drops those that fail."""
        for callback in tuple(self._callbacks):
            try:
                getattr(callback, method)(*args)
            # A foreign callback may fail in any way.
            except Exception as error:
                is_display = getattr(callback, "is_display", False)
                if isinstance(error, BrokenPipeError) and is_display:
                    # The reader of standard output has ended; so does the job.
                    raise
                self._callbacks.remove(callback)
                message = " ".join(str(error).split())[:_NUM_CHARS_MAX]
                warnings.warn(
                    f"callback {type(callback).__name__} failed in {method}: "
                    f"{type(error).__name__}: {message}; "
                    "the job continues without it",
                    RuntimeWarning,
                    stacklevel=_WARNING_LEVEL,
                )

    def end_generation(
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
        engine: str = "",
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
          engine: what trained it, `layerwise` or `program`; empty where that
            is not known.
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
            f"{best} | {secs:.1f} s | {self._remaining_time()}"
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
            **({"engine": engine} if engine else {}),
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

    def _remaining_time(self) -> str:
        secs = self._median_secs() * self._num_left
        return f"about {secs:.0f} s left" if self._num_left else "last one"


def _json_line(record: Mapping[str, Any]) -> bytes:
    """Returns an event as a line of JSON.

    What JSON cannot hold, as plugins may report it, becomes text.
    """
    try:
        text = json.dumps(record, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps(_plain(record), sort_keys=True, allow_nan=False)
    return text.encode() + b"\n"


def _plain(value: Any, num_levels: int = 20) -> Any:
    if isinstance(value, Mapping) and num_levels:
        return {str(k): _plain(v, num_levels - 1) for k, v in value.items()}
    if isinstance(value, list | tuple) and num_levels:
        return [_plain(item, num_levels - 1) for item in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return float(value)
    return str(value)
