"""Counts which tasks use each component, and follows publications.

Invariant: what a task uses is what was last given for it; a change costs what
differs, however many tasks there are.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from collections.abc import Iterator


class ComponentUsers:
    """The tasks that use each component, by the component's id.

    Example:
      >>> users = ComponentUsers()
      >>> users.replace("birds", (), ["a", "b"])
      >>> users.replace("cats", (), ["b"])
      >>> users.replace("birds", ["a", "b"], ["b", "c"])
      >>> "a" in users, sorted(users.tasks("b")), users.count("b", "birds")
      (False, ['birds', 'cats'], 1)
    """

    def __init__(self) -> None:
        # One task as itself, several as a set: most components have one.
        self._users: dict[str, str | set[str]] = {}
        # Whether a copy has the same dictionary, so that a change copies it.
        self._is_shared = False

    def __contains__(self, component_id: object) -> bool:
        return component_id in self._users

    def __iter__(self) -> Iterator[str]:
        return iter(self._users)

    def __len__(self) -> int:
        return len(self._users)

    def replace(
        self, task: str, before: Collection[str], after: Collection[str]
    ) -> None:
        """Says that a task uses other components now.

        Args:
          task: the task.
          before: ids that were last given for it; none for a new task.
          after: ids that it uses now; none for a task that is gone.
        """
        if self._is_shared:
            self._users = {
                component_id: users if isinstance(users, str) else set(users)
                for component_id, users in self._users.items()
            }
            self._is_shared = False
        old = set(before)
        for component_id in old.difference(after) if old else ():
            self._remove(component_id, task)
        new = list(set(after) - old) if old else after
        # A million of them when a system is opened.
        first_users = map(self._users.setdefault, new, itertools.repeat(task))
        for component_id, first_user in zip(new, first_users, strict=True):
            if first_user is not task:
                self._add(component_id, task)

    def copy(self) -> ComponentUsers:
        """Returns the same as it is now; what changes first is copied then."""
        twin = ComponentUsers()
        twin._users = self._users
        twin._is_shared = self._is_shared = True
        return twin

    def tasks(self, component_id: str) -> frozenset[str]:
        """Returns the tasks that use a component."""
        users = self._users.get(component_id)
        if users is None:
            return frozenset()
        return frozenset((users,) if isinstance(users, str) else users)

    def count(self, component_id: str, without: str = "") -> int:
        """Returns how many tasks use a component.

        Args:
          component_id: the component.
          without: a task that is not counted.
        """
        users = self._users.get(component_id)
        if users is None:
            return 0
        if isinstance(users, str):
            return int(users != without)
        return len(users) - (without in users)

    def _add(self, component_id: str, task: str) -> None:
        """Adds a task to a component that has one."""
        users = self._users[component_id]
        if isinstance(users, set):
            users.add(task)
        elif users != task:
            self._users[component_id] = {users, task}

    def _remove(self, component_id: str, task: str) -> None:
        users = self._users.get(component_id)
        if isinstance(users, set):
            users.discard(task)
            if len(users) == 1:
                (self._users[component_id],) = users
        elif users == task:
            del self._users[component_id]
