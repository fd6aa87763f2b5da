"""Holds a frozen view of a system: living paths, locks, references.

Invariant: locks and accounted parameters are derived from the published paths
and never stored, so they cannot disagree with them (section 1).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from collections.abc import Mapping

from keras_munet.core import lineage
from keras_munet.core import specs


@dataclasses.dataclass(frozen=True)
class Population:
    """The living paths of a system between task iterations.

    Attributes:
      root: the root path.
      published: task -> its published path.
      private: tasks whose paths are never seeds for others.
      retired: dead published path id -> id of its parent.
      num_iterations_done: task iterations finished, over all tasks.
    """

    root: specs.PathRecord
    published: Mapping[str, specs.PathRecord] = dataclasses.field(
        default_factory=dict
    )
    private: frozenset[str] = frozenset()
    retired: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    num_iterations_done: int = 0

    @functools.cached_property
    def living(self) -> dict[str, specs.PathRecord]:
        """Every living path by id, the root first."""
        paths = [self.root, *self.published.values()]
        return {path.id: path for path in paths}

    @functools.cached_property
    def _users(self) -> dict[str, frozenset[str]]:
        users: dict[str, set[str]] = {}
        for path in self.living.values():
            for component in path.components:
                users.setdefault(component.id, set()).add(path.task)
        return {key: frozenset(tasks) for key, tasks in users.items()}

    def locks(self, component_id: str, *, without: str = "") -> frozenset[str]:
        """Returns the tasks that rely on a component, `NOT_TRAINABLE` too.

        Args:
          component_id: the component.
          without: a task whose own lock is taken off (its iteration runs).
        """
        return self._users.get(component_id, frozenset()) - {without}

    def seeds(self, task: str) -> list[specs.PathRecord]:
        """Returns the paths that may seed `task`: the root and others' paths.

        Private tasks' paths seed no other task.
        """
        other_roots = [
            path
            for name, path in sorted(self.published.items())
            if name != task and name not in self.private
        ]
        return [self.root, *other_roots]

    def accounted_params(
        self,
        task: str,
        components: Iterable[specs.ComponentRef],
        num_new_params: int = 0,
    ) -> float:
        """Returns a path's parameters, each divided by the tasks that use it.

        Args:
          task: the path's own task, which counts as a user.
          components: those it shares.
          num_new_params: parameters that are its own.
        """
        total = float(num_new_params)
        for component in components:
            users = (self.locks(component.id) | {task}) - {specs.NOT_TRAINABLE}
            total += component.num_params / len(users)
        return total

    def ancestors(
        self,
        path: specs.PathRecord,
        also: Mapping[str, specs.PathRecord] | None = None,
    ) -> list[specs.PathRecord]:
        """Returns the living ancestors of `path`, nearest first.

        Args:
          path: where the walk starts; not part of the result.
          also: paths that live only within a running task iteration.

        Raises:
          StoreError: the records go round in a circle.
        """
        living = {**self.living, **(also or {})}
        walk = lineage.ancestors(path, living, self.retired)
        return [living[ancestor] for ancestor in walk if ancestor in living]
