"""The uniform numbers that decide a child's mutations.

Invariant: every single number is uniform in [0, 1) and depends on (root seed,
task, name, position) alone. Whether the numbers of different children depend
on each other is a choice: `independent` ones do not, as published;
`stratified` ones spread evenly. Every aligned run of 2, 4, ... 64 positions
has exactly one number in each of as many equal parts of [0, 1), so a mutation
of probability 0.1 falls on 6 or 7 children out of 64 and not on 1 or 15. The
numbers are a van der Corput sequence under nested uniform scrambling (Owen
1995), with a scrambling of its own for each name.
"""

from __future__ import annotations

import functools

import numpy as np

from keras_munet.core import seeds

_NUM_DIGITS = 6
_NUM_POSITIONS = 2**_NUM_DIGITS


class Draws:
    """The numbers of one child, or of one generation's data."""

    def __init__(
        self,
        kind: str,
        root_seed: int,
        event: tuple[str | int, ...],
        position: int,
        rng: np.random.Generator,
    ):
        """Prepares the numbers of one position.

        Args:
          kind: `stratified` or `independent`.
          root_seed: the experiment's.
          event: what the positions count within, e.g. ("child", task).
          position: how many came before, over all rounds, from 0.
          rng: the generator of this very child or generation.
        """
        self._stratified = kind == "stratified"
        self._root_seed = root_seed
        self._event = event
        self._position = position
        self._rng = rng

    def uniform(self, name: str) -> float:
        """Returns the number that decides `name`; asked once per name."""
        within = float(self._rng.random())
        if not self._stratified:
            return within
        block, offset = divmod(self._position, _NUM_POSITIONS)
        strata = _strata(self._root_seed, (*self._event, name, block))
        return (strata[offset] + within) / _NUM_POSITIONS


@functools.lru_cache(maxsize=4096)
def _strata(root_seed: int, event: tuple[str | int, ...]) -> tuple[int, ...]:
    """Returns the part of [0, 1) of each position of a block, 0 to 63."""
    rng = seeds.generator(root_seed, "strata", *event)
    flips = rng.integers(0, 2, _NUM_POSITIONS)
    strata = []
    for position in range(_NUM_POSITIONS):
        # The lowest digit of the position becomes the highest of the part;
        # each digit is flipped or not by what the ones above it were.
        part, node = 0, 1
        for depth in range(_NUM_DIGITS):
            digit = position >> depth & 1
            part = part << 1 | digit ^ int(flips[node])
            node = node << 1 | digit
        strata.append(part)
    return tuple(strata)
