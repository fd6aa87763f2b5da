"""Defines the baselines, on the method's budget and harness.

Invariant: a baseline is one generation of children of the root per task, which
have as many cycles together as all children of the search (section 2,
"Baselines"). The first has the config's hyperparameters; the others differ in
learning rate and data hyperparameters, as a user would tune a fine-tuning. A
linear probe is one child, solved and not trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from keras_munet.core import settings as settings_lib

_BLOCK = "encoderblock_"


@dataclasses.dataclass(frozen=True)
class Baseline:
    """The rule by which a baseline makes its child from the root.

    Attributes:
      should_clone: returns whether the component at a position is cloned; a
        new one is always trained.
      adapter_dim: width of the adapter before every layer; None for none.
      is_solved: whether the head is solved and nothing is trained.
    """

    should_clone: Callable[[str], bool]
    adapter_dim: int | None = None
    is_solved: bool = False


def parse_baseline(search: settings_lib.SearchSettings) -> Baseline | None:
    """Returns the baseline that a policy names; None for `evolve`."""
    name, number = search.policy_parts
    forced = frozenset(search.force_finetune_components)
    if name == "evolve":
        return None
    if name == "finetune_all":
        return Baseline(lambda slot: True)
    if name == "linear_probe":
        return Baseline(lambda slot: False, is_solved=True)
    if name == "adapters":
        return Baseline(lambda slot: slot in forced, adapter_dim=number)
    assert number is not None, search.policy
    return Baseline(lambda slot: slot in forced or _layer(slot) >= number)


def budgeted(settings: settings_lib.Settings) -> settings_lib.Settings:
    """Returns the settings that a baseline runs under; others unchanged.

    A path of the search is trained anew in each of its generations; each
    child of the baseline gets the cycles of several at once.
    """
    if settings.search.policy == "evolve":
        return settings
    num_children = min(
        settings.children_per_generation, settings.num_samples_per_task
    )
    num_cycles = (
        settings.num_validations_per_path_training
        * settings.num_task_iters
        * settings.num_samples_per_task
        // num_children
    )
    if settings.search.policy == "linear_probe":
        # Its children would be equal.
        num_children = 1
    return dataclasses.replace(
        settings,
        search=dataclasses.replace(
            settings.search, probe_child=False, rank_parents="sampled"
        ),
        num_task_iters=1,
        num_samples_per_task=num_children,
        children_per_generation=num_children,
        num_validations_per_path_training=num_cycles,
    )


def changeable_keys(settings: settings_lib.Settings) -> tuple[str, ...]:
    """Returns the settings that only say what is still to come."""
    if settings.search.policy == "evolve":
        return "task_names", "num_task_iters"
    # A baseline's rounds are the length of its one training.
    return ("task_names",)


def _layer(slot: str) -> int:
    """Returns the number of the layer at `slot`; -1 where there is none."""
    number = slot.removeprefix(_BLOCK)
    return int(number) if number != slot else -1
