"""Other methods' results, read from the `comparison.json` of a comparison.

Invariant: what is read is finite numbers and names; anything else refuses the
whole file, so that a chart never shows a part as if it were all.
"""

from __future__ import annotations

import math
import os
from typing import Any

from keras_munet import errors
from keras_munet.core import commands
from keras_munet.core import guarded_json
from keras_munet.core import system_paths
from keras_munet.report import comparison_records
from keras_munet.report import formatting
from keras_munet.store import files as files_lib
from keras_munet.store import storage

FILE = system_paths.COMPARISON_FILE
_NUM_BYTES_MAX = 1 << 28


def read_points(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns what a report shows of a comparison, as plain JSON values.

    Args:
      directory: the folder that `launch/compare.py` wrote.

    Returns:
      `name`, `tasks` (names), and `runs`: `method`, `seed`, and `params`,
      `test`, `secs` and `cpu_secs`: accounted parameters, test accuracy, wall
      and CPU time of training of each task; times may be None.

    Raises:
      UsageError: the folder has no such file.
      StoreError: the file is damaged or of another version.
    """
    files = files_lib.open_storage(directory)
    try:
        text = files.read(FILE, _NUM_BYTES_MAX)
    except storage.MissingFileError as error:
        raise errors.UsageError(
            f"{files.where} has no {FILE}; give the --workdir of a finished "
            f"{commands.command('compare')}"
        ) from error
    try:
        record = guarded_json.loads(text)
        if record["format_version"] != comparison_records.FORMAT_VERSION:
            raise ValueError("of another version")
        return {
            "name": formatting.plain(record["name"]),
            "tasks": [formatting.plain(name) for name in record["task_names"]],
            "runs": [_run(r, record["task_names"]) for r in record["runs"]],
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise errors.StoreError(
            f"{files.where}/{FILE} is damaged or of another version; run "
            f"{commands.command('compare')} again to write it anew"
        ) from error


def _run(value: Any, task_names: list[str]) -> dict[str, Any]:
    tasks = {task["task"]: task for task in value["tasks"]}
    return {
        "method": formatting.plain(value["method"]),
        "seed": _number(value["seed"]),
        "params": [
            _number(tasks[name]["accounted_params"]) for name in task_names
        ],
        "test": [_share(tasks[name]["test"]) for name in task_names],
        "secs": [
            _number_or_none(tasks[name].get("train_secs"))
            for name in task_names
        ],
        "cpu_secs": [
            _number_or_none(tasks[name].get("cpu_secs")) for name in task_names
        ],
    }


def _share(value: Any) -> float:
    if not 0 <= _number(value) <= 1:
        raise ValueError("not a share")
    return value


def _number_or_none(value: Any) -> float | None:
    return None if value is None else _number(value)


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError("not a number")
    return value
