"""Defines the search's three contracts for plug-ins.

Invariant: what a plug-in returns is checked against its contract before
anything is trained or stored. Its draws are those it is given, so a search
with plug-ins repeats and resumes like one without.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from collections.abc import Set
from typing import Any
from typing import Protocol

import numpy as np

from keras_munet import errors
from keras_munet.core import plugins
from keras_munet.core import qualities
from keras_munet.core import registry
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.search import random_draws
from keras_munet.search import scoring

# The method's own mutations, in its order.
METHOD_MUTATIONS = ("hyperparameters", "adapters", "clones")
MUTATIONS = registry.Registry(
    "mutation",
    "keras_munet.mutations",
    builtin={
        name: f"keras_munet.search.mutations:mutate_{name}"
        for name in METHOD_MUTATIONS
    },
)
PARENT_POLICIES = registry.Registry(
    "parent policy",
    "keras_munet.parent_policies",
    [settings_lib.PARENT_POLICY],
)
SCORERS = registry.Registry(
    "scorer",
    "keras_munet.scorers",
    builtin={settings_lib.SCORER: "keras_munet.search.scoring:size_penalty"},
)


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """The limits within which a child may differ from its parent.

    Attributes:
      search: the settings of the search.
      ranges: hyperparameter -> ordered values, of those that mutate.
      place_names: `place_names(hparams, adapters)` returns the names of a
        path's components, input first.

    Example:
      >>> search = settings_lib.SearchSettings()
      >>> space = SearchSpace(search, {"mu": (0.1, 0.2)}, lambda *_: ["head"])
      >>> space.place_names({}, frozenset())
      ['head']
    """

    search: settings_lib.SearchSettings
    ranges: Mapping[str, tuple[Any, ...]]
    place_names: Callable[[Mapping[str, Any], Set[int]], list[str]]


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A child before its components are looked up.

    Attributes:
      hparams: its own hyperparameters; the generation's data ones come later.
      adapters: the layers with an adapter in front, from 0.
      clones: whether the component at a place is cloned though it is locked.
      prob: the mutation probability that rules later mutations.
      space: the limits of the search; one for all children.

    Example:
      >>> space = SearchSpace(settings_lib.SearchSettings(), {}, lambda *_: [])
      >>> proposal = Proposal(
      ...     {"opt_lr": 0.1}, frozenset(), "head".__eq__, 0.1, space
      ... )
      >>> proposal.clones("head"), proposal.clones("cls")
      (True, False)
    """

    hparams: Mapping[str, Any]
    adapters: frozenset[int]
    clones: Callable[[str], bool]
    prob: float
    space: SearchSpace


class Mutation(Protocol):
    """A mutation, built in or named by an entry point.

    The group of entry points is `keras_munet.mutations`.

    Example:
      >>> def halve_rate(proposal, parent, prob, draws):
      ...     if draws.uniform("my_package halve_rate") >= prob:
      ...         return proposal
      ...     rate = proposal.hparams["opt_lr"] / 2
      ...     hparams = {**proposal.hparams, "opt_lr": rate}
      ...     return dataclasses.replace(proposal, hparams=hparams)
      >>> draws = random_draws.RandomDraws("independent", 0, ("child", "a"), 0)
      >>> space = SearchSpace(settings_lib.SearchSettings(), {}, lambda *_: [])
      >>> proposal = Proposal({"opt_lr": 0.1}, frozenset(), bool, 1.0, space)
      >>> halve_rate(proposal, None, 1.0, draws).hparams
      {'opt_lr': 0.05}
    """

    def __call__(
        self,
        proposal: Proposal,
        parent: specs.PathRecord,
        prob: float,
        draws: random_draws.RandomDraws,
    ) -> Proposal:
        """Returns the proposal, changed or as it is.

        Args:
          proposal: what earlier mutations made of the parent.
          parent: the path that the child is cloned from.
          prob: the child's mutation probability, `proposal.prob`; 0.0 for a
            clone that must not mutate.
          draws: the child's numbers; begin their names with the plug-in's.
        """
        ...


class ParentPolicy(Protocol):
    """A policy; an entry point of `keras_munet.parent_policies` names one.

    Example:
      >>> def newest(active, seeds, num_children, rng):
      ...     return max([*active, *seeds], key=lambda path: path.created_in)
      >>> paths = [
      ...     specs.PathRecord("a", None, (iteration, 0, 0), {}, ())
      ...     for iteration in (0, 1)
      ... ]
      >>> newest(paths, [], {}, None).created_in
      (1, 0, 0)
    """

    def __call__(
        self,
        active: Sequence[specs.PathRecord],
        seeds: Sequence[specs.PathRecord],
        num_children: Mapping[str, int],
        rng: np.random.Generator,
    ) -> specs.PathRecord:
        """Returns the next parent, one of the given paths.

        Args:
          active: the task's active paths, best first; may be empty.
          seeds: paths of other tasks and the root; never empty.
          num_children: path id -> children sampled from it so far.
          rng: the child's generator.
        """
        ...


class Scorer(Protocol):
    """A scorer, built in or an entry point of group `keras_munet.scorers`.

    Example:
      >>> def shallow(facts):
      ...     return 0.99 ** facts.hparams["num_layers"]
      >>> facts = scoring.ScoreInputs("a", 9.0, 9, 9, 1.0, {"num_layers": 1})
      >>> shallow(facts)
      0.99
    """

    def __call__(self, facts: scoring.ScoreInputs) -> float:
        """Returns what validation accuracy is multiplied by: above 0."""
        ...


def load_plugins(search: settings_lib.SearchSettings) -> None:
    """Loads every plug-in that the settings name, to be refused now.

    Raises:
      UsageError: one is not there or cannot be loaded.
    """
    qualities.QUALITIES.get(search.quality, "search.quality")
    for name in search.mutations:
        MUTATIONS.get(name, "search.mutations")
    parent_policy(search)
    SCORERS.get(search.scorer, "search.scorer")


def ordered_mutations(names: Sequence[str]) -> list[str]:
    """Returns all mutations of a search in their order.

    Args:
      names: the setting `search.mutations`.

    Example:
      >>> ordered_mutations(["halve_rate", "adapters"])
      ['hyperparameters', 'clones', 'halve_rate', 'adapters']
    """
    first = [name for name in METHOD_MUTATIONS if name not in names]
    return [*first, *names]


def apply_mutations(
    proposal: Proposal,
    parent: specs.PathRecord,
    draws: random_draws.RandomDraws,
) -> Proposal:
    """Returns what all mutations of a search make of a proposal, in order.

    Args:
      proposal: the parent as it is; `space.search.mutations` sets the order.
      parent: the path that the child is cloned from.
      draws: the child's numbers.

    Raises:
      UsageError: one returns what no proposal can be.
    """
    for name in ordered_mutations(proposal.space.search.mutations):
        mutation: Mutation = MUTATIONS.get(name, "search.mutations")
        with plugins.name_errors("mutation", name):
            changed = mutation(proposal, parent, proposal.prob, draws)
        _check_proposal(name, proposal, changed)
        proposal = changed
    return proposal


def parent_policy(search: settings_lib.SearchSettings) -> ParentPolicy | None:
    """Returns the plug-in that chooses parents; None for the method's way.

    Raises:
      UsageError: there is none of that name, or it cannot be loaded.
    """
    name = search.parent_policy
    if name == settings_lib.PARENT_POLICY:
        return None
    policy = PARENT_POLICIES.get(name, "search.parent_policy")

    def choose(
        active: Sequence[specs.PathRecord],
        seeds: Sequence[specs.PathRecord],
        num_children: Mapping[str, int],
        rng: np.random.Generator,
    ) -> specs.PathRecord:
        with plugins.name_errors("parent policy", name):
            chosen = policy(active, seeds, num_children, rng)
        candidates = {path.id: path for path in (*seeds, *active)}
        if getattr(chosen, "id", None) not in candidates:
            raise errors.UsageError(
                f"parent policy {name!r} chose {type(chosen).__name__} "
                f"{getattr(chosen, 'id', chosen)!r:.40}; it must return one "
                "of the paths it is given; fix the plug-in"
            )
        return candidates[chosen.id]

    return choose


def size_factor(
    search: settings_lib.SearchSettings, facts: scoring.ScoreInputs
) -> float:
    """Returns what a path's quality is multiplied by to be its score.

    Raises:
      UsageError: the scorer is not there, cannot be loaded, or returns no
        finite number above 0.
    """
    scorer: Scorer = SCORERS.get(search.scorer, "search.scorer")
    with plugins.name_errors("scorer", search.scorer):
        factor = scorer(facts)
    if (
        isinstance(factor, bool)
        or not isinstance(factor, int | float)
        or not math.isfinite(factor)
        or factor <= 0
    ):
        raise errors.UsageError(
            f"scorer {search.scorer!r} returned {factor!r:.40}; it must be a "
            "finite number above 0; fix the plug-in"
        )
    return float(factor)


def _check_proposal(name: str, before: Proposal, after: Any) -> None:
    """Refuses what a mutation may not return.

    Raises:
      UsageError: it is no proposal, or one with other hyperparameters.
    """
    if not isinstance(after, Proposal):
        wrong = f"returned {type(after).__name__}, not a Proposal"
    elif set(after.hparams) != set(before.hparams):
        odd = sorted(set(after.hparams) ^ set(before.hparams))
        wrong = f"added or removed hyperparameter {odd[0]!r}"
    elif not all(
        layer in range(after.hparams["num_layers"]) for layer in after.adapters
    ):
        wrong = (
            f"put adapters before layers {sorted(after.adapters)} of "
            f"{after.hparams['num_layers']}"
        )
    else:
        return
    raise errors.UsageError(f"mutation {name!r} {wrong}; fix the plug-in")
