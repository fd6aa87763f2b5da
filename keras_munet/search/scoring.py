"""Scores a child: quality times a size penalty (section 2, "Score")."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class ScoreInputs:
    """The facts of a path that a scorer gets before training.

    Attributes:
      task: the task it solves.
      accounted_params: its parameters, each divided by the tasks that use it.
      num_params: its parameters, shared or not.
      num_root_params: parameters that make a relative size of 1.
      base: the config key `search.score_base`.
      hparams: its hyperparameters.

    Example:
      >>> facts = ScoreInputs("digits", 50.0, 80, 100, 0.81, {"num_layers": 2})
      >>> size_penalty(facts)
      0.9
    """

    task: str
    accounted_params: float
    num_params: int
    num_root_params: int
    base: float
    hparams: Mapping[str, Any]


def size_penalty(facts: ScoreInputs) -> float:
    """Returns the published factor of a path; the scorer `size_penalty`."""
    return size_factor(
        facts.accounted_params, facts.num_root_params, facts.base
    )


def size_factor(
    accounted_params: float, num_root_params: int, base: float
) -> float:
    """Returns base ** (accounted_params / num_root_params).

    A base of 1.0 makes the score plain quality.
    """
    return base ** (accounted_params / num_root_params)
