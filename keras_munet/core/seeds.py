"""A generator for every random event, derived from what the event is.

Invariant: a draw depends on (root seed, event) alone, never on timing, on how
many draws came before, or on whether the job was resumed.
"""

from __future__ import annotations

import hashlib

import numpy as np

from keras_munet.core import canonical_json


def generator(root_seed: int, *event: str | int) -> np.random.Generator:
    """Returns the generator of one event, e.g. `(seed, task, generation, 3)`.

    Args:
      root_seed: the seed of the whole experiment.
      *event: what is being decided; strings and whole numbers.
    """
    return np.random.Generator(np.random.PCG64(_entropy(root_seed, event)))


def _entropy(root_seed: int, event: tuple[str | int, ...]) -> int:
    text = canonical_json.dumps([int(root_seed), *event])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
