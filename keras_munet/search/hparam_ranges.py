"""The ordered ranges that hyperparameters mutate in (section 3, auto-tune).

Invariant: a hyperparameter without a range never mutates; every first value
lies on its range, so that one step up or down is always defined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_munet import errors
from keras_munet.core import settings as settings_lib

Ranges = Mapping[str, tuple[Any, ...]]

_LEARNING_RATES = (
    *(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005),
    *(0.01, 0.02, 0.05, 0.1),
)
# 0.0 stands for the published "none".
_MOMENTA_V1 = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_COLOR_DELTAS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
_BOTH: dict[str, tuple[Any, ...]] = {
    "adapter_dim": (8, 16, 32, 64, 128),
    "opt_lr_warmup_ratio": (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4),
    "opt_nesterov": (True, False),
    "ds_flip_left_right": (True, False),
    "ds_area_range_min": (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
    "ds_aspect_ratio_range_min": (0.25, 0.5, 0.75, 1.0),
    "ds_brightness_delta": _COLOR_DELTAS,
    "ds_contrast_delta": _COLOR_DELTAS,
    "ds_saturation_delta": _COLOR_DELTAS,
    "ds_hue_delta": _COLOR_DELTAS,
}
_MU = tuple(round(0.10 + 0.02 * i, 2) for i in range(11))
TABLES: dict[str, dict[str, tuple[Any, ...]]] = {
    "off": {},
    "v1": {
        **_BOTH,
        "opt_lr": _LEARNING_RATES,
        "opt_lr_schedule": ("constant", "cosine", "restarts"),
        "opt_momentum": _MOMENTA_V1,
        "ds_image_size": tuple(range(16, 385, 16)),
    },
    "v2": {
        **_BOTH,
        "mu": _MU,
        "opt_lr": (*_LEARNING_RATES, 0.2, 0.5),
        "opt_momentum": (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99),
        "ds_crop": (True, False),
    },
}


def ranges_in_force(
    settings: settings_lib.Settings, num_root_layers: int
) -> dict[str, tuple[Any, ...]]:
    """Returns every range in force: the table's, then the config's own.

    Args:
      settings: the experiment.
      num_root_layers: layers of the root; v1 takes paths of 1 to so many.

    Raises:
      UsageError: the first value of a hyperparameter is not on its range.
    """
    table = settings.search.auto_tune_table
    merged = dict(TABLES[table])
    if table == "v1" and num_root_layers > 0:
        merged["num_layers"] = tuple(range(1, num_root_layers + 1))
    merged.update(settings.ranges)
    for key, steps in merged.items():
        if key in settings.hparams and settings.hparams[key] not in steps:
            raise errors.UsageError(
                f"config key hparams.{key} is {settings.hparams[key]!r}, "
                f"which is not on its range {list(steps)}; choose one of "
                f"these or set ranges.{key}"
            )
    return merged


def neighbours(value: Any, steps: tuple[Any, ...], number: int) -> Any:
    """Returns a value of a range: the one at `value`, then those around it.

    Args:
      value: on the range.
      steps: the range.
      number: 0 for `value`, 1 for one step up, 2 for one down, 3 for two up;
        it goes on beyond the nearer end, and round when all were returned.
    """
    start = steps.index(value)
    order = sorted(range(len(steps)), key=lambda i: (abs(i - start), -i))
    return steps[order[number % len(steps)]]


def is_data(key: str) -> bool:
    """Returns whether `key` is a data hyperparameter, one per generation."""
    return key.startswith("ds_")
