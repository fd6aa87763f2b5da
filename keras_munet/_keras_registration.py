"""Keras knows the layers whichever of the two is imported first.

Invariant: importing keras_munet imports neither Keras nor TensorFlow; where
Keras is or comes to be imported, with TensorFlow below it, a model's file can
be loaded. Keras looks for a saved layer among those that are registered and
imports no module for it.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence

_KERAS = "keras"
_LAYERS = "keras_munet.models.layer_factory"
# They need none of the above, nor are needed by them.
_NETWORK_LAYERS = (
    "keras_munet.data.preprocessing_layer",
    "keras_munet.overparam.alternating_model",
    "keras_munet.overparam.layers",
    "keras_munet.overparam.experiments.unpooling",
)
# While one of these is being imported the others are about to be.
_BASES = ("keras_munet.models.vit.base", "keras_munet.models.vit.layers")


def register() -> None:
    """Registers the layers now, or when Keras has been imported."""
    if _KERAS in sys.modules:
        _import_layers(sys.modules[_KERAS])
    else:
        sys.meta_path.insert(0, _KerasFinder())


class _KerasFinder(importlib.abc.MetaPathFinder):
    """Finds Keras where it is, and has the layers follow it."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """Returns Keras's own spec, with a loader that goes on."""
        if fullname != _KERAS:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader, self)
                return spec
        return None


class _Loader(importlib.abc.Loader):
    """Keras's own loader, and the layers' import after it."""

    def __init__(self, loader: importlib.abc.Loader, finder: _KerasFinder):
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name: str):
        # Resources and source lines go through a module's loader too.
        return getattr(self._loader, name)

    def create_module(
        self, spec: importlib.machinery.ModuleSpec
    ) -> types.ModuleType | None:
        """Returns what Keras's own loader makes."""
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        """Runs Keras's own module, once, and registers the layers."""
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        _import_layers(module)


def _import_layers(keras: types.ModuleType) -> None:
    # Without TensorFlow there is nothing that could compute them.
    if keras.config.backend() != "tensorflow":
        return
    if not any(name in sys.modules for name in _BASES):
        importlib.import_module(_LAYERS)
    for name in _NETWORK_LAYERS:
        importlib.import_module(name)
