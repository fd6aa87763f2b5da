"""Components and paths as records: what a layer is, what a path is made of.

Invariant: records are frozen. A component's id is the digest of its spec and
its bytes, so a component never changes under its name; a path's id is the
digest of what made it. Sections 1 and 2 of the method.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import re
import sys
import warnings
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_munet.core import canonical_json
from keras_munet.core import json_fields

# The task name that roots carry: nothing may train their components.
NOT_TRAINABLE = "NOT_TRAINABLE"
SPEC_ID_CHARS = 16
PATH_ID_CHARS = 24
_PATH_ID = re.compile(f"[0-9a-f]{{{PATH_ID_CHARS}}}")
# What follows a reference's last text in canonical JSON, up to the next one.
_COUNT = re.compile(r",(0|[1-9][0-9]{0,14})\],\[", re.ASCII)

Hparams = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ComponentSpec:
    """The description of a component, without its values.

    Attributes:
      name: its place in a path, e.g. `encoderblock_0`.
      layer: the registered layer class, e.g. `EncoderBlock`.
      config: the layer's constructor arguments, plain JSON values.
      weights: (weight name, shape) in the order of the layer's variables.

    Example:
      >>> weights = (("kernel", (192, 10)), ("bias", (10,)))
      >>> ComponentSpec("head", "Head", {"num_classes": 10}, weights).num_params
      1930
    """

    name: str
    layer: str
    config: Mapping[str, Any]
    weights: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def num_params(self) -> int:
        """The number of parameters over all weights."""
        return sum(math.prod(shape) for _, shape in self.weights)

    @property
    def spec_id(self) -> str:
        """A short digest; equal for specs that can exchange values."""
        return canonical_json.json_digest(self.to_json(), SPEC_ID_CHARS)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_json` is the inverse."""
        return {
            "name": self.name,
            "layer": self.layer,
            "config": dict(self.config),
            "weights": [[name, list(shape)] for name, shape in self.weights],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ComponentSpec:
        """Returns the spec that `to_json` wrote."""
        return cls(
            name=value["name"],
            layer=value["layer"],
            config=dict(value["config"]),
            weights=tuple((n, tuple(s)) for n, s in value["weights"]),
        )

    def __hash__(self) -> int:
        return hash(self.spec_id)


@dataclasses.dataclass(frozen=True)
class Component:
    """A spec with its values: what the store keeps as one object.

    Attributes:
      spec: what it is.
      weights: weight name -> float32 array of the spec's shape.
      momentum: weight name -> array of the same shape (bfloat16 kept as
        uint16 bits), or None where the component was never trained.

    Example:
      >>> spec = ComponentSpec("encoder_norm", "Norm", {}, (("scale", (4,)),))
      >>> Component(spec, {"scale": np.ones(4, np.float32)}).momentum is None
      True
    """

    spec: ComponentSpec
    weights: Mapping[str, np.ndarray]
    momentum: Mapping[str, np.ndarray] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ComponentRef:
    """A published component as a path record names it.

    Attributes:
      name: its place in the path.
      id: SHA-256 of the stored object, 64 hex characters.
      spec_id: digest of its spec.
      num_params: its parameter count.
    """

    name: str
    id: str
    spec_id: str
    num_params: int

    def to_json(self) -> list[Any]:
        """Returns `[name, id, spec_id, num_params]`."""
        return [self.name, self.id, self.spec_id, self.num_params]

    @classmethod
    def from_json(cls, value: list[Any]) -> ComponentRef:
        """Returns the reference that `to_json` wrote.

        Raises:
          ValueError: it is none.
        """
        (ref,) = cls.list_from_json([value])
        return ref

    @classmethod
    def list_from_json(cls, values: list[list[Any]]) -> list[ComponentRef]:
        """Returns the references that `to_json` wrote, all at once.

        A system has millions of them, so they are verified together.

        Raises:
          ValueError: one is none.
        """
        if not values:
            return []
        try:
            names, ids, spec_ids, nums = zip(*values, strict=True)
            is_right = (
                "".join(names).isprintable()
                and "".join(ids).isprintable()
                and "".join(spec_ids).isprintable()
                and set(map(type, nums)) == {int}
                and json_fields.is_count(min(nums))
                and json_fields.is_count(max(nums))
                and set(map(len, values)) == {4}
            )
        except (TypeError, ValueError):
            is_right = False
        if not is_right:
            raise ValueError("a component is no [name, id, spec id, count]")
        # The places of all paths are a few texts.
        columns = map(sys.intern, names), ids, map(sys.intern, spec_ids), nums
        return [cls(*row) for row in zip(*columns, strict=True)]


class RefsText(str):
    """The text, in ASCII, of a path's components where their list would stand.

    A system has millions of them, which become objects where they are needed.
    """

    __slots__ = ()

    def columns(
        self,
    ) -> tuple[Sequence[str], Sequence[str], Sequence[str], Sequence[int]]:
        """Returns the names, the ids, the spec ids and the counts.

        Raises:
          ValueError: this is not what canonical JSON has of references whose
            texts it writes as they are.
        """
        parts = self.split('"')
        names, commas, ids, more, spec_ids, ends = (
            parts[column::6] for column in range(1, 7)
        )
        digits = "".join(ids)
        try:
            is_plain = (
                parts[0] == "[["
                and len(parts) % 6 == 1
                and set(commas) == set(more) == {","}
                and ends[-1].endswith("]]")
                and "\\" not in self
                and "".join(names).isprintable()
                and "".join(spec_ids).isprintable()
                # Spaces, which it passes over, make it shorter.
                and 2 * len(bytes.fromhex(digits)) == len(digits)
            )
        except ValueError:
            is_plain = False
        if is_plain:
            # As the others end.
            ends[-1] = f"{ends[-1][:-1]},["
            counts = {end: _COUNT.fullmatch(end) for end in set(ends)}
            nums = {end: int(m[1]) for end, m in counts.items() if m}
            is_plain = len(nums) == len(counts)
        if not is_plain:
            raise ValueError("its components are written in another way")
        # The places of all paths are a few texts.
        return (
            tuple(map(sys.intern, names)),
            tuple(ids),
            tuple(map(sys.intern, spec_ids)),
            tuple(map(nums.__getitem__, ends)),
        )


@dataclasses.dataclass(frozen=True)
class PathRecord:
    """An ordered list of components that solves one task.

    Attributes:
      task: the task it solves, or `NOT_TRAINABLE` for a root.
      parent: id of the path it was cloned from; None for a root.
      created_in: (task iteration, generation, child), the order of creation.
      hparams: every hyperparameter it was trained with.
      components: its components, input first.
      metrics: `quality`, `score`, `accounted_params`, `num_params`, and
        `test_quality` once it is published.

    Example:
      >>> head = ComponentRef("head", "0" * 64, "0" * 16, 1930)
      >>> path = PathRecord("digits", None, (0, 0, 0), {"opt_lr": 0.1}, (head,))
      >>> path.with_metrics(score=0.97).score, path.num_params
      (0.97, 1930)
    """

    task: str
    parent: str | None
    created_in: tuple[int, int, int]
    hparams: Mapping[str, Any]
    components: tuple[ComponentRef, ...]
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Makes `components` of what was read when they are needed."""
            fields = vars(self)
            columns = fields.get("_columns")
            if name == "components" and columns is not None:
                # Another thread may be about to do the same.
                fields[name] = tuple(map(ComponentRef, *columns))
                fields.pop("_columns", None)
            if name != "components" or name not in fields:
                raise AttributeError(f"a path record has no {name!r}")
            return fields[name]

    @property
    def born(self) -> tuple[int, int, int]:
        """The name of `created_in` until 0.3."""
        warnings.warn(
            "PathRecord.born is now created_in; the old name goes in 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.created_in

    @functools.cached_property
    def component_ids(self) -> tuple[str, ...]:
        """The ids of its components, input first."""
        return tuple(ref.id for ref in self.components)

    @functools.cached_property
    def id(self) -> str:
        """Digest of what made the path; its metrics are not part of it."""
        made_from: list[Any] = [
            self.task,
            self.parent,
            list(self.created_in),
            dict(self.hparams),
        ]
        if "_columns" not in vars(self):
            made_from.append(list(self.component_ids))
            return canonical_json.json_digest(made_from, PATH_ID_CHARS)
        # Digits, which JSON writes as they are.
        ids = '","'.join(self.component_ids)
        text = f'{canonical_json.dumps(made_from)[:-1]},["{ids}"]]'
        return hashlib.sha256(text.encode()).hexdigest()[:PATH_ID_CHARS]

    @property
    def is_root(self) -> bool:
        """Returns whether the path belongs to no task."""
        return self.task == NOT_TRAINABLE

    @property
    def score(self) -> float:
        """The score it was published with; minus infinity without one."""
        return float(self.metrics.get("score", -math.inf))

    @property
    def num_params(self) -> int:
        """Parameters of all its components, shared or not."""
        return sum(c.num_params for c in self.components)

    def component(self, name: str) -> ComponentRef | None:
        """Returns the component in the place `name`, or None."""
        return next((c for c in self.components if c.name == name), None)

    def with_metrics(self, **metrics: float) -> PathRecord:
        """Returns a copy with `metrics` added; the id stays the same."""
        return dataclasses.replace(self, metrics={**self.metrics, **metrics})

    def to_json(self, *, with_components: bool = True) -> dict[str, Any]:
        """Returns plain JSON values; `from_json` is the inverse.

        Args:
          with_components: False leaves the list of components empty.
        """
        refs = self.components if with_components else ()
        return {
            "id": self.id,
            "task": self.task,
            "parent": self.parent,
            "born": list(self.created_in),
            "hparams": dict(self.hparams),
            "components": [ref.to_json() for ref in refs],
            "metrics": dict(self.metrics),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PathRecord:
        """Returns the record that `to_json` wrote.

        Args:
          value: what it wrote; the components may be a `RefsText`.

        Raises:
          ValueError: the id does not match the content, or a part is of the
            wrong kind.
        """
        refs = value["components"]
        text = refs if isinstance(refs, RefsText) else None
        record = cls(
            task=value["task"],
            parent=value["parent"],
            created_in=tuple(value["born"]),
            hparams=dict(value["hparams"]),
            components=()
            if text is not None
            else tuple(ComponentRef.list_from_json(refs)),
            metrics=dict(value["metrics"]),
        )
        if text is not None:
            fields = vars(record)
            del fields["components"]
            fields["_columns"] = columns = text.columns()
            fields["component_ids"] = columns[1]
        _check_kinds(record)
        if record.id != value["id"]:
            raise ValueError(
                f"path record {value['id']} has the content of {record.id}"
            )
        return record


def is_path_id(value: Any) -> bool:
    """Returns whether a value has the form of `PathRecord.id`."""
    return isinstance(value, str) and _PATH_ID.fullmatch(value) is not None


def _check_kinds(path: PathRecord) -> None:
    """Verifies the kinds of what JSON leaves open; it need not be trusted.

    Raises:
      ValueError: a part is of the wrong kind.
    """
    kinds = {
        "task": isinstance(path.task, str),
        "parent": path.parent is None or is_path_id(path.parent),
        "born": len(path.created_in) == 3
        and all(type(number) is int for number in path.created_in),
        "hparams": all(isinstance(key, str) for key in path.hparams),
        "metrics": all(
            isinstance(key, str) and json_fields.is_number(number)
            for key, number in path.metrics.items()
        ),
    }
    wrong = [name for name, holds in kinds.items() if not holds]
    if wrong:
        raise ValueError(f"a path's {wrong[0]} is of the wrong kind")
