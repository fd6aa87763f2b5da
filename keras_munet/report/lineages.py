"""Draws the descent of paths, as a chain per task and as one tree.

Invariant: published records never change, so ancestors that were replaced
since are named in a chain, and passed over in the tree.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

from keras_munet.core import lineage as lineage_lib
from keras_munet.core import specs
from keras_munet.search import population as population_lib


@dataclasses.dataclass(frozen=True)
class Step:
    """One ancestor of a path.

    Attributes:
      path_id: its id.
      task: its task, `NOT_TRAINABLE` for the root; None if unknown.
      living: whether it is still the published path of its task, or the root.
    """

    path_id: str
    task: str | None
    living: bool


@dataclasses.dataclass(frozen=True)
class Node:
    """One living path in the tree.

    Attributes:
      depth: 0 for the root, and for paths whose ancestors are not known.
      task: its task, or `NOT_TRAINABLE` for the root.
      replaced: ancestors between it and the node above that were replaced
        since, nearest first.
    """

    depth: int
    task: str
    replaced: tuple[Step, ...] = ()


class FamilyTree:
    """The descent of every living path."""

    def __init__(
        self,
        population: population_lib.Population,
        path_tasks: Mapping[str, str],
    ):
        """Looks at nothing yet.

        Args:
          population: the living and the replaced paths.
          path_tasks: path id -> task, of replaced paths too.
        """
        self._population = population
        self._path_tasks = path_tasks

    def parent_task(self, path: specs.PathRecord) -> str | None:
        """Returns the task of the nearest living ancestor, if there is one.

        Raises:
          StoreError: the records go round in a circle.
        """
        living = self._population.living
        parent = lineage_lib.living_parent(
            path, living, self._population.retired
        )
        return None if parent is None else living[parent].task

    def lineage(self, path: specs.PathRecord) -> tuple[Step, ...]:
        """Returns every known ancestor, nearest first.

        Raises:
          StoreError: the records go round in a circle.
        """
        living = self._population.living
        return tuple(
            Step(ancestor, living[ancestor].task, True)
            if ancestor in living
            else Step(ancestor, self._path_tasks.get(ancestor), False)
            for ancestor in lineage_lib.ancestors(
                path, living, self._population.retired
            )
        )

    def nodes(self) -> tuple[Node, ...]:
        """Returns the living paths, each before those that descend from it.

        Raises:
          StoreError: the records go round in a circle.
        """
        published = self._population.published
        children: dict[str | None, list[str]] = {}
        replaced = {}
        for task, path in published.items():
            parent = self.parent_task(path)
            steps = self.lineage(path)
            replaced[task] = tuple(
                itertools.takewhile(lambda step: not step.living, steps)
            )
            children.setdefault(parent, []).append(task)
        nodes = [Node(0, specs.NOT_TRAINABLE)]
        # A stack and no recursion: a chain may be as long as there are tasks.
        stack = [(0, task) for task in reversed(children.get(None, []))]
        stack += [
            (1, task)
            for task in reversed(children.get(specs.NOT_TRAINABLE, []))
        ]
        while stack:
            depth, task = stack.pop()
            nodes.append(Node(depth, task, replaced[task]))
            below = reversed(children.get(task, []))
            stack += [(depth + 1, child) for child in below]
        return tuple(nodes)
