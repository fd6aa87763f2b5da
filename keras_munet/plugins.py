"""Names everything that the author of a plug-in may import.

With `keras_munet` itself, `keras_munet.roots` and `keras_munet.errors` this is
the public part of the package: other modules are private and change without
notice. A name is imported on its first use, so that a plug-in for records
needs no TensorFlow. See docs/plugins.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from keras_munet.callbacks.callback import Callback
    from keras_munet.core.adapters import Adapter
    from keras_munet.core.qualities import Quality
    from keras_munet.core.settings import RootSettings
    from keras_munet.core.specs import Component
    from keras_munet.core.specs import ComponentSpec
    from keras_munet.core.specs import PathRecord
    from keras_munet.data.task_source import DataOptions
    from keras_munet.data.task_source import TaskSource
    from keras_munet.data.types import Split
    from keras_munet.data.types import TaskData
    from keras_munet.export.formats import Classifier
    from keras_munet.export.formats import ExportFormat
    from keras_munet.models.vit.base import VitLayer
    from keras_munet.roots.root import Root
    from keras_munet.roots.source import RootSource
    from keras_munet.search.plugins import Mutation
    from keras_munet.search.plugins import ParentPolicy
    from keras_munet.search.plugins import Proposal
    from keras_munet.search.plugins import Scorer
    from keras_munet.search.plugins import SearchSpace
    from keras_munet.search.random_draws import RandomDraws
    from keras_munet.search.scoring import ScoreInputs

_HOMES = {
    "Adapter": "core.adapters",
    "Callback": "callbacks.callback",
    "Classifier": "export.formats",
    "Component": "core.specs",
    "ComponentSpec": "core.specs",
    "DataOptions": "data.task_source",
    "ExportFormat": "export.formats",
    "Mutation": "search.plugins",
    "ParentPolicy": "search.plugins",
    "PathRecord": "core.specs",
    "Proposal": "search.plugins",
    "Quality": "core.qualities",
    "RandomDraws": "search.random_draws",
    "Root": "roots.root",
    "RootSettings": "core.settings",
    "RootSource": "roots.source",
    "ScoreInputs": "search.scoring",
    "Scorer": "search.plugins",
    "SearchSpace": "search.plugins",
    "Split": "data.types",
    "TaskData": "data.types",
    "TaskSource": "data.task_source",
    "VitLayer": "models.vit.base",
}

__all__ = [
    "Adapter",
    "Callback",
    "Classifier",
    "Component",
    "ComponentSpec",
    "DataOptions",
    "ExportFormat",
    "Mutation",
    "ParentPolicy",
    "PathRecord",
    "Proposal",
    "Quality",
    "RandomDraws",
    "Root",
    "RootSettings",
    "RootSource",
    "ScoreInputs",
    "Scorer",
    "SearchSpace",
    "Split",
    "TaskData",
    "TaskSource",
    "VitLayer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"keras_munet.{_HOMES[name]}")
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
