"""Follows paths to their ancestors (section 2, end).

Invariant: published records never change, so a dead parent stays written in
its children; what is read from a lineage is derived here, never stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping

from keras_munet import errors
from keras_munet.core import specs


def ancestors(
    path: specs.PathRecord,
    living: Mapping[str, specs.PathRecord],
    retired: Mapping[str, str | None],
) -> Iterator[str]:
    """Yields the ids of every known ancestor of `path`, nearest first.

    Args:
      path: where the walk starts; not part of the result.
      living: living paths by id.
      retired: dead path id -> id of its parent, over all tasks.

    Raises:
      StoreError: the records go round in a circle.
    """
    visited = {path.id}
    ancestor = path.parent
    while ancestor is not None:
        if ancestor in visited:
            raise errors.StoreError(
                f"the lineage of path {path.id} comes back to {ancestor}; a "
                "parent must be older than its child: restore the task from "
                "a copy of the system"
            )
        visited.add(ancestor)
        yield ancestor
        record = living.get(ancestor)
        ancestor = record.parent if record else retired.get(ancestor)


def living_parent(
    path: specs.PathRecord,
    living: Mapping[str, specs.PathRecord],
    retired: Mapping[str, str | None],
) -> str | None:
    """Returns the id of the nearest living ancestor of `path`.

    Returns:
      None where the lineage ends without a living path: for a root, or when
      an ancestor is neither alive nor in `retired`.

    Raises:
      StoreError: the records go round in a circle.
    """
    walk = ancestors(path, living, retired)
    return next((ancestor for ancestor in walk if ancestor in living), None)
