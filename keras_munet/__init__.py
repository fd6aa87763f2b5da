"""keras_munet grows one multitask image system instead of many models.

The names below are imported on first use, so that `import keras_munet` is
quick and reading reports needs no TensorFlow. With Keras, before or after, the
layers are registered.
"""

# The working folder goes before anything else is imported.
# ruff: noqa: E402
from __future__ import annotations

import os
import sys


def _forget_working_folder() -> None:
    """Has `python -m keras_munet` look for modules where they are installed.

    Python looks into the working folder first, where data of others may lie,
    with a `json.py` among them. It names that folder before it imports this.
    """
    words = {word.partition(".")[0] for word in sys.orig_argv}
    if sys.argv[:1] != ["-m"] or not words & {__name__, f"-m{__name__}"}:
        return
    if sys.path and os.path.abspath(sys.path[0]) == os.getcwd():
        del sys.path[0]
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if home not in sys.path:
        # In a checkout they are the same: last, it takes no other's place.
        sys.path.append(home)


_forget_working_folder()

import functools
import importlib
import importlib.util
import types
from typing import TYPE_CHECKING
from typing import Any

from keras_munet import _deprecated_paths
from keras_munet import _keras_registration
from keras_munet.version import __version__

if TYPE_CHECKING:
    from keras_munet.callbacks.progress import Progress
    from keras_munet.core.settings import Settings
    from keras_munet.errors import CheckpointError
    from keras_munet.errors import ChildError
    from keras_munet.errors import DataError
    from keras_munet.errors import MunetError
    from keras_munet.errors import StoreError
    from keras_munet.errors import UsageError
    from keras_munet.system.first_system import evolve
    from keras_munet.system.inference import PictureFeatures
    from keras_munet.system.inference import Prediction
    from keras_munet.system.records import Evaluation
    from keras_munet.system.records import TaskInfo
    from keras_munet.system.system import System

_HOMES = {
    "CheckpointError": "errors",
    "ChildError": "errors",
    "DataError": "errors",
    "Evaluation": "system.records",
    "MunetError": "errors",
    "PictureFeatures": "system.inference",
    "Prediction": "system.inference",
    "Progress": "callbacks.progress",
    "Settings": "core.settings",
    "StoreError": "errors",
    "System": "system.system",
    "TaskInfo": "system.records",
    "UsageError": "errors",
    "evolve": "system.first_system",
}

__all__ = [
    "CheckpointError",
    "ChildError",
    "DataError",
    "Evaluation",
    "MunetError",
    "PictureFeatures",
    "Prediction",
    "Progress",
    "Settings",
    "StoreError",
    "System",
    "TaskInfo",
    "UsageError",
    "__version__",
    "evolve",
]

_deprecated_paths.install()
_keras_registration.register()


def _module(package: str, name: str) -> types.ModuleType:
    """Returns a module of a package, imported at its first use by a dot.

    So `keras_munet.core.devices.Devices` works after `import keras_munet`.
    """
    full = f"{package}.{name}"
    if name.startswith("_") or importlib.util.find_spec(full) is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    module = importlib.import_module(full)
    if hasattr(module, "__path__") and "__getattr__" not in vars(module):
        vars(module)["__getattr__"] = functools.partial(
            _module, module.__name__
        )
    return module


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        return _module(__name__, name)
    home = importlib.import_module(f"keras_munet.{_HOMES[name]}")
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
