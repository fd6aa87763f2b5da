"""Forwards imports of modules that moved, with a warning, until 0.3.

Invariant: an old path gives the very module of its new path, never a second
copy, and warns once a process.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
import warnings
from collections.abc import Sequence

_NAME = "keras_munet"
# Old path -> new path, below keras_munet; of a package, its modules too.
MOVED = {
    "comparison": "compare",
    "data.own_images": "data.own.images",
    "data.own_store": "data.own.store",
    "data.own_tasks": "data.own.tasks",
    "export.folders": "export.output_dir",
    "functional": "models.keras_blocks",
    "functional.family": "models.keras_blocks.architecture",
    "graph": "models",
    "graph.builder": "models.path_model",
    "graph.nodes": "models.layer_factory",
    "inference": "system.inference",
    "overparam.rooms": "overparam.experiments.datasets.rooms",
    "overparam.segnet": "overparam.experiments.segnet",
    "pretraining": "roots.pretraining",
    "progress": "callbacks.progress",
    "report.comparison": "compare",
    "search.autotune": "search.hparam_ranges",
    "search.draws": "search.random_draws",
    "search.extensions": "search.plugins",
    "store.gcs_files": "store.gcs.files",
    "store.running": "store.progress_files",
    "train.strategy": "train.devices.strategy",
    "train.threads": "train.devices.cpu_threads",
    "vit": "models.vit",
    "vit.family": "models.vit.architecture",
    "vit.multiply_adds": "models.vit.flops",
}
# `from keras_munet.vit import family` looks for it below the new package.
_ALL = {
    **MOVED,
    **{
        f"{MOVED[package]}.{name}": new
        for package, _, name, new in (
            (*old.rpartition("."), new) for old, new in MOVED.items()
        )
        if package in MOVED
    },
}


def install() -> None:
    """Has `import` find modules at their old paths."""
    # Before the finder of files, which would load a second copy of a module
    # below an old package.
    sys.meta_path.insert(0, _Finder())


def new_path(old: str) -> str | None:
    """Returns the full new path of a full old one; None if it never moved."""
    package, _, path = old.partition(".")
    if package != _NAME:
        return None
    head, tail = path, ""
    while head and head not in _ALL:
        head, _, last = head.rpartition(".")
        tail = f".{last}{tail}"
    return f"{_NAME}.{_ALL[head]}{tail}" if head else None


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        new = new_path(fullname)
        if new is None or importlib.util.find_spec(new) is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, _Loader(new))


class _Loader(importlib.abc.Loader):
    def __init__(self, new: str):
        self._new = new

    def exec_module(self, module: types.ModuleType) -> None:
        old = module.__name__
        warnings.warn(
            f"{old} is now {self._new}; the old path is removed in 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        # What `import` returns is what stands here when it is done.
        sys.modules[old] = importlib.import_module(self._new)
