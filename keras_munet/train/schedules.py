"""Learning rates of a whole training as one array (section 2, "Schedules").

Schedules are data, not code: children with other schedules run the same
compiled step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from keras_munet import errors
from keras_munet.core import settings
from keras_munet.train import child_job
from keras_munet.train import optimizer


def learning_rates(
    schedule: str,
    peak: float,
    warmup_ratio: float,
    num_cycles: int,
    num_steps_per_cycle: int,
) -> np.ndarray:
    """Returns the learning rate of every step.

    Args:
      schedule: `constant`, `cosine` or `restarts`.
      peak: the highest learning rate; `constant` uses half of it.
      warmup_ratio: share of the steps of a decay that warm up.
      num_cycles: validation cycles.
      num_steps_per_cycle: steps in each.

    Returns:
      `[num_cycles * num_steps_per_cycle] float32`.

    Raises:
      UsageError: the schedule is unknown.
    """
    num_steps = num_cycles * num_steps_per_cycle
    if schedule == "constant":
        return np.full(num_steps, peak / 2, np.float32)
    if schedule == "cosine":
        return _cosine(peak, warmup_ratio, num_steps)
    if schedule == "restarts":
        cycle = _cosine(peak, warmup_ratio, num_steps_per_cycle)
        return np.tile(cycle, num_cycles)
    raise errors.UsageError(
        f"unknown opt_lr_schedule {schedule!r}; choose one of "
        f"{', '.join(settings.SCHEDULES)}"
    )


def _cosine(peak: float, warmup_ratio: float, num_steps: int) -> np.ndarray:
    """Linear from peak / 100 to peak, then half a cosine down to 0."""
    num_warmup = int(warmup_ratio * num_steps)
    rates = np.empty(num_steps, np.float64)
    start = peak / 100
    for step in range(num_steps):
        if step < num_warmup:
            rates[step] = start + (peak - start) * step / num_warmup
        else:
            fraction = (step - num_warmup) / max(1, num_steps - num_warmup)
            rates[step] = peak * 0.5 * (1 + math.cos(math.pi * fraction))
    return rates.astype(np.float32)


def rate_table(
    children: Sequence[child_job.ChildJob], num_cycles: int, num_steps: int
) -> np.ndarray:
    """Returns `[steps, children, 3] float32` for `optimizer.Rates`."""
    columns = []
    for child in children:
        hparams = child.hparams
        rates = learning_rates(
            hparams["opt_lr_schedule"],
            hparams["opt_lr"],
            hparams["opt_lr_warmup_ratio"],
            num_cycles,
            num_steps,
        )
        momentum = np.full_like(rates, hparams["opt_momentum"])
        if child.uses_adamw:
            # The second moment begins at zero (Kingma and Ba 2015, section 3),
            # or at the square of a momentum that a parent hands on.
            count = np.arange(1, len(rates) + 1)
            rates = rates * np.sqrt(1.0 - optimizer.SECOND_DECAY**count)
            last = np.full_like(rates, hparams["opt_weight_decay"])
        else:
            last = np.full_like(rates, float(hparams["opt_nesterov"]))
        columns.append(np.stack([rates, momentum, last], axis=-1))
    return np.stack(columns, axis=1).astype(np.float32)
