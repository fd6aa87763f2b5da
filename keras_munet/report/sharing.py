"""Lists the tasks that use each component, slot by slot.

Invariant: two tasks share a component if and only if its id is in both paths;
every component in use is listed exactly once.
"""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Mapping
from collections.abc import Sequence

from keras_munet.core import specs

ROOT_LABEL = "root"


@dataclasses.dataclass(frozen=True)
class Component:
    """One component in use.

    Attributes:
      id: of the stored object.
      label: tells the components of one place apart: `root` for the root's
        own, then `a`, `b`, ... in the order of the tasks.
      num_params: its parameters.
      tasks: those that use it, at least one.
    """

    id: str
    label: str
    num_params: int
    tasks: tuple[str, ...]

    @property
    def is_shared(self) -> bool:
        """Returns whether more than one task uses it."""
        return len(self.tasks) > 1


@dataclasses.dataclass(frozen=True)
class Slot:
    """The components that tasks have in one slot of their paths.

    Attributes:
      name: of the place, e.g. `encoderblock_0`.
      components: those in use there.
    """

    name: str
    components: tuple[Component, ...]

    def of_task(self, task: str) -> Component | None:
        """Returns the component that a task uses here, if any."""
        matches = (c for c in self.components if task in c.tasks)
        return next(matches, None)


def places(
    root: specs.PathRecord, paths: Sequence[specs.PathRecord]
) -> tuple[Slot, ...]:
    """Returns every place that a published path has, input first.

    Args:
      root: says which components are its own.
      paths: the published paths.
    """
    of_root = {ref.id for ref in root.components}
    # Place -> component id -> (parameters, tasks).
    users: dict[str, dict[str, tuple[int, list[str]]]] = {}
    for path in paths:
        for ref in path.components:
            of_place = users.setdefault(ref.name, {})
            _, tasks = of_place.setdefault(ref.id, (ref.num_params, []))
            tasks.append(path.task)
    return tuple(
        Slot(name, _components(users[name], of_root)) for name in _order(paths)
    )


def _components(
    users: Mapping[str, tuple[int, list[str]]], of_root: set[str]
) -> tuple[Component, ...]:
    ids = sorted(users, key=lambda ref_id: ref_id not in of_root)
    num_of_root = sum(ref_id in of_root for ref_id in ids)
    return tuple(
        Component(
            id=ref_id,
            label=(
                ROOT_LABEL if i < num_of_root else _letters(i - num_of_root)
            ),
            num_params=users[ref_id][0],
            tasks=tuple(users[ref_id][1]),
        )
        for i, ref_id in enumerate(ids)
    )


def _order(paths: Sequence[specs.PathRecord]) -> list[str]:
    """Returns every place once, in an order that fits each path.

    A place that only some paths have (an adapter) comes right after the one
    that it follows there.
    """
    order: list[str] = []
    for path in paths:
        position = 0
        for ref in path.components:
            if ref.name in order:
                position = order.index(ref.name) + 1
            else:
                order.insert(position, ref.name)
                position += 1
    return order


def _letters(number: int) -> str:
    """Returns `a` to `z`, then `aa`, `ab` and so on."""
    letters = ""
    number += 1
    while number:
        number, digit = divmod(number - 1, 26)
        letters = string.ascii_lowercase[digit] + letters
    return letters
