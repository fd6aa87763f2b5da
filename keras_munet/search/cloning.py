"""Where each component of a child comes from (section 2, "Cloning", 3).

Invariant: a component with a lock is shared frozen or cloned, never trained
in place; what a plan shares keeps its id.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence

from keras_munet.core import specs

HEAD = "head"
# How a component of a child gets its first values.
SHARE = "share"
COPY = "copy"
RESAMPLE = "resample"
FRESH = "fresh"


@dataclasses.dataclass(frozen=True)
class PlannedComponent:
    """One place of a child.

    Attributes:
      spec: what it is.
      init: `share` uses `source` as it is; `copy` starts from its values,
        `resample` from its values on another grid; `fresh` from new ones.
      source: the published component it comes from; None when fresh.
      trainable: whether the child trains it.
    """

    spec: specs.ComponentSpec
    init: str
    source: specs.ComponentRef | None
    trainable: bool

    @property
    def is_new(self) -> bool:
        """Whether the child gets an object of its own."""
        return self.init != SHARE

    def known_source(self) -> specs.ComponentRef:
        """Returns `source` where there must be one: not for `fresh`."""
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
        drawn = trains(spec.name)
        found = _find(spec, lineage, task)
        if found is not None:
            clone = drawn or not is_locked(found)
            init = COPY if clone else SHARE
            planned.append(PlannedComponent(spec, init, found, clone))
            continue
        other = lineage[-1].component(spec.name)
        if other is not None and can_resample(spec):
            resampled_trains = drawn or train_resampled
            planned.append(
                PlannedComponent(spec, RESAMPLE, other, resampled_trains)
            )
        else:
            planned.append(PlannedComponent(spec, FRESH, None, True))
    return tuple(planned)


def _find(
    spec: specs.ComponentSpec,
    lineage: Sequence[specs.PathRecord],
    task: str,
) -> specs.ComponentRef | None:
    for path in lineage:
        if spec.name == HEAD and path.task != task:
            continue
        ref = path.component(spec.name)
        if ref is not None and ref.spec_id == spec.spec_id:
            return ref
    return None
