"""Progress as a terminal or a program wants it: bars, lines or JSON.

Invariant: what is shown never changes what is done or written; a stream that
is no terminal gets whole lines and no control characters.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import TextIO

from keras_munet.callbacks import progress

Listener = Callable[[Mapping[str, Any]], None]


def reporter(
    workdir: str | os.PathLike[str] | None,
    stream: TextIO,
    *,
    quiet: bool = False,
    as_json: bool = False,
    stop: Callable[[], bool] | None = None,
    terminate: Callable[[], bool] | None = None,
    listeners: Iterable[Listener] = (),
) -> progress.Progress:
    """Returns the progress that suits a stream.

    Args:
      workdir: see `progress.Progress`.
      stream: where it is shown.
      quiet: show nothing; goes before `as_json`.
      as_json: one JSON object a line.
      stop: see `progress.Progress`.
      terminate: see `progress.Progress`.
      listeners: see `progress.Progress`.
    """
    kind: type[progress.Progress] = progress.Progress
    if as_json and not quiet:
        kind = JsonLines
    elif not quiet and stream.isatty() and os.environ.get("TERM") != "dumb":
        kind = Bars
    return kind(
        workdir,
        stream=stream,
        quiet=quiet,
        stop=stop,
        terminate=terminate,
        listeners=listeners,
    )


class JsonLines(progress.Progress):
    """Every event as it stands in `metrics.jsonl`, and every line as one."""

    def line(self, text: str) -> None:
        """Prints a line as an event of its own, which no file keeps."""
        secs = round(time.monotonic() - self._started, 3)
        self._print(
            {
                "event": "line",
                "format_version": progress.FORMAT_VERSION,
                "job_secs": secs,
                "text": text,
            }
        )

    def _tell(self, record: Mapping[str, Any]) -> None:
        self._print(record)
        super()._tell(record)

    def _print(self, record: Mapping[str, Any]) -> None:
        text = json.dumps(record, sort_keys=True, allow_nan=False)
        self._stream.write(text + "\n")
        self._stream.flush()


class Bars(progress.Progress):
    """Nested bars below the lines: task iterations, generations, children."""

    def __init__(self, *args: Any, **kwargs: Any):
        """Takes the arguments of `progress.Progress`."""
        super().__init__(*args, **kwargs)
        self._iterations: Any = None
        self._generations: Any = None
        self._children: Any = None

    def plan(self, num_generations: int, num_iterations: int) -> None:
        """Draws the bar of the whole job."""
        super().plan(num_generations, num_iterations)
        self._iterations = self._bar("task iterations", num_iterations, 0)

    def begin(
        self,
        *,
        task: str,
        num_done: int,
        num_generations: int,
        num_children: int,
    ) -> None:
        """Draws the bars of a task iteration."""
        super().begin(
            task=task,
            num_done=num_done,
            num_generations=num_generations,
            num_children=num_children,
        )
        self._end_iteration()
        self._generations = self._bar(task, num_generations, 1)
        self._generations.update(num_done)
        self._children = self._bar("children", num_children, 2)
        self._count_children()

    def cycle(self, num_children: int, num_cycles: int) -> None:
        """Moves the bar of children by parts of children."""
        if self._children is not None:
            self._children.update(num_children / num_cycles)

    def line(self, text: str) -> None:
        """Prints a line above the bars."""
        if self._iterations is None and self._generations is None:
            super().line(text)
            return
        import tqdm

        with tqdm.tqdm.external_write_mode(file=self._stream):
            super().line(text)

    def close(self) -> None:
        """Takes the bars away."""
        self._end_iteration()
        if self._iterations is not None:
            self._iterations.close()
            self._iterations = None
        super().close()

    def _tell(self, record: Mapping[str, Any]) -> None:
        if record["event"] == "generation" and self._generations is not None:
            if record["best_score"] is not None:
                self._generations.set_postfix(
                    best=f"{record['best_score']:.4f}", refresh=False
                )
            self._generations.update()
            self._count_children()
        if record["event"] == "published":
            self._end_iteration()
            if self._iterations is not None:
                self._iterations.update()
        super()._tell(record)

    def _count_children(self) -> None:
        """Counts those of whole generations; of twins only one is trained."""
        total = self._children.total
        per_generation = -(-total // self._generations.total)
        done = min(self._generations.n * per_generation, total)
        self._children.update(done - self._children.n)

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
