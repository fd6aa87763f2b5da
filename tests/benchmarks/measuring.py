"""What every benchmark needs: programs that take turns, and a header.

Invariant: only one program computes at a time, and all of them are timed in
every turn, so that a machine that changes its speed changes it for all.
"""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

_FOLDER = pathlib.Path(__file__).resolve().parent
_NUM_STDERR_CHARS = 2_000
_WATCHED_SECS = 2.0


class Program:
    """A program of this folder that answers JSON with JSON; see `peer.py`."""

    def __init__(self, args: Sequence[str], python: str = sys.executable):
        """Starts it.

        Args:
          args: its file, then its arguments.
          python: the interpreter.
        """
        self._name = " ".join(args)
        # Kept open for as long as the program runs.
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115
        script, *options = args
        self._process = subprocess.Popen(
            [python, str(_FOLDER / script), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the answer.

        Raises:
          RuntimeError: the program ended; says with what last words.
        """
        pipe = self._process.stdin
        assert pipe is not None
        try:
            pipe.write(json.dumps(question) + "\n")
            pipe.flush()
        except BrokenPipeError:
            self._failed()
        return self._answer()

    def answers(self) -> Iterator[dict[str, Any]]:
        """Yields what a program says that is asked nothing.

        Raises:
          RuntimeError: it failed; says with what last words.
        """
        pipe = self._process.stdout
        assert pipe is not None
        for line in pipe:
            # Libraries print too.
            if line.startswith("{"):
                yield json.loads(line)
        if self._process.wait():
            self._failed()

    def close(self) -> None:
        """Ends the program."""
        self._process.kill()
        self._process.communicate()
        self._stderr.close()

    def _answer(self) -> dict[str, Any]:
        pipe = self._process.stdout
        assert pipe is not None
        line = pipe.readline()
        if not line:
            self._failed()
        return json.loads(line)

    def _failed(self) -> None:
        self._stderr.seek(0)
        last = self._stderr.read()[-_NUM_STDERR_CHARS:]
        raise RuntimeError(f"{self._name} ended early:\n{last}")


def take_turns(
    programs: Mapping[str, Program], num_turns: int, num_steps: int
) -> dict[str, float]:
    """Returns program -> the median seconds of its steps.

    Args:
      programs: each has been told its shape.
      num_turns: how often each is asked.
      num_steps: what it is asked for.
    """
    secs: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(num_turns):
        for name, program in programs.items():
            secs[name] += program.ask({"steps": num_steps})["secs"]
    return {name: statistics.median(found) for name, found in secs.items()}


def header() -> str:
    """Returns date, machine, and how busy others keep it, in one line."""
    now = datetime.datetime.now(datetime.timezone.utc)
    idle = _idle_secs()
    time.sleep(_WATCHED_SECS)
    num_cores = len(os.sched_getaffinity(0))
    busy = (os.cpu_count() or 1) - (_idle_secs() - idle) / _WATCHED_SECS
    return (
        f"{now:%Y-%m-%d %H:%M} UTC, {_processor()}, {num_cores} cores "
        f"({max(busy, 0.0):.1f} busy with other things before the start), "
        f"Python {platform.python_version()}"
    )


def _processor() -> str:
    """Returns the processor's name as the kernel has it."""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _idle_secs() -> float:
    """Returns the seconds that all cores together were idle, since the boot."""
    first = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()
    # user nice system idle iowait ...
    return (int(first[4]) + int(first[5])) / os.sysconf("SC_CLK_TCK")


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell) for cell in line) + " |" for line in lines
    )
