"""Reads first components from pretrained weights.

The names below are imported on first use, so that naming a source needs no
TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING
from typing import Any

from keras_munet.core import keras_backend

if TYPE_CHECKING:
    from keras_munet.roots.hub import from_hub
    from keras_munet.roots.keras_hub_source import from_keras_hub
    from keras_munet.roots.keras_source import from_keras
    from keras_munet.roots.npz import from_npz
    from keras_munet.roots.root import Root
    from keras_munet.roots.root import random

_HOMES = {
    "Root": "root",
    "from_hub": "hub",
    "from_keras": "keras_source",
    "from_keras_hub": "keras_hub_source",
    "from_npz": "npz",
    "random": "root",
}

__all__ = [
    "Root",
    "from_hub",
    "from_keras",
    "from_keras_hub",
    "from_npz",
    "random",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    keras_backend.require_tensorflow()
    home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return getattr(home, name)
