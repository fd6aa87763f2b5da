"""Plans the source of each component of a child (section 2, "Cloning", 3).

Invariant: a component with a lock is shared frozen or cloned, never trained
in place; what a plan shares keeps its id.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence

from keras_munet.core import child_record
from keras_munet.core import specs

HEAD = "head"
SHARE = child_record.SHARE
COPY = child_record.COPY
RESAMPLE = child_record.RESAMPLE
FRESH = child_record.FRESH
SOLVED = child_record.SOLVED


@dataclasses.dataclass(frozen=True)
class PlannedComponent:
    """One place of a child.

    Attributes:
      spec: what it is.
      init: `share` uses `source` as it is; `copy` starts from its values,
        `resample` from its values on another grid; `fresh` from new ones;
        a `solved` head is computed from the features below it.
      source: the published component it comes from; None when fresh or
        solved.
      trainable: whether the child trains it.
      source_task: task of the path that has `source`; None without one.
    """

    spec: specs.ComponentSpec
    init: str
    source: specs.ComponentRef | None
    trainable: bool
    source_task: str | None

    @property
    def is_new(self) -> bool:
        """Returns whether the child gets an object of its own."""
        return self.init != SHARE

    @property
    def origin(self) -> child_record.ComponentOrigin:
        """Returns its origin for the child's record."""
        return child_record.ComponentOrigin(
            name=self.spec.name,
            init=self.init,
            trainable=self.trainable,
            num_params=self.spec.num_params,
            source=None if self.source is None else self.source.id,
            source_task=self.source_task,
        )

    def known_source(self) -> specs.ComponentRef:
        """Returns `source` where there must be one: not for new values."""
        assert self.source is not None, self.spec.name
        return self.source


def plan_components(
    layout: Iterable[specs.ComponentSpec],
    lineage: Sequence[specs.PathRecord],
    task: str,
    *,
    is_locked: Callable[[specs.ComponentRef], bool],
    trains: Callable[[str], bool],
    can_resample: Callable[[specs.ComponentSpec], bool],
    train_resampled: bool,
) -> tuple[PlannedComponent, ...]:
    """Returns where each component of `layout` comes from.

    Args:
      layout: what the child needs, input first.
      lineage: the parent, then its living ancestors, nearest first; the root
        is last.
      task: the child's task; a head comes only from the same task.
      is_locked: whether another task or a root relies on a component.
      trains: whether a place is cloned though it is locked.
      can_resample: whether values of another shape can be resampled.
      train_resampled: whether resampled values are always trained (v2).
    """
    planned = []
    for spec in layout:
        is_drawn = trains(spec.name)
        match = _find(spec, lineage, task)
        if match is not None:
            source, source_task = match
            clone = is_drawn or not is_locked(source)
            init = COPY if clone else SHARE
            planned.append(
                PlannedComponent(spec, init, source, clone, source_task)
            )
            continue
        root = lineage[-1]
        other = root.component(spec.name)
        if other is not None and can_resample(spec):
            resampled_trains = is_drawn or train_resampled
            planned.append(
                PlannedComponent(
                    spec, RESAMPLE, other, resampled_trains, root.task
                )
            )
        else:
            planned.append(PlannedComponent(spec, FRESH, None, True, None))
    return tuple(planned)


def plan_solved(
    layout: Iterable[specs.ComponentSpec], parent: specs.PathRecord
) -> tuple[PlannedComponent, ...]:
    """Returns a parent's components, all shared, with a solved head.

    Args:
      layout: what the child needs, input first; the parent's, but for the
        number of classes.
      parent: a published path or the root.
    """
    return tuple(
        PlannedComponent(spec, SOLVED, None, False, None)
        if spec.name == HEAD
        else PlannedComponent(
            spec, SHARE, parent.component(spec.name), False, parent.task
        )
        for spec in layout
    )


def _find(
    spec: specs.ComponentSpec,
    lineage: Sequence[specs.PathRecord],
    task: str,
) -> tuple[specs.ComponentRef, str] | None:
    """Returns the nearest component that fits, and the task of its path."""
    for path in lineage:
        if spec.name == HEAD and path.task != task:
            continue
        ref = path.component(spec.name)
        if ref is not None and ref.spec_id == spec.spec_id:
            return ref, path.task
    return None
