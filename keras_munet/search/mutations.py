"""Mutates hyperparameters, adapters and clones (section 2).

Invariant: a mutation moves one step along an ordered range and stops at its
ends (section 2, "Cloning and mutation", 1 and 2).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from keras_munet.core import specs
from keras_munet.search import hparam_ranges
from keras_munet.search import plugins
from keras_munet.search import random_draws

_ADAPTER = "residual_adapter_"


def step(value: Any, steps: tuple[Any, ...], direction: int) -> Any:
    """Returns the neighbour of `value` on `steps`.

    At an end, the step that would leave the range stays where it is. A value
    that is not on the range moves to the nearest one that is.

    Args:
      value: where it starts.
      steps: the ordered range.
      direction: 1 for up, -1 for down.
    """
    if value not in steps:
        return min(steps, key=lambda s: abs(s - value))
    index = steps.index(value) + direction
    return steps[min(max(index, 0), len(steps) - 1)]


def mutate_hparams(
    hparams: specs.Hparams,
    keys: Iterable[str],
    ranges: hparam_ranges.Ranges,
    prob: float,
    draws: random_draws.RandomDraws,
) -> dict[str, Any]:
    """Returns `hparams` with each of `keys` moved with probability `prob`.

    One number decides both whether a key moves and, by half of `prob` each,
    whether up or down.
    """
    mutated = dict(hparams)
    for key in sorted(keys):
        number = draws.uniform(key)
        if number < prob:
            direction = 1 if number < prob / 2 else -1
            mutated[key] = step(mutated[key], ranges[key], direction)
    return mutated


def mutate_hyperparameters(
    proposal: plugins.Proposal,
    parent: specs.PathRecord,
    prob: float,
    draws: random_draws.RandomDraws,
) -> plugins.Proposal:
    """Mutates a child's own hyperparameters; a `plugins.Mutation`.

    In `mu2net` the path's `mu` first mutates with itself and then rules the
    rest and later mutations; in `munet` the probability is fixed. Data
    hyperparameters are left alone.
    """
    del parent
    if not prob:
        return proposal
    ranges = proposal.space.ranges
    hparams = dict(proposal.hparams)
    if proposal.space.search.version != "munet":
        if "mu" in ranges:
            hparams = mutate_hparams(hparams, ["mu"], ranges, prob, draws)
        prob = float(hparams["mu"])
    keys = {key for key in ranges if not hparam_ranges.is_data(key)}
    hparams = mutate_hparams(hparams, keys - {"mu"}, ranges, prob, draws)
    return dataclasses.replace(
        proposal,
        hparams=hparams,
        # Of a child with fewer layers.
        adapters=proposal.adapters & set(range(hparams["num_layers"])),
        prob=prob,
    )


def mutate_data(
    defaults: specs.Hparams,
    best: specs.Hparams | None,
    ranges: hparam_ranges.Ranges,
    prob: float,
    draws: random_draws.RandomDraws,
) -> dict[str, Any]:
    """Returns the data hyperparameters that a whole generation shares.

    Args:
      defaults: the experiment's first values.
      best: those of the task's best path so far, which take precedence.
      ranges: every range in force.
      prob: the mutation probability; 0.0 mutates nothing.
      draws: the generation's numbers.
    """
    values = {k: v for k, v in defaults.items() if hparam_ranges.is_data(k)}
    if best is not None:
        values.update({k: v for k, v in best.items() if k in values})
    keys = {key for key in ranges if key in values}
    return mutate_hparams(values, keys, ranges, prob, draws)


def adapters_of(path: specs.PathRecord) -> frozenset[int]:
    """Returns the layers of `path` that have an adapter in front."""
    return frozenset(
        int(c.name.removeprefix(_ADAPTER))
        for c in path.components
        if c.name.startswith(_ADAPTER)
    )


def mutate_adapters(
    proposal: plugins.Proposal,
    parent: specs.PathRecord,
    prob: float,
    draws: random_draws.RandomDraws,
) -> plugins.Proposal:
    """Inserts and removes adapters where settings allow it; a `Mutation`."""
    del parent
    search = proposal.space.search
    adapters = set()
    for layer in range(proposal.hparams["num_layers"]):
        present = layer in proposal.adapters
        allowed = search.remove_adapters if present else search.mutate_adapters
        number = draws.uniform(f"insert {_ADAPTER}{layer}")
        if present != (allowed and number < prob):
            adapters.add(layer)
    return dataclasses.replace(proposal, adapters=frozenset(adapters))


def mutate_clones(
    proposal: plugins.Proposal,
    parent: specs.PathRecord,
    prob: float,
    draws: random_draws.RandomDraws,
) -> plugins.Proposal:
    """Clones each locked component by chance or by force; a `Mutation`."""
    del parent
    space = proposal.space
    places = space.place_names(proposal.hparams, proposal.adapters)

    def clones(name: str) -> bool:
        return (
            proposal.clones(name)
            or draws.uniform(f"clone {name}") < prob
            or space.search.forces(name, places)
        )

    return dataclasses.replace(proposal, clones=clones)
