"""Divides the logits of an export by the temperatures that were fitted.

Invariant: the labels of every image stay the same, the class with the highest
score or the classes from their thresholds on; the scores are those whose
calibration error the record calls *scaled*.
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


def calibrated(
    tasks: Mapping[str, Any], get: Get
) -> tuple[dict[str, Any], Get]:
    """Returns tasks and `get` with logits divided by their temperatures.

    Args:
      tasks: task name -> its published state.
      get: returns a component by its reference.

    Returns:
      The states, with the thresholds of calibrated scores where an image has
      any number of labels, and a function that returns heads so divided.

    Raises:
      UsageError: a task has no recorded temperature, or two tasks with other
        temperatures share a head.
    """
    temperatures: dict[str, float] = {}
    for name, state in tasks.items():
        metrics = state.test_metrics
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

    return {name: _rescaled(state) for name, state in tasks.items()}, (
        get_calibrated
    )


def _rescaled(state: Any) -> Any:
    metrics = state.test_metrics
    if not isinstance(metrics, target_types.MULTI_LABEL.metrics):
        return state
    return dataclasses.replace(state, test_metrics=metrics.calibrated)
