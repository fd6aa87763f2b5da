"""A parent policy: the better of two paths that are drawn by chance."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from keras_munet.core import specs


def tournament(
    active: Sequence[specs.PathRecord],
    seeds: Sequence[specs.PathRecord],
    num_children: Mapping[str, int],
    rng: np.random.Generator,
) -> specs.PathRecord:
    """Returns the winner; of two that never had a score the first drawn."""
    del num_children
    everyone = [*seeds, *active]
    drawn = [everyone[int(i)] for i in rng.integers(len(everyone), size=2)]
    return max(drawn, key=lambda path: path.score)
