"""Divides the logits of an export by the temperatures that were fitted.

Invariant: the class with the highest score stays the same; the scores are
those whose calibration error the record calls *scaled*.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.core import target_types

# Linear layers: their logits are divided as their weights are.
_HEADS = ("Head", "PooledHead")
Get = Callable[[specs.ComponentRef], specs.Component]


def calibrated(get: Get, tasks: Mapping[str, Any]) -> Get:
    """Returns `get` with the heads of tasks divided by their temperatures.

    Args:
      get: returns a component by its reference.
      tasks: task name -> its published state.

    Raises:
      UsageError: a task has no recorded temperature, or two tasks with other
        temperatures share a head.
    """
    temperatures: dict[str, float] = {}
    for name, state in tasks.items():
        metrics = state.test_metrics
        if isinstance(metrics, target_types.MULTI_LABEL.metrics):
            raise errors.UsageError(
                f"task {name!r} has any number of labels an image, which has "
                "thresholds and no temperature; export it without calibrate"
            )
        if metrics is None or metrics.temperature is None:
            raise errors.UsageError(
                f"task {name!r} has no recorded temperature, which calibrate "
                "needs; evolve it one more round, or leave calibrate out"
            )
        head = state.published.components[-1].id
        if temperatures.setdefault(head, metrics.temperature) != (
            metrics.temperature
        ):
            raise errors.UsageError(
                f"task {name!r} shares its head with a task of another "
                "temperature; export one of them, or leave calibrate out"
            )

    def get_calibrated(ref: specs.ComponentRef) -> specs.Component:
        component = get(ref)
        temperature = temperatures.get(ref.id)
        if temperature is None:
            return component
        if component.spec.layer not in _HEADS:
            raise errors.UsageError(
                f"calibrate takes heads of type {' or '.join(_HEADS)}, not "
                f"{component.spec.layer}; leave it out"
            )
        weights = {
            name: (value / np.float32(temperature)).astype(np.float32)
            for name, value in component.weights.items()
        }
        return dataclasses.replace(component, weights=weights)

    return get_calibrated
