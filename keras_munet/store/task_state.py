"""Defines the published state of a task: its best path and its origin.

Invariant: one file holds all of it, so that a reader sees the state before or
after a task iteration and never parts of both. When the task is removed, the
same file keeps what other tasks' lineages need.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_munet import errors
from keras_munet.core import fingerprint
from keras_munet.core import json_fields
from keras_munet.core import multi_label_metrics
from keras_munet.core import names
from keras_munet.core import specs
from keras_munet.core import target_types

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class TaskState:
    """The published state of one task.

    Attributes:
      task: the task's bare name, without `private:`.
      private: whether its paths are never seeds for other tasks.
      num_classes: width of its head.
      class_names: one per class, or none if the classes have no names.
      num_iterations_done: task iterations finished for this task.
      num_iterations_before: those of them from before it was removed and
        added again.
      published: its best path.
      retired: dead published path id -> its parent's id, for lineages.
      child_counts: path id -> children sampled from it for this task.
      data: what it was trained on; None in systems of before 2026-12.
      test_metrics: what the path answers on test data; None in systems of
        before 2026-12.
      target: the type of its labels; in systems of before 2026-12 always one
        label an image.
    """

    task: str
    private: bool
    num_classes: int
    class_names: tuple[str, ...]
    num_iterations_done: int
    published: specs.PathRecord
    retired: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    child_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    num_iterations_before: int = 0
    data: fingerprint.DataFingerprint | None = None
    test_metrics: target_types.Metrics | None = None
    target: target_types.TargetType = target_types.SINGLE_LABEL

    @property
    def num_rounds(self) -> int:
        """The number of rounds of the task since it was added."""
        return self.num_iterations_done - self.num_iterations_before

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """Of each class the score from which an image has it.

        None where an image has one label.
        """
        if self.target is target_types.SINGLE_LABEL:
            return None
        metrics = self.test_metrics
        if isinstance(metrics, multi_label_metrics.MultiLabelMetrics):
            return metrics.thresholds
        return (multi_label_metrics.THRESHOLD,) * self.num_classes

    def validate(self) -> TaskState:
        """Returns itself if its parts agree.

        Raises:
          ValueError: they do not; the message is part of a line.
        """
        _need_name(self.task)
        _need(isinstance(self.private, bool), "private", "true or false")
        _need(
            json_fields.is_count(self.num_classes) and self.num_classes > 0,
            "num_classes",
            "a whole number above 0",
        )
        _need(
            isinstance(self.class_names, tuple)
            and all(isinstance(name, str) for name in self.class_names)
            and len(self.class_names) in (0, self.num_classes),
            "class_names",
            f"{self.num_classes} texts, or none",
        )
        _need(
            json_fields.is_count(self.num_iterations_done),
            "num_iterations_done",
            "a whole number from 0",
        )
        _need(
            json_fields.is_count(self.num_iterations_before)
            and self.num_iterations_before <= self.num_iterations_done,
            "num_iterations_before",
            "a whole number up to num_iterations_done",
        )
        _need(
            self.published.task == self.task,
            "published",
            f"a path of {self.task}",
        )
        _need(
            self.test_metrics is None
            or self.test_metrics.num_classes == self.num_classes,
            "test_metrics",
            f"of {self.num_classes} classes",
        )
        _need(
            self.test_metrics is None
            or isinstance(self.test_metrics, self.target.metrics),
            "test_metrics",
            f"of labels of the type {self.target.name}",
        )
        _need_retired(self.retired)
        _need(
            all(
                isinstance(key, str) and json_fields.is_count(value)
                for key, value in self.child_counts.items()
            ),
            "child_counts",
            "whole numbers by path id",
        )
        return self

    def to_json(self, *, with_components: bool = True) -> dict[str, Any]:
        """Returns plain JSON values; `from_json` is the inverse.

        Args:
          with_components: False leaves the list of components empty.
        """
        path = self.published.to_json(with_components=with_components)
        value = {
            "format_version": FORMAT_VERSION,
            "task": self.task,
            "private": self.private,
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
            "num_iterations_done": self.num_iterations_done,
            "num_iterations_before": self.num_iterations_before,
            "published": path,
            "retired": dict(self.retired),
            "child_counts": dict(self.child_counts),
        }
        if self.data is not None:
            value["data"] = self.data.to_json()
        if self.test_metrics is not None:
            value["test_metrics"] = self.test_metrics.to_json()
        if self.target is not target_types.SINGLE_LABEL:
            value["target_type"] = self.target.name
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TaskState:
        """Returns the state that `to_json` wrote.

        Raises:
          ValueError: it is not one, or a record's id does not fit.
        """
        try:
            state = cls.parse(value)
            same = state.to_json() == value
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"its parts are not those of a task's state "
                f"({type(error).__name__}: {error})"
            ) from error
        if not same:
            raise ValueError("it has parts that a task's state does not have")
        return state

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> TaskState:
        """Returns the state in a value that may have further parts.

        Raises:
          ValueError: it is not one, or a record's id does not fit.
          KeyError: a part is missing.
          TypeError: a part is of another type.
          AttributeError: likewise.
        """
        target = target_types.named(value)
        return cls(
            task=value["task"],
            private=value["private"],
            num_classes=value["num_classes"],
            class_names=tuple(value["class_names"]),
            num_iterations_done=value["num_iterations_done"],
            num_iterations_before=value["num_iterations_before"],
            published=specs.PathRecord.from_json(value["published"]),
            retired=dict(value["retired"]),
            child_counts=dict(value["child_counts"]),
            data=fingerprint.DataFingerprint.from_json(value["data"])
            if "data" in value
            else None,
            test_metrics=target.metrics.from_json(value["test_metrics"])
            if "test_metrics" in value
            else None,
            target=target,
        ).validate()


@dataclasses.dataclass(frozen=True)
class RemovedTask:
    """The remains of a removed task.

    Attributes:
      task: the task's bare name.
      num_iterations_done: task iterations that it had.
      retired: dead path id -> its parent's id; its last path is among them.
    """

    task: str
    num_iterations_done: int
    retired: Mapping[str, str | None]

    @classmethod
    def of(cls, state: TaskState) -> RemovedTask:
        """Returns what is to be left of a published task."""
        path = state.published
        return cls(
            state.task,
            state.num_iterations_done,
            {**state.retired, path.id: path.parent},
        )

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_json` is the inverse."""
        return {
            "format_version": FORMAT_VERSION,
            "task": self.task,
            "removed": True,
            "num_iterations_done": self.num_iterations_done,
            "retired": dict(self.retired),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RemovedTask:
        """Returns the record that `to_json` wrote.

        Raises:
          ValueError: it is not one.
        """
        try:
            record = cls(
                task=value["task"],
                num_iterations_done=value["num_iterations_done"],
                retired=dict(value["retired"]),
            )
            _need_name(record.task)
            _need_retired(record.retired)
            _need(
                json_fields.is_count(record.num_iterations_done),
                "num_iterations_done",
                "a whole number from 0",
            )
            # 1 would be equal, and written as another byte.
            same = record.to_json() == value and value["removed"] is True
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"its parts are not those of a removed task "
                f"({type(error).__name__}: {error})"
            ) from error
        if not same:
            raise ValueError("it has parts that a removed task does not have")
        return record


def from_json(value: Mapping[str, Any]) -> TaskState | RemovedTask:
    """Returns what a task's file says.

    Raises:
      ValueError: it is neither a task's state nor what is left of one.
    """
    if "removed" in value:
        return RemovedTask.from_json(value)
    return TaskState.from_json(value)


def _need_name(task: Any) -> None:
    try:
        bare, private = names.split_private(task)
    except (errors.UsageError, TypeError, AttributeError) as error:
        raise ValueError(f"its task cannot be {task!a}") from error
    if private:
        raise ValueError(
            f"its task is {task!a}; name it {bare!a} with private=True"
        )


def _need_retired(retired: Mapping[str, str | None]) -> None:
    _need(
        all(
            specs.is_path_id(key) and (value is None or specs.is_path_id(value))
            for key, value in retired.items()
        ),
        "retired",
        "path ids by path id",
    )


def _need(holds: bool, name: str, allowed: str) -> None:
    if not holds:
        raise ValueError(f"its {name} must be {allowed}")
