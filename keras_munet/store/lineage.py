"""Parents of paths whose own parent is no longer alive (section 2, end).

Invariant: published records never change, so a dead parent stays written in
its children; what is read from a lineage is derived here, never stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set

from keras_munet import errors
from keras_munet.core import specs


def living_parent(
    path: specs.PathRecord,
    living: Set[str],
    retired: Mapping[str, str | None],
) -> str | None:
    """Returns the id of the nearest living ancestor of `path`.

    Args:
      path: the path whose ancestor is sought.
      living: ids of the paths that are alive.
      retired: dead path id -> id of its parent, over all tasks.

    Returns:
      None where the lineage ends without a living path: for a root, or when
      an ancestor is neither alive nor in `retired`.

    Raises:
      StoreError: the records go round in a circle.
    """
    seen = {path.id}
    ancestor = path.parent
    while ancestor is not None and ancestor not in living:
        if ancestor in seen:
            raise errors.StoreError(
                f"the lineage of path {path.id} comes back to {ancestor}; a "
                "parent must be older than its child: restore the task from "
                "a copy of the system"
            )
        seen.add(ancestor)
        ancestor = retired.get(ancestor)
    if ancestor == path.id:
        raise errors.StoreError(
            f"path {path.id} is its own ancestor; a parent must be older than "
            "its child: restore the task from a copy of the system"
        )
    return ancestor
