"""The snapshot rule: a child is what it was at its best (section 2).

Invariant: a snapshot is taken when a score beats what there is to beat, and of
everything that the child does not share frozen; a child that diverged, whose
score is no number, is never taken.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_munet.core import specs
from keras_munet.train import child_job


def is_better(score: Any, best: Any, ties: Any) -> Any:
    """Returns whether a score makes a new snapshot.

    NaN compares as neither: a diverged child is never taken.

    Args:
      score: of the child now; a float, or a float64 scalar tensor as are the
        others.
      best: its best score so far, or what it has to beat.
      ties: whether an equal score does.
    """
    return (score > best) | (ties & (score == best))


class Snapshots:
    """The best snapshot of each child that is trained."""

    def __init__(self, children: Sequence[child_job.ChildJob], ties: bool):
        """Begins without any.

        Args:
          children: in order.
          ties: whether an equal score makes a new snapshot.
        """
        self._children = children
        self._ties = ties
        self._best = [child.score_to_beat for child in children]
        self._scores: list[list[float]] = [[] for _ in children]
        self._losses: list[list[float]] = [[] for _ in children]
        self._quality: list[float | None] = [None] * len(children)
        self._components: list[Mapping[str, specs.Component]] = [
            {} for _ in children
        ]

    def offer(
        self,
        snapshot: Callable[[int], Mapping[str, specs.Component]],
        qualities: np.ndarray,
        losses: np.ndarray,
    ) -> np.ndarray:
        """Takes a snapshot of each improved child; returns the scores.

        Args:
          snapshot: returns what a child does not share, by its number.
          qualities: `[children] float64`.
          losses: `[children] float32`.
        """
        factors = np.array([child.size_factor for child in self._children])
        scores = qualities * factors
        for i in range(len(self._children)):
            self._scores[i].append(float(scores[i]))
            self._losses[i].append(float(losses[i]))
            if is_better(float(scores[i]), self._best[i], self._ties):
                self._best[i] = float(scores[i])
                self._quality[i] = float(qualities[i])
                self._components[i] = snapshot(i)
        return scores

    def results(self) -> list[child_job.TrainedChild]:
        """Returns every child, with its best snapshot where it has one."""
        return [
            child_job.TrainedChild(
                index=child.index,
                scores=tuple(self._scores[i]),
                losses=tuple(self._losses[i]),
                quality=self._quality[i],
                components=self._components[i],
            )
            for i, child in enumerate(self._children)
        ]
