"""Defines what the search hands to training and gets back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_munet.core import child_record
from keras_munet.core import specs
from keras_munet.search import cloning


@dataclasses.dataclass(frozen=True)
class ChildPlan:
    """One child to train.

    Attributes:
      index: its number within the task iteration, from 0.
      parent: the path it is cloned from.
      hparams: its hyperparameters, the generation's data ones included.
      components: where each component comes from, input first.
      size_factor: its score is validation quality times this.
      score_to_beat: the parent's score if it solves the same task, else
        minus infinity; the first snapshot must reach it.
      accounted_params: its accounted parameters, were it published.
      record: what made it, for its event; without what training reaches.
    """

    index: int
    parent: specs.PathRecord
    hparams: Mapping[str, Any]
    components: tuple[cloning.PlannedComponent, ...]
    size_factor: float
    score_to_beat: float
    accounted_params: float
    record: child_record.ChildRecord

    @property
    def is_solved(self) -> bool:
        """Returns whether its head is solved and nothing of it is trained."""
        return any(part.init == cloning.SOLVED for part in self.components)


@dataclasses.dataclass(frozen=True)
class GenerationPlan:
    """Children that are trained together on the same batches, or solved.

    Attributes:
      task: the task they learn.
      iteration: the task's own iteration, from 0.
      generation: the generation within the iteration, from 0.
      data_hparams: the data hyperparameters that all children share; those of
        the first half where `search.data_draws` is `half`, see `parts`.
      children: the children.
      accept_ties: whether an equal score makes a new snapshot (v2).
    """

    task: str
    iteration: int
    generation: int
    data_hparams: Mapping[str, Any]
    children: tuple[ChildPlan, ...]
    accept_ties: bool

    def parts(self) -> tuple[GenerationPlan, ...]:
        """Returns plans whose children share all data hyperparameters."""
        groups: list[tuple[dict[str, Any], list[ChildPlan]]] = []
        for child in self.children:
            own = {key: child.hparams[key] for key in self.data_hparams}
            for data_hparams, children in groups:
                if own == data_hparams:
                    children.append(child)
                    break
            else:
                groups.append((own, [child]))
        return tuple(
            dataclasses.replace(
                self, data_hparams=data_hparams, children=tuple(children)
            )
            for data_hparams, children in groups
        )


@dataclasses.dataclass(frozen=True)
class ChildResult:
    """The result of a child.

    Attributes:
      index: the child's number within the task iteration.
      quality: validation accuracy of its best snapshot; None without one.
      components: the references of all its components, new ones published
        as objects; empty without a snapshot.
    """

    index: int
    quality: float | None
    components: tuple[specs.ComponentRef, ...] = ()
