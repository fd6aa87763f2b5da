"""Samples the next parent (section 2, "Parent sampling").

Invariant: a path is taken with probability 0.5 ** (children it already has),
so that attention decays and every path keeps a chance. Ranked paths of other
tasks do not decay: most children start from the best.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from keras_munet.core import specs

# How often the best of the ranked paths that are left is the parent.
RANKED_PROB = 0.75


def first_passing(
    paths: Sequence[specs.PathRecord],
    num_children: Mapping[str, int],
    rng: np.random.Generator,
) -> int | None:
    """Returns the index of the first path that its decay lets pass, or None.

    Args:
      paths: candidates, most wanted first.
      num_children: path id -> children sampled from it so far.
      rng: the child's generator.
    """
    for index, path in enumerate(paths):
        if rng.random() < 0.5 ** num_children.get(path.id, 0):
            return index
    return None


def rank_paths(paths: Sequence[specs.PathRecord]) -> list[specs.PathRecord]:
    """Returns `paths` from best to worst; of equal scores the newest first."""
    return sorted(paths, key=lambda p: (p.score, p.created_in), reverse=True)


def sample_parent(
    active: Sequence[specs.PathRecord],
    seeds: Sequence[specs.PathRecord],
    num_children: Mapping[str, int],
    rng: np.random.Generator,
    *,
    walk_seeds: bool,
    is_ranked: bool = False,
) -> tuple[specs.PathRecord, list[specs.PathRecord]]:
    """Returns the sampled parent and the seeds in their new order.

    Args:
      active: the task's active paths.
      seeds: the seed paths in their current order.
      num_children: path id -> children sampled from it so far.
      rng: the child's generator.
      walk_seeds: `mu2net` walks the seeds too, rotating them past the one
        taken, before it picks uniformly; `munet` picks uniformly at once.
      is_ranked: whether the seeds stand from best to worst; then the task's
        first child has the best, and of a later one each is taken with
        probability `RANKED_PROB`, or else the best.
    """
    seeds = list(seeds)
    ranked = rank_paths(active)
    index = first_passing(ranked, num_children, rng)
    if index is not None:
        return ranked[index], seeds
    if is_ranked:
        is_first = not any(num_children.values())
        number = 0 if is_first else int(rng.geometric(RANKED_PROB)) - 1
        return seeds[number if number < len(seeds) else 0], seeds
    if walk_seeds:
        index = first_passing(seeds, num_children, rng)
        if index is not None:
            return seeds[index], seeds[index + 1 :] + seeds[: index + 1]
    everyone = [*seeds, *ranked]
    return everyone[int(rng.integers(len(everyone)))], seeds
