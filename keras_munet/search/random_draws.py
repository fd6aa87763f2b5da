"""The uniform numbers that decide a child's mutations.

Invariant: every single number is uniform in [0, 1) and depends on (root seed,
task, name, position) alone. Whether the numbers of different children depend
on each other is a choice: `independent` ones do not, as published;
`stratified` ones spread evenly. Every aligned run of 2, 4, ... 64 positions
has exactly one number in each of as many equal parts of [0, 1), so a mutation
of probability 0.1 falls on 6 or 7 children out of 64 and not on 1 or 15. Which
of them it falls on is another draw for each name: were the order the same (as
in a scrambled van der Corput sequence, where positions 8 apart always share an
eighth), all names would mutate together, in the same children of every
generation.
"""

from __future__ import annotations

import functools

import numpy as np

from keras_munet.core import seeds

_NUM_POSITIONS = 64


class RandomDraws:
    """The numbers of one child, or of one generation's data.

    Example:
      >>> draws = RandomDraws("stratified", 0, ("child", "digits"), 5)
      >>> rate = draws.uniform("opt_lr")
      >>> draws.uniform("opt_lr") == rate != draws.uniform("mu")
      True
    """

    def __init__(
        self,
        method: str,
        root_seed: int,
        event: tuple[str | int, ...],
        position: int,
    ):
        """Prepares the numbers of one position.

        Args:
          method: `stratified` or `independent`.
          root_seed: the experiment's.
          event: what the positions count within, e.g. ("child", task).
          position: how many came before, over all rounds, from 0.
        """
        self._stratified = method == "stratified"
        self._root_seed = root_seed
        self._event = event
        self._position = position

    def uniform(self, name: str) -> float:
        """Returns the number that decides `name`, always the same."""
        event = (*self._event, name)
        rng = seeds.generator(self._root_seed, "draw", *event, self._position)
        within = float(rng.random())
        if not self._stratified:
            return within
        block, offset = divmod(self._position, _NUM_POSITIONS)
        strata = _strata(self._root_seed, (*event, block))
        return (strata[offset] + within) / _NUM_POSITIONS


@functools.lru_cache(maxsize=4096)
def _strata(root_seed: int, event: tuple[str | int, ...]) -> tuple[int, ...]:
    """Returns the part of [0, 1) of each position of a block, 0 to 63.

    It doubles: each part of the first half of the positions is halved, by
    chance, and the second half of the positions takes the halves that are
    left, in an order of its own that keeps aligned runs together.
    """
    rng = seeds.generator(root_seed, "strata", *event)
    strata = [0]
    while len(strata) < _NUM_POSITIONS:
        halves = rng.integers(0, 2, len(strata))
        first = [
            2 * part + int(h) for part, h in zip(strata, halves, strict=True)
        ]
        strata = first + [part ^ 1 for part in _reordered(first, rng)]
    return tuple(strata)


def _reordered(parts: list[int], rng: np.random.Generator) -> list[int]:
    """Returns `parts` with the halves of every aligned run swapped or not."""
    if len(parts) == 1:
        return parts
    middle = len(parts) // 2
    first = _reordered(parts[:middle], rng)
    second = _reordered(parts[middle:], rng)
    return second + first if rng.integers(2) else first + second
