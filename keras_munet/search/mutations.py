"""How hyperparameters and the set of adapters change from parent to child.

Invariant: a mutation moves one step along an ordered range and stops at its
ends (section 2, "Cloning and mutation", 1 and 2).
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set
from typing import Any

import numpy as np

from keras_munet.core import specs
from keras_munet.search import autotune

_ADAPTER = "residual_adapter_"


def step(value: Any, steps: tuple[Any, ...], rng: np.random.Generator) -> Any:
    """Returns the neighbour of `value` on `steps`, up or down alike.

    At an end, the step that would leave the range stays where it is. A value
    that is not on the range moves to the nearest one that is.
    """
    direction = 1 if rng.random() < 0.5 else -1
    if value not in steps:
        return min(steps, key=lambda s: abs(s - value))
    index = steps.index(value) + direction
    return steps[min(max(index, 0), len(steps) - 1)]


def mutate(
    hparams: specs.Hparams,
    keys: Iterable[str],
    ranges: autotune.Ranges,
    prob: float,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Returns `hparams` with each of `keys` moved with probability `prob`."""
    mutated = dict(hparams)
    for key in sorted(keys):
        if rng.random() < prob:
            mutated[key] = step(mutated[key], ranges[key], rng)
    return mutated


def mutate_child(
    hparams: specs.Hparams,
    ranges: autotune.Ranges,
    rng: np.random.Generator,
    *,
    fixed_prob: float | None,
) -> tuple[dict[str, Any], float]:
    """Returns a child's own hyperparameters and its mutation probability.

    Args:
      hparams: the parent's.
      ranges: every range in force; data hyperparameters are left alone.
      rng: the child's generator.
      fixed_prob: the probability of `munet`; None for `mu2net`, where the
        path's `mu` first mutates with itself and then rules the rest.
    """
    keys = {key for key in ranges if not autotune.is_data(key)}
    if fixed_prob is not None:
        return mutate(hparams, keys - {"mu"}, ranges, fixed_prob, rng), (
            fixed_prob
        )
    if "mu" in ranges:
        hparams = mutate(hparams, ["mu"], ranges, hparams["mu"], rng)
    prob = float(hparams["mu"])
    return mutate(hparams, keys - {"mu"}, ranges, prob, rng), prob


def mutate_data(
    defaults: specs.Hparams,
    best: specs.Hparams | None,
    ranges: autotune.Ranges,
    prob: float,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Returns the data hyperparameters that a whole generation shares.

    Args:
      defaults: the experiment's first values.
      best: those of the task's best path so far, which take precedence.
      ranges: every range in force.
      prob: the mutation probability; 0.0 mutates nothing.
      rng: the generation's generator.
    """
    values = {k: v for k, v in defaults.items() if autotune.is_data(k)}
    if best is not None:
        values.update({k: v for k, v in best.items() if k in values})
    keys = {key for key in ranges if key in values}
    return mutate(values, keys, ranges, prob, rng)


def adapters_of(path: specs.PathRecord) -> frozenset[int]:
    """Returns the layers of `path` that have an adapter in front."""
    return frozenset(
        int(c.name.removeprefix(_ADAPTER))
        for c in path.components
        if c.name.startswith(_ADAPTER)
    )


def mutate_adapters(
    adapters: Set[int],
    num_layers: int,
    prob: float,
    rng: np.random.Generator,
    *,
    insert: bool,
    remove: bool,
) -> frozenset[int]:
    """Returns the child's adapters; those above `num_layers` are dropped."""
    kept = set()
    for layer in range(num_layers):
        present = layer in adapters
        flips = (remove if present else insert) and rng.random() < prob
        if present != flips:
            kept.add(layer)
    return frozenset(kept)
