"""Ways to run an experiment, each a change of its settings.

Invariant: a method has one name and one folder, however it was written.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_munet import errors
from keras_munet.core import settings as settings_lib


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to run an experiment: what it overrides of the settings.

    Attributes:
      name: as it is written, e.g. `adapters:16`.
      overrides: key of `search` -> value.
    """

    name: str
    overrides: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str) -> Method:
        """Returns the method that `text` names.

        Raises:
          UsageError: there is none of that name.
        """
        if text in settings_lib.VERSIONS:
            overrides: dict[str, Any] = {"version": text, "policy": "evolve"}
            if text == "munet":
                # It clones every path in turn, and was published without.
                overrides |= {"probe_child": False, "rank_parents": "sampled"}
            return cls(text, overrides)
        search = settings_lib.SearchSettings(policy=text)
        if not _is_baseline(search):
            raise errors.UsageError(
                f"method {text!a} is unknown; there are: "
                f"{', '.join(_allowed())}"
            )
        policy_name, number = search.policy_parts
        # One name and folder per method: a number may have leading zeros.
        policy = policy_name if number is None else f"{policy_name}:{number}"
        return cls(policy, {"policy": policy})

    def settings(
        self, base: settings_lib.Settings, seed: int
    ) -> settings_lib.Settings:
        """Returns the settings of one run of the experiment `base`."""
        search = dataclasses.replace(base.search, **self.overrides)
        return dataclasses.replace(base, seed=seed, search=search)

    def folder(self, seed: int) -> str:
        """Returns where a run lies below the comparison's directory."""
        return os.path.join(self.name.replace(":", "-"), f"seed_{seed}")


def parse(texts: Sequence[str]) -> tuple[Method, ...]:
    """Returns the methods that texts name, in their order.

    Raises:
      UsageError: one is unknown or named twice, or there is none.
    """
    methods = tuple(Method.parse(text) for text in texts)
    refuse_repeated("method", [method.name for method in methods])
    return methods


def refuse_repeated(noun: str, values: Sequence[Any]) -> None:
    """Raises UsageError if there is no value, or one of them twice."""
    if not values:
        raise errors.UsageError(f"no {noun} is named; name at least one")
    for value in values:
        if values.count(value) > 1:
            raise errors.UsageError(
                f"{noun} {value} is named twice; name it once"
            )


def _is_baseline(search: settings_lib.SearchSettings) -> bool:
    try:
        settings_lib.Settings(search=search)
    except errors.UsageError:
        return False
    return search.policy != "evolve"


def _allowed() -> list[str]:
    policies = [
        f"{name}:N" if name in settings_lib.NUMBERED_POLICIES else name
        for name in settings_lib.POLICIES
        if name != "evolve"
    ]
    return [*settings_lib.VERSIONS, *policies]
