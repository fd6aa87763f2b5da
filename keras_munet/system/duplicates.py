"""Children of a generation that would become the same are trained once.

Invariant: every child gets the result that it would have got alone. Children
of a generation see the same batches, so two of them differ only by what they
start from, what they train and by their hyperparameters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from collections.abc import Sequence

from keras_munet.search import cloning
from keras_munet.search import plan as plan_lib
from keras_munet.train import child_job

# The hyperparameters that training reads; the others are read when children are
# bred.
_TRAINING_PREFIXES = ("opt_", "ds_")


def distinct(plan: plan_lib.GenerationPlan) -> plan_lib.GenerationPlan:
    """Returns `plan` with the first of each set of equal children."""
    firsts = set(first_indices(plan).values())
    children = tuple(child for child in plan.children if child.index in firsts)
    return dataclasses.replace(plan, children=children)


def first_indices(plan: plan_lib.GenerationPlan) -> dict[int, int]:
    """Returns child index -> index of the first child that equals it."""
    firsts: dict[Hashable, int] = {}
    return {
        child.index: firsts.setdefault(_key(child), child.index)
        for child in plan.children
    }


def spread(
    plan: plan_lib.GenerationPlan, trained: Sequence[child_job.TrainedChild]
) -> list[child_job.TrainedChild]:
    """Returns a result for each child of `plan`.

    Args:
      plan: the whole generation.
      trained: the results of the children of `distinct(plan)`.
    """
    results = {result.index: result for result in trained}
    return [
        dataclasses.replace(results[first], index=index)
        for index, first in first_indices(plan).items()
    ]


def _key(child: plan_lib.ChildPlan) -> Hashable:
    """Equal for two children of a generation iff they become the same."""
    hparams = sorted(
        (name, value)
        for name, value in child.hparams.items()
        if name.startswith(_TRAINING_PREFIXES)
    )
    parts = tuple(_part_key(part, child) for part in child.components)
    return (
        tuple(hparams),
        parts,
        child.size_factor,
        child.score_to_beat,
    )


def _part_key(
    part: cloning.PlannedComponent, child: plan_lib.ChildPlan
) -> Hashable:
    # A component without a source is its child's own, so no other has it.
    source = child.index if part.source is None else part.source.id
    return part.spec.spec_id, part.spec.name, part.init, part.trainable, source
