"""Holds a frozen view of a system: living paths, locks, references.

Invariant: locks and accounted parameters are derived from the published paths
and never stored, so they cannot disagree with them (section 1).
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Set

from keras_munet.core import component_users
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
      users: the tasks whose published paths use each component; None derives
        them.
      paths: every living path by id; None derives them.
    """

    root: specs.PathRecord
    published: Mapping[str, specs.PathRecord] = dataclasses.field(
        default_factory=dict
    )
    private: Set[str] = frozenset()
    retired: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    num_iterations_done: int = 0
    users: component_users.ComponentUsers | None = dataclasses.field(
        default=None, compare=False
    )
    paths: dict[str, specs.PathRecord] | None = dataclasses.field(
        default=None, compare=False
    )

    @functools.cached_property
    def living(self) -> dict[str, specs.PathRecord]:
        """Every living path by id, the root first."""
        if self.paths is not None:
            return self.paths
        paths = [self.root, *self.published.values()]
        return {path.id: path for path in paths}

    @functools.cached_property
    def _users(self) -> component_users.ComponentUsers:
        if self.users is not None:
            return self.users
        users = component_users.ComponentUsers()
        for task, path in self.published.items():
            users.replace(task, (), path.component_ids)
        return users

    @functools.cached_property
    def _root_ids(self) -> frozenset[str]:
        return frozenset(ref.id for ref in self.root.components)

    def locks(self, component_id: str, *, without: str = "") -> frozenset[str]:
        """Returns the tasks that rely on a component, `NOT_TRAINABLE` too.

        Args:
          component_id: the component.
          without: a task whose own lock is taken off (its iteration runs).
        """
        tasks = self._users.tasks(component_id)
        if component_id in self._root_ids:
            tasks |= {self.root.task}
        return tasks - {without}

    def is_locked(self, component_id: str, *, without: str = "") -> bool:
        """Returns whether `locks` returns any task, however many there are."""
        return (
            component_id in self._root_ids and self.root.task != without
        ) or self._users.count(component_id, without) > 0

    def num_users(self, component_id: str, *, without: str = "") -> int:
        """Returns how many tasks' paths have a component, the root left out.

        Args:
          component_id: the component.
          without: a task that is not counted.
        """
        return self._users.count(component_id, without)

    def seeds(self, task: str) -> list[specs.PathRecord]:
        """Returns the paths that may seed `task`: the root and others' paths.

        Private tasks' paths seed no other task.
        """
        # Sorting names that a view keeps almost sorted takes little.
        other_roots = [
            self.published[name]
            for name in sorted(self.published)
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
            # Of the root's lock nothing is accounted.
            num_others = self._users.count(component.id, task)
            total += component.num_params / (num_others + 1)
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
        # All that live are not copied; what `also` names goes first.
        living = collections.ChainMap(dict(also or {}), self.living)
        walk = lineage.ancestors(path, living, self.retired)
        return [living[ancestor] for ancestor in walk if ancestor in living]

    def lineages(
        self, paths: Mapping[str, specs.PathRecord]
    ) -> dict[str, list[str]]:
        """Returns the tasks that paths descend from, nearest first.

        Args:
          paths: task -> its path.

        Raises:
          StoreError: the records go round in a circle.
        """
        return {
            name: [ancestor.task for ancestor in self.ancestors(path)]
            for name, path in paths.items()
        }
