"""Processes that are begun again until their work is done.

Invariant: a process gets nothing but its command, so one that begins again
is like one that begins: what was done before lies in the store. When the
caller is stopped, so is every process, and none is left behind.
"""

from __future__ import annotations

import dataclasses
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import IO

from keras_munet import errors

DONE_CODE = 0
USAGE_CODE = 2
# A job that was stopped on purpose and may be continued.
STOPPED_CODE = 75
INTERRUPTED_CODE = 130
# A process that lived so long did not fail at its start.
_STEADY_SECS = 60.0
_PAUSE_SECS_MAX = 60.0
_LOOK_SECS = 0.1
# How long a process that must end has for its last lines.
_LAST_LINES_SECS = 5.0


@dataclasses.dataclass(frozen=True)
class Job:
    """A command that is to end with exit code 0.

    Attributes:
      name: what lines of it are marked with.
      command: program and arguments.
      env: added to this process's environment.
      stop: ends it; is given its process. None sends SIGTERM.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stop: Callable[[subprocess.Popen], None] | None = None


class Supervisor:
    """Runs jobs side by side until each is done or has failed for good."""

    def __init__(
        self,
        jobs: Sequence[Job],
        tell: Callable[[str], None],
        *,
        num_failures_max: int = 5,
        first_pause_secs: float = 1.0,
        silent_secs: float | None = None,
        on_line: Callable[[Job, str], bool] | None = None,
    ):
        """Starts nothing.

        Args:
          jobs: at least one.
          tell: is given every line of every job, and what happens to it.
          num_failures_max: exit codes other than 0, 75 and those of signals
            that a job may have one after the other; the last one stays.
          first_pause_secs: before a job begins again; doubles while it fails
            at once, up to a minute.
          silent_secs: a job without a line for so long is killed; None lets
            it be.
          on_line: gets (job, line) first; False keeps the line back.
        """
        self._tell = tell
        self._num_failures_max = num_failures_max
        self._first_pause_secs = first_pause_secs
        self._silent_secs = silent_secs
        self._on_line = on_line or (lambda job, line: True)
        self._running = [_Running(job) for job in jobs]
        self._lines: _Lines = queue.Queue()
        self._signals: list[int] = []

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Has `run` end all jobs; a second call has it kill them.

        Args:
          number: the signal that requested it.
        """
        self._signals.append(number)

    def run(self) -> int:
        """Returns the exit code: 0 if every job is done, else what hindered.

        That is 130 or 75 after `stop`, else the first code that a job failed
        for good with.
        """
        num_forwarded = 0
        try:
            for job in self._running:
                job.begin(self._lines)
            while any(job.is_open for job in self._running):
                self._hand_on(_LOOK_SECS)
                if len(self._signals) > num_forwarded:
                    num_forwarded = len(self._signals)
                    self._stop_all(kill=num_forwarded > 1)
                for job in self._running:
                    self._look_at(job, stopping=num_forwarded > 0)
        finally:
            for job in self._running:
                job.kill()
            self._hand_on(0.0)
        if self._signals:
            unfinished = any(j.code != DONE_CODE for j in self._running)
            stopped = {signal.SIGINT: INTERRUPTED_CODE}
            code = stopped.get(signal.Signals(self._signals[0]), STOPPED_CODE)
            return code if unfinished else DONE_CODE
        return next((j.code for j in self._running if j.code), DONE_CODE)

    def _hand_on(self, secs: float) -> None:
        """Tells the lines that have come, waiting a while for the first."""
        try:
            item = self._lines.get(block=secs > 0, timeout=secs or None)
            while True:
                job, line = item
                job.spoke_at = time.monotonic()
                if self._on_line(job.job, line):
                    self._tell(f"[{job.job.name}] {line}")
                item = self._lines.get_nowait()
        except queue.Empty:
            pass

    def _stop_all(self, *, kill: bool) -> None:
        for job in self._running:
            if kill:
                job.kill()
            else:
                job.ask_to_stop()

    def _look_at(self, job: _Running, *, stopping: bool) -> None:
        """Notices an end; begins again what must."""
        now = time.monotonic()
        if job.process is None:
            if stopping:
                job.is_open = False
            elif job.begins_at is not None and now >= job.begins_at:
                job.begin(self._lines)
            return
        silent = self._silent_secs
        if silent is not None and now - job.spoke_at > silent:
            self._tell(f"[{job.job.name}] silent for {silent:.0f} s: killed")
            job.kill()
        code = job.process.poll()
        if code is None:
            return
        job.end()
        self._hand_on(0.0)
        again = self._code_again(job, code, now)
        if not again or stopping:
            job.is_open, job.code = False, code
            if code and not stopping:
                self._tell(f"[{job.job.name}] ended with exit code {code}")
            return
        pause = min(
            self._first_pause_secs * 2 ** max(job.num_quick - 1, 0),
            _PAUSE_SECS_MAX,
        )
        self._tell(
            f"[{job.job.name}] ended with exit code {code}; begins again in "
            f"{pause:.0f} s"
        )
        job.begins_at = now + pause

    def _code_again(self, job: _Running, code: int, now: float) -> bool:
        """Returns whether a job that ended so begins again."""
        quick = now - job.began_at < _STEADY_SECS
        job.num_quick = job.num_quick + 1 if quick else 0
        if code in (DONE_CODE, USAGE_CODE, INTERRUPTED_CODE):
            return False
        if is_passing(code):
            return True
        job.num_failures = job.num_failures + 1 if quick else 1
        return job.num_failures < self._num_failures_max


def is_passing(code: int) -> bool:
    """Returns whether an exit code says nothing against the command.

    True of a stop at a boundary and of every signal: the kernel kills what
    takes too much memory, and machines are taken away.
    """
    return code == STOPPED_CODE or code < 0 or 128 < code < 255


# Who said what.
_Lines = queue.Queue[tuple["_Running", str]]


class _Running:
    """A job with the process that does it, if one does."""

    def __init__(self, job: Job):
        self.job = job
        self.process: subprocess.Popen | None = None
        self.is_open = True
        self.code: int | None = None
        self.begins_at: float | None = None
        self.began_at = 0.0
        self.spoke_at = 0.0
        self.num_quick = 0
        self.num_failures = 0
        self._reader: threading.Thread | None = None

    def begin(self, lines: _Lines) -> None:
        self.begins_at = None
        self.began_at = self.spoke_at = time.monotonic()
        try:
            # A group of its own: Ctrl-C reaches it by `ask_to_stop` alone.
            self.process = subprocess.Popen(
                self.job.command,
                env={**os.environ, **self.job.env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise errors.UsageError(
                f"cannot run {self.job.command[0]!r}: {error.strerror}; "
                "install it, or name another"
            ) from error
        self._reader = threading.Thread(
            target=self._read, args=(self.process.stdout, lines), daemon=True
        )
        self._reader.start()

    def _read(self, stream: IO[str], lines: _Lines) -> None:
        with stream:
            for line in stream:
                lines.put((self, line.rstrip("\n")))

    def ask_to_stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        if self.job.stop is not None:
            self.job.stop(self.process)
        else:
            self.process.terminate()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            # With its own children: no process may stay.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def end(self) -> None:
        if self._reader is not None:
            self._reader.join(_LAST_LINES_SECS)
        self.process = None
