"""Compact multitask networks, trained as products of shared factors.

Section 5 of the method (Ren and Shi 2023). The names below are imported on
first use, so that a setting can be read without TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING
from typing import Any

from keras_munet.core import keras_backend

if TYPE_CHECKING:
    from keras_munet.overparam.contraction import contract
    from keras_munet.overparam.contraction import multiply_adds
    from keras_munet.overparam.contraction import num_params
    from keras_munet.overparam.fit import train
    from keras_munet.overparam.layers import FactorizedConv2D
    from keras_munet.overparam.layers import FactorizedDense
    from keras_munet.overparam.model_transform import overparameterize
    from keras_munet.overparam.schedule import Schedule
    from keras_munet.overparam.training import Trainer

_HOMES = {
    "FactorizedConv2D": "layers",
    "FactorizedDense": "layers",
    "Schedule": "schedule",
    "Trainer": "training",
    "contract": "contraction",
    "multiply_adds": "contraction",
    "num_params": "contraction",
    "overparameterize": "rewriting",
    "train": "running",
}

__all__ = [
    "FactorizedConv2D",
    "FactorizedDense",
    "Schedule",
    "Trainer",
    "contract",
    "multiply_adds",
    "num_params",
    "overparameterize",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    keras_backend.require_tensorflow()
    home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return getattr(home, name)
