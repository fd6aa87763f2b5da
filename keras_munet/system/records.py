"""Records of what a system holds, for people, tables and notebooks.

Invariant: a record holds plain values alone, so `pandas.DataFrame(records)`
and `json.dumps` take it; reading one changes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import html
import json
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from keras_munet.core import printable
from keras_munet.core import specs
from keras_munet.search import population as population_lib
from keras_munet.store import event_reader
from keras_munet.store import reader
from keras_munet.store import storage
from keras_munet.store import task_state


class _Record(Mapping[str, Any]):
    """A frozen dataclass that may be read as a dict too."""

    def __getitem__(self, key: str) -> Any:
        if key in self._names():
            return getattr(self, key)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values by name."""
        return {key: _plain(self[key]) for key in self}

    def _names(self) -> tuple[str, ...]:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return tuple(field.name for field in fields)


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation(_Record):
    """The measures of a published path, as `System.evaluate` takes them.

    It may be read as a dict, `evaluation["test_accuracy"]`, too.

    Attributes:
      path_id: of the path.
      validation_accuracy: in [0, 1]; see `measure`.
      test_accuracy: likewise.
      score: validation quality times today's size penalty.
      num_layers: transformer blocks of the path.
      num_params: its parameters, shared or not.
      accounted_params: each parameter divided by the tasks that use it.
      test_metrics: the measures of `core.classification_metrics` by name; None
        where a logit is not finite.
      measure: the measure that both accuracies are: `accuracy`, or the quality
        that decides where an image has any number of labels.

    Example:
      >>> evaluation = system.evaluate()["digits"]
      >>> evaluation.test_accuracy == evaluation["test_accuracy"] > 0.9
      True
    """

    path_id: str
    validation_accuracy: float
    test_accuracy: float
    score: float
    num_layers: int
    num_params: int
    accounted_params: float
    test_metrics: Mapping[str, Any] | None
    measure: str = "accuracy"


@dataclasses.dataclass(frozen=True, eq=False)
class TaskInfo(_Record):
    """A task of a system and its published path.

    It may be read as a dict, `info["num_classes"]`, too.

    Attributes:
      name: the bare name.
      private: whether other tasks never start from its paths.
      num_classes: width of its head.
      class_names: one per class; none where the classes have no names.
      parent_task: the task that its path was cloned from; None for the root.
      path_id: of its published path.
      num_layers: transformer blocks of the path.
      num_params: its parameters, shared or not.
      accounted_params: each parameter divided by the tasks that use it.
      validation_quality: the measure that decided, in [0, 1].
      test_accuracy: in [0, 1]; see `measure`.
      score: what the path was chosen by.
      num_iterations_done: task iterations behind it.
      target_type: `single_label`, or `multi_label` where an image has any
        number of labels.
      measure: the measure that the test accuracy is: `accuracy`, or of any
        number of labels the quality that decides.

    Example:
      >>> info = system["digits"]
      >>> info.num_classes, info.parent_task, info.private
      (10, None, False)
    """

    name: str
    private: bool
    num_classes: int
    class_names: tuple[str, ...]
    parent_task: str | None
    path_id: str
    num_layers: int | None
    num_params: int
    accounted_params: float
    validation_quality: float | None
    test_accuracy: float | None
    score: float | None
    num_iterations_done: int
    target_type: str = "single_label"
    measure: str = "accuracy"


def task_info(
    state: task_state.TaskState,
    population: population_lib.Population,
    quality: str,
) -> TaskInfo:
    """Returns the record of a published task.

    Args:
      state: its published state.
      population: the living paths.
      quality: the setting `search.quality`.
    """
    path = state.published
    parents = [p.task for p in population.ancestors(path)]
    earlier = [task for task in parents if task != state.task]
    parent = earlier[0] if earlier else specs.NOT_TRAINABLE
    return TaskInfo(
        name=state.task,
        private=state.private,
        num_classes=state.num_classes,
        class_names=tuple(map(printable.printable, state.class_names)),
        parent_task=None if parent == specs.NOT_TRAINABLE else parent,
        path_id=path.id,
        num_layers=path.hparams.get("num_layers"),
        num_params=path.num_params,
        accounted_params=population.accounted_params(
            state.task, path.components
        ),
        validation_quality=path.metrics.get("quality"),
        test_accuracy=path.metrics.get("test_quality"),
        score=path.metrics.get("score"),
        num_iterations_done=state.num_iterations_done,
        target_type=state.target.name,
        measure=state.target.test_measure(quality),
    )


def sharing(population: population_lib.Population) -> list[dict[str, Any]]:
    """Returns a record per component in use: place, id, size and tasks.

    Args:
      population: the living paths.
    """
    of_root = {ref.id for ref in population.root.components}
    records: dict[str, dict[str, Any]] = {}
    for task, path in population.published.items():
        for ref in path.components:
            record = records.setdefault(
                ref.id,
                {
                    "place": ref.name,
                    "component_id": ref.id,
                    "num_params": ref.num_params,
                    "from_root": ref.id in of_root,
                    "tasks": [],
                },
            )
            record["tasks"].append(task)
    return list(records.values())


def history(directory: reader.SystemReader) -> list[dict[str, Any]]:
    """Returns a record per child, in the order of training.

    A line of a log that holds no event is left out.

    Args:
      directory: of the system.
    """
    records: dict[tuple[Any, ...], dict[str, Any]] = {}
    # There is no log before the first generation.
    with contextlib.suppress(storage.MissingFileError):
        for line in event_reader.read_events(directory.files):
            if line.event is not None and line.event["event"] == "generation":
                with contextlib.suppress(KeyError, TypeError, ValueError):
                    _take_children(line.event, records)
    return list(records.values())


def _take_children(
    event: Mapping[str, Any],
    records: dict[tuple[Any, ...], dict[str, Any]],
) -> None:
    of_event = {
        "task": event["task"],
        "iteration": event["iteration"],
        "generation": event["number"],
    }
    for child in event["children"]:
        key = *of_event.values(), child["index"]
        # A job that was killed may have done a generation twice.
        records.pop(key, None)
        records[key] = of_event | {
            name: value
            for name, value in _child(child).items()
            if name not in of_event
        }


def _child(child: Mapping[str, Any]) -> dict[str, Any]:
    losses = child["losses"]
    record = {
        "child": child["index"],
        "parent_task": _parent(child["parent_task"]),
        "path_id": child.get("path_id"),
        "score": child["score"],
        "loss": losses[-1] if losses else None,
        "improved": child["improved"],
        "num_layers": child["num_layers"],
        "num_trained": len(child["trained"]),
    }
    hparams = child["hparams"].items()
    return record | {key: v for key, v in hparams if key not in record}


def _parent(task: str) -> str | None:
    return None if task == specs.NOT_TRAINABLE else task


def leaderboard_html(title: str, tasks: list[TaskInfo], quality: str) -> str:
    """Returns the tasks as an HTML table, for notebooks.

    Args:
      title: of the table.
      tasks: a row each.
      quality: the measure on validation data that decides, in words.
    """
    head = ["task", "parent", "classes", f"validation {quality}"]
    head += ["test accuracy", "parameters", "of its own"]
    rows = [
        [
            task.name,
            task.parent_task or "root",
            str(task.num_classes),
            _share(task.validation_quality),
            _share(task.test_accuracy)
            + ("" if task.measure == "accuracy" else f" ({_words(task)})"),
            f"{task.num_params:,}",
            f"{task.accounted_params:,.0f}",
        ]
        for task in tasks
    ]
    return (
        f"<table><caption>{_escaped(title)}</caption>"
        f"<thead>{_row('th', head)}</thead>"
        f"<tbody>{''.join(_row('td', row) for row in rows)}</tbody></table>"
    )


def _row(tag: str, cells: list[str]) -> str:
    inner = "".join(f"<{tag}>{_escaped(cell)}</{tag}>" for cell in cells)
    return f"<tr>{inner}</tr>"


def _escaped(text: str) -> str:
    return html.escape(printable.printable(text))


def _words(task: TaskInfo) -> str:
    return task.measure.replace("_", " ")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
