"""Chooses how much to train a person's own tasks: small, medium or large.

Invariant: a preset fills the numbers of a config that are 0 and no others, and
what it filled is recorded, so a system does not depend on later presets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from keras_munet.core import settings as settings_lib

# Training images and classes up to which `auto` takes a preset; `large` beyond.
_LIMITS = {"small": (60_000, 100), "medium": (500_000, 1_000)}
# CPU seconds of a job's start and of an image, measured on 2 cores on
# 2026-11-30 with the packaged root: docs/own_data.md has the table.
START_SECS = 5.0
_IMAGE_SECS = 1.1e-4
MULTIPLY_ADD_SECS = 3.1e-11
# A trained component costs twice its forward in the backward pass.
NUM_PASSES = 3


class DataSize(NamedTuple):
    """Counts a task's data.

    Attributes:
      num_train: training images.
      num_validation: validation images.
      num_classes: its classes.
    """

    num_train: int
    num_validation: int
    num_classes: int


# What each preset fills, in the order of `settings.PRESET_KEYS`.
_FILLED = {
    "small": (1, 1, 32, 1_024),
    "medium": (2, 2, 48, 2_048),
    "large": (4, 2, 64, 8_192),
}
# A job's start takes as long as so many cycles of `small`. Several tasks start
# once; each is trained for its share of the starts that they save.
_NUM_CYCLES_OF_START = 5


def resolve_preset(
    settings: settings_lib.Settings, sizes: Mapping[str, DataSize]
) -> settings_lib.Settings:
    """Returns settings whose numbers are filled by their preset.

    Args:
      settings: the experiment; without a preset it is returned as it is.
      sizes: of the data of every task, by its bare name.

    Example:
      >>> tasks = {"own/birds": DataSize(900, 100, 3)}
      >>> auto = settings_lib.Settings(preset="auto", num_samples_per_task=0)
      >>> filled = resolve_preset(auto, tasks)
      >>> filled.preset, filled.num_samples_per_task
      ('small', 1)
    """
    if not settings.preset:
        return settings
    name = settings.preset
    if name == settings_lib.AUTO_PRESET:
        name = _chosen(sizes)
    values = dict(zip(settings_lib.PRESET_KEYS, _FILLED[name], strict=True))
    num_tasks = len(sizes) or len(settings.task_names)
    if name == "small" and num_tasks:
        values["num_validations_per_path_training"] += (
            _NUM_CYCLES_OF_START * (num_tasks - 1) // num_tasks
        )
    filled: dict[str, Any] = {
        key: value
        for key, value in values.items()
        if not getattr(settings, key)
    }
    return dataclasses.replace(settings, preset=name, **filled)


def recorded_settings(
    settings: settings_lib.Settings, experiment: Mapping[str, Any]
) -> settings_lib.Settings:
    """Returns settings filled by what a system's own preset was.

    Args:
      settings: the experiment that a job names.
      experiment: the one that the system recorded, as JSON.
    """
    if not settings.preset:
        return settings
    changes = {
        key: experiment[key]
        for key in settings_lib.PRESET_KEYS
        if not getattr(settings, key)
    }
    if settings.preset == settings_lib.AUTO_PRESET and experiment.get("preset"):
        changes["preset"] = experiment["preset"]
    return dataclasses.replace(settings, **changes)


def expected_secs(
    settings: settings_lib.Settings, size: DataSize, multiply_adds: int
) -> float:
    """Returns the CPU seconds that one round of a task is expected to take.

    Every child counts as if it trained the whole root; the start of a job,
    `START_SECS`, comes on top.

    Args:
      settings: the experiment, its numbers filled.
      size: of the task's data.
      multiply_adds: of one image through the root, forward.
    """
    num_train = min(
        size.num_train, settings.num_train_examples_between_validations_max
    )
    num_validation = min(
        size.num_validation, settings.num_validation_examples_max
    )
    forward_secs = MULTIPLY_ADD_SECS * multiply_adds
    cycle_secs = (
        num_train * (_IMAGE_SECS + NUM_PASSES * forward_secs)
        + num_validation * forward_secs
    )
    num_cycles = (
        settings.num_samples_per_task
        * settings.num_validations_per_path_training
    )
    return num_cycles * cycle_secs


def _chosen(sizes: Mapping[str, DataSize]) -> str:
    """Returns the smallest preset that suits the largest task."""
    for name, (num_images, num_classes) in _LIMITS.items():
        if all(
            size.num_train <= num_images and size.num_classes <= num_classes
            for size in sizes.values()
        ):
            return name
    return "large"
