"""Records how a child of the search came to be, for its event.

Invariant: a record is written where its values are chosen, so a reader infers
nothing; a reader takes a record of the documented kinds or none.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from keras_munet.core import json_fields

# How a component of a child gets its first values.
SHARE = "share"
COPY = "copy"
RESAMPLE = "resample"
FRESH = "fresh"
SOLVED = "solved"
INITS = (SHARE, COPY, RESAMPLE, FRESH, SOLVED)
# Those without a source.
_SOURCELESS = (FRESH, SOLVED)
# The key of an event's child that holds its record.
KEY = "record"

_OBJECT_ID = re.compile("[0-9a-f]{64}")
Value = bool | int | float | str | None


@dataclasses.dataclass(frozen=True)
class ComponentOrigin:
    """Records where one component of a child comes from.

    Attributes:
      name: its place in the path, e.g. `encoderblock_0`.
      init: `share` uses the source as it is; `copy` starts from its values
        (a clone), `resample` from its values on another grid; `fresh` from
        new ones. A `solved` head is computed from the features below it.
      trainable: whether the child trains it.
      num_params: its parameter count.
      source: object id of the component it comes from; None if fresh or
        solved.
      source_task: task of the path that has the source, `NOT_TRAINABLE` for
        the root; None if fresh or solved.
    """

    name: str
    init: str
    trainable: bool
    num_params: int
    source: str | None
    source_task: str | None

    def to_json(self) -> list[Any]:
        """Returns the attributes in order."""
        return list(dataclasses.astuple(self))

    @classmethod
    def from_json(cls, value: Any) -> ComponentOrigin:
        """Returns the origin that `to_json` wrote.

        Raises:
          ValueError: it is none.
        """
        name, init, trainable, num_params, source, source_task = _items(value)
        if (
            not isinstance(init, str)
            or init not in INITS
            or type(trainable) is not bool
            or (trainable and init in (SHARE, SOLVED))
        ):
            raise ValueError("a component comes in no known way")
        num_params = _count(num_params)
        if init in _SOURCELESS:
            if source is not None or source_task is not None:
                raise ValueError(f"a {init} component has a source")
        elif not isinstance(source, str) or not _OBJECT_ID.fullmatch(source):
            raise ValueError("a component's source is no object id")
        else:
            source_task = _text(source_task)
        return cls(
            _text(name), init, trainable, num_params, source, source_task
        )


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A hyperparameter whose value is not the parent's.

    Attributes:
      name: the hyperparameter.
      before: its value in the parent.
      after: its value in the child.
    """

    name: str
    before: Value
    after: Value

    def to_json(self) -> list[Any]:
        """Returns `[name, before, after]`."""
        return [self.name, self.before, self.after]

    @classmethod
    def from_json(cls, value: Any) -> Mutation:
        """Returns the mutation that `to_json` wrote.

        Raises:
          ValueError: it is none.
        """
        name, before, after = _items(value)
        return cls(_text(name), _plain(before), _plain(after))


@dataclasses.dataclass(frozen=True)
class ChildRecord:
    """Records what made one child and what its training reached.

    Attributes:
      components: where each component comes from, input first.
      mutations: hyperparameters that are not the parent's, by name.
      adapters_inserted: places of adapters that the parent lacks.
      adapters_removed: places of adapters that only the parent has.
      size_factor: the score is the quality times this.
      accounted_params: parameters, each divided by the tasks that use it, if
        the child were published.
      quality: validation accuracy in [0, 1] of the best snapshot; None
        without one.
      duplicate_of: index of an equal child of the generation, whose training
        this child shares; None if it was trained itself.

    Example:
      >>> record = ChildRecord((), (Mutation("opt_lr", 0.01, 0.02),))
      >>> ChildRecord.from_json(record.to_json()) == record
      True
    """

    components: tuple[ComponentOrigin, ...]
    mutations: tuple[Mutation, ...] = ()
    adapters_inserted: tuple[str, ...] = ()
    adapters_removed: tuple[str, ...] = ()
    size_factor: float = 1.0
    accounted_params: float = 0.0
    quality: float | None = None
    duplicate_of: int | None = None

    @property
    def num_by_init(self) -> dict[str, int]:
        """Number of components by `ComponentOrigin.init`, in that order."""
        inits = [component.init for component in self.components]
        return {init: inits.count(init) for init in INITS}

    @property
    def is_solved(self) -> bool:
        """Returns whether its head was solved and nothing of it was trained."""
        return any(component.init == SOLVED for component in self.components)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_json` is the inverse."""
        return {
            "components": [c.to_json() for c in self.components],
            "mutations": [m.to_json() for m in self.mutations],
            "adapters_inserted": list(self.adapters_inserted),
            "adapters_removed": list(self.adapters_removed),
            "size_factor": self.size_factor,
            "accounted_params": self.accounted_params,
            "quality": self.quality,
            "duplicate_of": self.duplicate_of,
        }

    @classmethod
    def from_json(cls, value: Any) -> ChildRecord:
        """Returns the record that `to_json` wrote.

        Raises:
          ValueError: it is none, or a part is of the wrong kind.
        """
        if not isinstance(value, Mapping):
            raise ValueError("a child's record is no object")
        missing_keys = [
            f.name for f in dataclasses.fields(cls) if f.name not in value
        ]
        if missing_keys:
            raise ValueError(f"a child's record lacks {missing_keys[0]}")
        quality, first = value["quality"], value["duplicate_of"]
        return cls(
            components=tuple(
                map(ComponentOrigin.from_json, _items(value["components"]))
            ),
            mutations=tuple(
                map(Mutation.from_json, _items(value["mutations"]))
            ),
            adapters_inserted=tuple(
                map(_text, _items(value["adapters_inserted"]))
            ),
            adapters_removed=tuple(
                map(_text, _items(value["adapters_removed"]))
            ),
            size_factor=_number(value["size_factor"]),
            accounted_params=_number(value["accounted_params"]),
            quality=None if quality is None else _number(quality),
            duplicate_of=None if first is None else _count(first),
        )


def mutations_between(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[Mutation, ...]:
    """Returns the values of `after` that are others than in `before`.

    Args:
      before: the parent's hyperparameters; what it lacks is no mutation.
      after: the child's.
    """
    return tuple(
        Mutation(name, before[name], after[name])
        for name in sorted(after)
        if name in before and before[name] != after[name]
    )


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("a part of a child's record is no list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("a name in a child's record is no printable text")
    return value


def _count(value: Any) -> int:
    if not json_fields.is_count(value):
        raise ValueError("a number in a child's record is no count")
    return value


def _number(value: Any) -> float:
    if not json_fields.is_number(value) or value < 0:
        raise ValueError("a number in a child's record is not at least 0")
    return float(value)


def _plain(value: Any) -> Value:
    """Returns a hyperparameter's value if it is one that a report can show."""
    if value is None or type(value) is bool:
        return value
    if type(value) is str:
        return _text(value)
    if json_fields.is_number(value):
        return value
    raise ValueError("a hyperparameter in a child's record is no plain value")
