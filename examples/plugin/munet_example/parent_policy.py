"""A parent policy: the better of two paths that are drawn by chance."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from keras_munet import plugins


def tournament(
    active: Sequence[plugins.PathRecord],
    seeds: Sequence[plugins.PathRecord],
    num_children: Mapping[str, int],
    rng: np.random.Generator,
) -> plugins.PathRecord:
    """Returns the winner; of two that never had a score the first drawn."""
    del num_children
    everyone = [*seeds, *active]
    drawn = [everyone[int(i)] for i in rng.integers(len(everyone), size=2)]
    return max(drawn, key=lambda path: path.score)
