"""Progress as a terminal or a program wants it: bars, lines or JSON.

Invariant: what is shown never changes what is done or written; a stream that
is no terminal gets whole lines and no control characters.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import TextIO

from keras_munet.callbacks import callback as callback_lib
from keras_munet.callbacks import progress


def make_reporter(
    workdir: str | os.PathLike[str] | None,
    stream: TextIO,
    *,
    quiet: bool = False,
    as_json: bool = False,
    stop: Callable[[], bool] | None = None,
    terminate: Callable[[], bool] | None = None,
    callbacks: Iterable[callback_lib.Callback] = (),
) -> progress.Progress:
    """Returns the progress that suits a stream.

    Args:
      workdir: see `progress.Progress`.
      stream: where it is shown.
      quiet: show nothing; goes before `as_json`.
      as_json: one JSON object a line.
      stop: see `progress.Progress`.
      terminate: see `progress.Progress`.
      callbacks: see `progress.Progress`.
    """
    display = () if quiet else (display_for(stream, as_json=as_json),)
    return progress.Progress(
        workdir,
        quiet=True,
        stop=stop,
        terminate=terminate,
        callbacks=[*display, *callbacks],
    )


def display_for(
    stream: TextIO, *, as_json: bool = False
) -> callback_lib.Callback:
    """Returns the callback that shows a job on a stream."""
    if as_json:
        return JsonLines(stream)
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return Bars(stream)
    return progress.Lines(stream)


class JsonLines(callback_lib.Callback):
    """Prints every event as it stands in the job's log, and every line."""

    is_display = True

    def __init__(self, stream: TextIO):
        """Prints nothing yet.

        Args:
          stream: where the objects go.
        """
        self._stream = stream

    def on_message(self, text: str, job_secs: float) -> None:
        """Prints a line as an event of its own, which no file keeps."""
        self.on_event(
            {
                "event": "line",
                "format_version": progress.FORMAT_VERSION,
                "job_secs": round(job_secs, 3),
                "text": text,
            }
        )

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Prints an event."""
        text = json.dumps(event, sort_keys=True, allow_nan=False)
        self._stream.write(text + "\n")
        self._stream.flush()


class Bars(progress.Lines):
    """Draws bars below the lines: task iterations, generations, children."""

    def __init__(self, stream: TextIO):
        """Draws nothing yet.

        Args:
          stream: a terminal.
        """
        super().__init__(stream)
        self._iterations: Any = None
        self._generations: Any = None
        self._children: Any = None

    def on_run_begin(self, run: callback_lib.Run) -> None:
        """Draws the bar of the whole job."""
        self._iterations = self._bar(
            "task iterations", run.num_task_iterations, 0
        )

    def on_task_begin(self, start: callback_lib.TaskStart) -> None:
        """Draws the bars of a task iteration."""
        self._end_iteration()
        self._generations = self._bar(start.task, start.num_generations, 1)
        self._generations.update(start.num_generations_done)
        self._children = self._bar("children", start.num_children, 2)
        self._count_children()

    def on_cycle_end(self, num_children: int, num_cycles: int) -> None:
        """Moves the bar of children by parts of children."""
        if self._children is not None:
            self._children.update(num_children / num_cycles)

    def on_message(self, text: str, job_secs: float) -> None:
        """Prints a line above the bars."""
        if self._iterations is None and self._generations is None:
            super().on_message(text, job_secs)
            return
        import tqdm

        with tqdm.tqdm.external_write_mode(file=self._stream):
            super().on_message(text, job_secs)

    def on_generation_end(self, event: Mapping[str, Any]) -> None:
        """Moves the bar of generations."""
        if self._generations is None:
            return
        if event["best_score"] is not None:
            self._generations.set_postfix(
                best=f"{event['best_score']:.4f}", refresh=False
            )
        self._generations.update()
        self._count_children()

    def on_task_end(self, event: Mapping[str, Any]) -> None:
        """Removes the bars of the task iteration and counts it."""
        del event
        self._end_iteration()
        if self._iterations is not None:
            self._iterations.update()

    def on_run_end(self) -> None:
        """Removes all bars."""
        self._end_iteration()
        if self._iterations is not None:
            self._iterations.close()
            self._iterations = None

    def _count_children(self) -> None:
        """Counts those of whole generations; of twins only one is trained."""
        total = self._children.total
        per_generation = -(-total // self._generations.total)
        num_done = min(self._generations.n * per_generation, total)
        self._children.update(num_done - self._children.n)

    def _end_iteration(self) -> None:
        for bar in (self._children, self._generations):
            if bar is not None:
                bar.close()
        self._children = self._generations = None

    def _bar(self, name: str, total: int, position: int) -> Any:
        # A tenth of the import time of everything that shows no bars.
        import tqdm

        return tqdm.tqdm(
            total=total,
            desc=name,
            position=position,
            file=self._stream,
            leave=False,
            dynamic_ncols=True,
            bar_format="{desc:<20.20} {bar} {n:.4g}/{total} {postfix}",
        )
