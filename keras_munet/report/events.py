"""Reads the history of a system from the logs of its jobs.

Invariant: of a generation that was reported several times the last report
counts. What cannot be read costs a note and nothing else: a line, as the file
is appended to by jobs that may be killed in the middle of one, or the times or
a child's record alone, where only these are wrong.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

from keras_munet import errors
from keras_munet.core import child_record
from keras_munet.report import formatting
from keras_munet.store import event_log
from keras_munet.store import event_reader
from keras_munet.store import files as files_lib
from keras_munet.store import storage

METRICS_FILE = event_log.METRICS_FILE
FORMAT_VERSION_MAX = event_reader.FORMAT_VERSION_MAX
_WRONG = (
    *(AttributeError, KeyError, IndexError, TypeError, ValueError),
    *(OverflowError, RecursionError),
)

_TORN = "could not be read whole"
_NEWER = "could not be read, as a newer version wrote it"
_NO_CLOCK = "could not be read for times by kind of work"
_NO_RECORD = "could not be read for where a child's components come from"


@dataclasses.dataclass(frozen=True)
class Generation:
    """One generation of one task iteration.

    Attributes:
      task: its task.
      iteration: the task iteration, from 0.
      number: the generation within it, from 1.
      num_children: children that were trained.
      num_improved: those that became paths.
      num_failed: those that never had a finite score.
      best_child_score: the best score among its children.
      best_score: the task's best score after it.
      secs: wall time, seconds.
      clock: `<kind>_secs` -> seconds, together at most `secs`; empty where
        the event tells no such times.
      cpu_secs: CPU time of all threads, seconds; None where the event does
        not tell.
      children: what was reported of each child; the `record` of each is a
        `child_record.ChildRecord`, or None where the event has none.
      position: among all generations in the order in which they ended, from
        0.
    """

    task: str
    iteration: int
    number: int
    num_children: int
    num_improved: int
    num_failed: int
    best_child_score: float | None
    best_score: float | None
    secs: float
    clock: Mapping[str, float]
    cpu_secs: float | None = None
    children: tuple[Mapping[str, Any], ...] = ()
    position: int = 0

    @property
    def records(self) -> list[child_record.ChildRecord | None]:
        """The record of each child; None where it is unknown."""
        return [child.get(child_record.KEY) for child in self.children]


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Ranks published paths for a task by a closed-form probe.

    Attributes:
      task: the task that is to be learned.
      iteration: its task iteration, from 0.
      paths: (task, `NOT_TRAINABLE` for the root; validation accuracy of a
        linear head on the path's features), the best first.
    """

    task: str
    iteration: int
    paths: tuple[tuple[str, float], ...]


@dataclasses.dataclass(frozen=True)
class History:
    """Everything that a report uses of the logs of a system's jobs.

    Attributes:
      generations: sorted by task, iteration and number.
      path_tasks: path id -> the task it belongs or belonged to.
      publications: path id -> (task, iteration of the task, child) that it
        was published as; the child is None where an event does not say.
      rankings: sorted by task and iteration; the last of each counts.
      num_repeated: reports of generations that later ones replace.
      notes: what a reader should know about the logs, one line each.
    """

    generations: tuple[Generation, ...] = ()
    path_tasks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    publications: Mapping[str, tuple[str, int, int | None]] = dataclasses.field(
        default_factory=dict
    )
    rankings: tuple[Ranking, ...] = ()
    num_repeated: int = 0
    notes: tuple[str, ...] = ()

    @property
    def num_children(self) -> int:
        """Children trained over all generations."""
        return sum(g.num_children for g in self.generations)

    @property
    def num_improved(self) -> int:
        """Children that became paths."""
        return sum(g.num_improved for g in self.generations)

    @property
    def num_failed(self) -> int:
        """Children that never had a finite score."""
        return sum(g.num_failed for g in self.generations)

    @property
    def num_duplicates(self) -> int:
        """Children that an equal one was trained for."""
        return sum(
            record is not None and record.duplicate_of is not None
            for g in self.generations
            for record in g.records
        )

    @property
    def total_secs(self) -> float:
        """Wall time of all generations, seconds."""
        return sum(g.secs for g in self.generations)

    @property
    def clock(self) -> dict[str, float]:
        """Clock key -> seconds, largest first; `other_secs` is the rest."""
        total: dict[str, float] = {}
        for generation in self.generations:
            for key, value in generation.clock.items():
                total[key] = total.get(key, 0.0) + value
        clock = dict(sorted(total.items(), key=lambda kv: (-kv[1], kv[0])))
        # Below that, it is what rounding leaves.
        rest = self.total_secs - sum(clock.values())
        if rest >= 0.01:
            clock["other_secs"] = clock.get("other_secs", 0.0) + rest
        return clock


def read_history(workdir: str | os.PathLike[str]) -> History:
    """Returns the history of the system in the directory `workdir`."""
    reader = _Reader()
    try:
        for line in event_reader.read_events(files_lib.open_storage(workdir)):
            reader.take(line)
    except storage.MissingFileError:
        return History(
            notes=(
                f"there is no {METRICS_FILE}: scores over generations and "
                "times are not known",
            )
        )
    except errors.StoreError as error:
        reader.notes.append(
            f"{METRICS_FILE} cannot be read, so scores over generations and "
            f"times are not complete: {error}"
        )
    return reader.history()


def parts(child: Mapping[str, Any]) -> dict[str, bool] | None:
    """Returns place -> whether the child trains it, or None if unknown.

    Events without records tell it in two lists of names.

    Args:
      child: of a `Generation`.
    """
    record = child[child_record.KEY]
    if record is not None:
        return {c.name: c.trainable for c in record.components}
    try:
        trained = [_text(name) for name in child["trained"]]
        return {_text(n): n in trained for n in child["components"]}
    except _WRONG:
        return None


class _Reader:
    """Collects events; the last report of a generation counts."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        # (task, iteration) -> generations that a stop rule spared, and seconds.
        self._spared: dict[tuple[str, int], tuple[int, float]] = {}
        self._generations: dict[tuple[str, int, int], Generation] = {}
        self._path_tasks: dict[str, str] = {}
        self._publications: dict[str, tuple[str, int, int | None]] = {}
        self._rankings: dict[tuple[str, int], Ranking] = {}
        self._num_taken = 0
        self._num_repeated = 0
        # (file, what a note says of it) -> the lines that it is about.
        self._problems: dict[tuple[str, str], list[int]] = {}

    def take(self, line: event_reader.Line) -> None:
        """Takes one line of a log in, whole or not."""
        self._line = line
        if line.is_torn:
            self._say(_TORN)
        if line.is_newer:
            self._say(_NEWER)
        record = line.event
        if record is None:
            return
        try:
            if record["event"] == "generation":
                self._generation(record)
            elif record["event"] == "ranked":
                self._ranked(record)
            elif record["event"] == "published":
                self._published(record)
            elif record["event"] == "ended_early":
                key = _text(record["task"]), _whole(record["iteration"])
                self._spared[key] = (
                    _whole(record["num_generations_spared"]),
                    _not_negative(record["secs_spared"]),
                )
        except _WRONG:
            self._say(_TORN)

    def _say(self, problem: str) -> None:
        key = self._line.file, problem
        self._problems.setdefault(key, []).append(self._line.number)

    def history(self) -> History:
        """Returns what was taken in."""
        for (file, problem), numbers in self._problems.items():
            # A torn line and the event that ends it may both be damaged.
            count = formatting.number_of(len(set(numbers)), "line")
            self.notes.append(
                f"{count} of {file} {problem} (first: line "
                f"{numbers[0]}); the rest is shown"
            )
        if self._num_repeated:
            self.notes.append(
                f"{formatting.number_of(self._num_repeated, 'generation')} ran "
                "more than once after an interruption; the last run counts"
            )
        if self._spared:
            nums, secs = zip(*self._spared.values(), strict=True)
            rounds = formatting.number_of(len(nums), "task iteration")
            self.notes.append(
                f"{rounds} ended early: "
                f"{formatting.number_of(sum(nums), 'generation')}, about "
                f"{sum(secs):.0f} s, were spared"
            )
        ended = sorted(self._generations.values(), key=lambda g: g.position)
        placed = {
            (g.task, g.iteration, g.number): dataclasses.replace(g, position=i)
            for i, g in enumerate(ended)
        }
        return History(
            generations=tuple(placed[key] for key in sorted(placed)),
            path_tasks=self._path_tasks,
            publications=self._publications,
            rankings=tuple(self._rankings[k] for k in sorted(self._rankings)),
            num_repeated=self._num_repeated,
            notes=tuple(self.notes),
        )

    def _generation(self, record: Mapping[str, Any]) -> None:
        children = [self._child(child) for child in record["children"]]
        scores = [child["score"] for child in children]
        generation = Generation(
            task=_text(record["task"]),
            iteration=_whole(record["iteration"]),
            number=_whole(record["number"]),
            num_children=len(children),
            num_improved=sum(child["improved"] is True for child in children),
            num_failed=scores.count(None),
            best_child_score=max(
                (score for score in scores if score is not None), default=None
            ),
            best_score=_finite(record["best_score"]),
            secs=_not_negative(record["generation_secs"]),
            clock=self._clock(record),
            cpu_secs=_finite(record.get("cpu_secs")),
            children=tuple(children),
            position=self._num_taken,
        )
        self._num_taken += 1
        parents = {
            _text(child["parent"]): _text(child["parent_task"])
            for child in children
        }
        self._path_tasks.update(parents)
        key = generation.task, generation.iteration, generation.number
        self._num_repeated += key in self._generations
        self._generations[key] = generation

    def _clock(self, record: Mapping[str, Any]) -> dict[str, float]:
        """Returns what an event says that its seconds went into.

        Earlier versions wrote negative times, and times that are together
        longer than the generation; of these nothing is right.
        """
        try:
            clock = {
                _text(key): _not_negative(value)
                for key, value in record["clock"].items()
            }
            # Each was rounded by itself.
            rounding = 0.0006 * (len(clock) + 1)
            if sum(clock.values()) <= record["generation_secs"] + rounding:
                return clock
        except _WRONG:
            pass
        self._say(_NO_CLOCK)
        return {}

    def _child(self, value: Any) -> dict[str, Any]:
        """Returns what was reported of a child, of the kinds that it needs."""
        child = dict(value)
        if child.get("index") is not None:
            _whole(child["index"])
        if child.get("path_id") is not None:
            _text(child["path_id"])
        child["score"] = _finite(child["score"])
        record = child.pop(child_record.KEY, None)
        child[child_record.KEY] = None
        if record is not None:
            try:
                child[child_record.KEY] = child_record.ChildRecord.from_json(
                    record
                )
            except ValueError:
                self._say(_NO_RECORD)
        return child

    def _ranked(self, record: Mapping[str, Any]) -> None:
        ranking = Ranking(
            task=_text(record["task"]),
            iteration=_whole(record["iteration"]),
            paths=tuple(
                (_text(path["task"]), _not_negative(path["accuracy"]))
                for path in record["paths"]
            ),
        )
        self._rankings[ranking.task, ranking.iteration] = ranking

    def _published(self, record: Mapping[str, Any]) -> None:
        path, task = record["path"], _text(record["task"])
        born = path.get("born")
        child = None if born is None else _whole(born[2])
        path_id = _text(path["id"])
        self._publications[path_id] = task, _whole(record["iteration"]), child
        self._path_tasks[path_id] = task


def _finite(value: Any) -> float | None:
    """Returns a number that a report can show, or None for the others."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a number")
    number = float(value)
    return number if math.isfinite(number) else None


def _not_negative(value: Any) -> float:
    """Returns a number that is at least 0."""
    number = _finite(value)
    if number is None or number < 0:
        raise ValueError("not a number from 0 on")
    return number


def _whole(value: Any) -> int:
    # The bound keeps a damaged number from making a table of that width.
    if type(value) is not int or not 0 <= value < 1_000_000:
        raise ValueError("not a count")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
