"""Every path and every child of a system as the columns of one table.

Invariant: each child of each generation is one row, and so is each published
path, the root, and each parent of which nothing but the id is left. A parent
is named by its row; where no row has its id, the child says -1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_munet.core import child_record
from keras_munet.core import specs
from keras_munet.report import events
from keras_munet.report import formatting
from keras_munet.report import phrases

# Columns `status` holds positions in this list.
STATUSES = (
    "root",
    "published",
    "replaced",
    "kept",
    "not better",
    "diverged",
    "unknown",
)
ROOT, PUBLISHED, REPLACED, KEPT, NOT_BETTER, DIVERGED, UNKNOWN = range(7)
_NUM_DIGITS = 5
_NUM_LIST_MAX = 1_000
_NUM_ID_CHARS = 8


class Values:
    """Numbers distinct values in the order in which they come."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[str, int] = {}

    def number(self, value: Any) -> int:
        """Returns the position of a plain JSON value in `values`."""
        key = json.dumps(value, sort_keys=True)
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(value)
        return self._numbers[key]


class _Table:
    """Collects rows; a path id names at most one of them."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.by_id: dict[str, int] = {}

    def add(self, path_id: str | None, parent: str | None, **row: Any) -> None:
        if path_id is not None:
            if path_id in self.by_id:
                return
            self.by_id[path_id] = len(self.rows)
        self.rows.append({"id": path_id, "parent": parent, **row})


def columns(
    history: events.History,
    root: specs.PathRecord,
    published: Iterable[specs.PathRecord],
    task_numbers: Mapping[str, int],
) -> dict[str, Any]:
    """Returns the table as plain JSON values.

    Args:
      history: what happened.
      root: the root path.
      published: the published paths.
      task_numbers: task -> what stands for it, for every task of `history`
        and `published`.

    Returns:
      `id`, `task`, `generation` (position in the order of events, -1 without
      one), `child`, `parent` (a row, or -1), `status`, `score`, `scores` and
      `losses` (of each cycle), `places` and `trained` (numbers in
      `place_lists`), `record` (a number in `records`, or -1 where none is
      known), each a list with a value per row; `hparams`: name -> `[distinct
      values, number per row or -1]`; and `origins`, of which the components
      of a record are numbers.
    """
    living = {path.id: path for path in published}
    table = _Table()
    table.add(
        root.id,
        None,
        status=ROOT,
        places=[ref.name for ref in root.components],
        hparams=root.hparams,
    )
    # Older events name a child's path only where it was published.
    ids = {
        created_in: path_id
        for path_id, created_in in history.publications.items()
    }
    for generation in sorted(history.generations, key=lambda g: g.position):
        for child in generation.children:
            created_in = (
                generation.task,
                generation.iteration,
                child.get("index"),
            )
            path_id = child.get("path_id") or ids.get(created_in)
            if path_id in living:
                status = PUBLISHED
            elif path_id in history.publications:
                status = REPLACED
            elif child["improved"] is True:
                status = KEPT
            else:
                status = DIVERGED if child["score"] is None else NOT_BETTER
            _add_child(table, generation, child, path_id, status)
    for path in living.values():
        table.add(
            path.id,
            path.parent,
            task=path.task,
            status=PUBLISHED,
            score=path.metrics.get("score"),
            places=[ref.name for ref in path.components],
            hparams=path.hparams,
        )
    _add_unknown_parents(table, history)
    return _packed(table, task_numbers)


def _add_child(
    table: _Table,
    generation: events.Generation,
    child: Mapping[str, Any],
    path_id: str | None,
    status: int,
) -> None:
    table.add(
        path_id,
        child["parent"],
        task=generation.task,
        parent_task=child["parent_task"],
        generation=generation.position,
        child=child.get("index", -1),
        status=status,
        score=child["score"],
        scores=child.get("scores"),
        losses=child.get("losses"),
        places=child.get("components"),
        trained=child.get("trained"),
        hparams=child.get("hparams"),
        record=child.get(child_record.KEY),
    )


def _add_unknown_parents(table: _Table, history: events.History) -> None:
    for row in list(table.rows):
        parent = row["parent"]
        if parent is not None and parent not in table.by_id:
            table.add(
                parent,
                None,
                task=history.path_tasks.get(parent, row.get("parent_task", "")),
                status=UNKNOWN,
            )


def _packed(table: _Table, task_numbers: Mapping[str, int]) -> dict[str, Any]:
    rows = table.rows
    lists, records, origins = Values(), Values(), Values()
    parents = [table.by_id.get(row["parent"], -1) for row in rows]
    _open_circles(parents)
    packed: dict[str, Any] = {
        "id": [row["id"] and formatting.plain(row["id"]) for row in rows],
        "parent": parents,
        "task": [task_numbers.get(row.get("task", ""), -1) for row in rows],
        "generation": [row.get("generation", -1) for row in rows],
        "child": [row.get("child", -1) for row in rows],
        "status": [row["status"] for row in rows],
        "score": [rounded(row.get("score")) for row in rows],
        "scores": [_numbers(row.get("scores")) for row in rows],
        "losses": [_numbers(row.get("losses")) for row in rows],
        "places": [lists.number(_names(row.get("places"))) for row in rows],
        "trained": [lists.number(_names(row.get("trained"))) for row in rows],
    }
    packed["place_lists"] = lists.values
    packed["record"] = [
        records.number(_record(row["record"], origins))
        if row.get("record") is not None
        else -1
        for row in rows
    ]
    packed["records"] = records.values
    packed["origins"] = origins.values
    packed["hparams"] = _hparams([row.get("hparams") for row in rows])
    return packed


def _record(record: child_record.ChildRecord, origins: Values) -> list[Any]:
    """Returns a record as the page shows it, a list as there may be many.

    Returns:
      `[components, mutations, inserted, removed, size factor, accounted
      parameters, quality, duplicate of]`. A component is a number in
      `origins`, each `[place, init, trainable, parameters, source, task]`; of
      the source's id it has the first characters.
    """
    parts = [
        [
            formatting.plain(part.name),
            part.init,
            part.trainable,
            part.num_params,
            part.source and part.source[:_NUM_ID_CHARS],
            part.source_task
            and formatting.plain(phrases.parent_name(part.source_task)),
        ]
        for part in record.components[:_NUM_LIST_MAX]
    ]
    return [
        [origins.number(part) for part in parts],
        [
            [formatting.plain(m.name), _value(m.before), _value(m.after)]
            for m in record.mutations[:_NUM_LIST_MAX]
        ],
        _names(record.adapters_inserted),
        _names(record.adapters_removed),
        rounded(record.size_factor),
        rounded(record.accounted_params),
        rounded(record.quality),
        record.duplicate_of,
    ]


def _open_circles(parents: list[int]) -> None:
    """Takes a parent off each circle, which damaged events may hold."""
    visited: set[int] = set()
    for start in range(len(parents)):
        walked: set[int] = set()
        row = start
        while row >= 0 and row not in visited:
            walked.add(row)
            if parents[row] in walked:
                parents[row] = -1
            row = parents[row]
        visited |= walked


def _hparams(of_rows: Sequence[Any]) -> dict[str, Any]:
    hparams_of_rows = [h if isinstance(h, Mapping) else {} for h in of_rows]
    packed = {}
    for name in sorted(
        {name for hparams in hparams_of_rows for name in hparams}
    ):
        values = Values()
        numbers = [
            values.number(_value(h[name])) if name in h else -1
            for h in hparams_of_rows
        ]
        packed[formatting.plain(name)] = [values.values, numbers]
    return packed


def rounded(value: Any) -> float | None:
    """Returns a number with as many digits as a report shows, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(f"{value:.{_NUM_DIGITS}g}") if math.isfinite(value) else None


def _numbers(values: Any) -> list[float | None]:
    if not isinstance(values, list | tuple):
        return []
    return [rounded(value) for value in values[:_NUM_LIST_MAX]]


def _names(values: Any) -> list[str]:
    if not isinstance(values, list | tuple):
        return []
    return [formatting.plain(value) for value in values[:_NUM_LIST_MAX]]


def _value(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and math.isfinite(value):
        return value
    return formatting.plain(value)
