"""The root that an experiment's settings ask for."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from keras_munet import errors
from keras_munet.core import plugins
from keras_munet.core import registry
from keras_munet.core import settings as settings_lib
from keras_munet.roots import root as root_lib
from keras_munet.roots import source as source_lib

SOURCES = registry.Registry(
    "root source",
    "keras_munet.roots",
    builtin={
        "hf": "keras_munet.roots.hugging_face:SOURCE",
        "hub": "keras_munet.roots.hub:SOURCE",
        "keras": "keras_munet.roots.keras_file:SOURCE",
        "keras_applications": "keras_munet.roots.keras_applications:SOURCE",
        "keras_hub": "keras_munet.roots.keras_hub_source:SOURCE",
        "npz": "keras_munet.roots.npz:SOURCE",
        "packaged": "keras_munet.roots.packaged:SOURCE",
        "random": "keras_munet.roots.random_source:SOURCE",
    },
)


def find(name: str) -> source_lib.RootSource:
    """Returns a root source.

    Args:
      name: as config key `root.source` has it.

    Raises:
      UsageError: there is none, or its plug-in cannot be loaded.
    """
    source = SOURCES.get(name, "root.source")
    if isinstance(source, source_lib.RootSource):
        return source
    return source_lib.RootSource(build=source)


def build(
    settings: settings_lib.RootSettings,
    *,
    num_layers_max: int | None = None,
    num_classes: int = root_lib.NUM_CLASSES,
) -> root_lib.Root:
    """Returns the root of the settings group `root`.

    Args:
      settings: the group, as `Settings` checked it.
      num_layers_max: the deepest path; None for the root's own depth.
      num_classes: columns of the head; no path ever takes over a root's head.

    Raises:
      UsageError: an unknown source, variant or size.
      CheckpointError: the file or model of a source does not fit.
    """
    source = find(settings.source)
    if source.path_help and not settings.path:
        raise errors.UsageError(
            f"config key root.path is empty; source {settings.source} needs "
            f"{source.path_help}"
        )
    settings = dataclasses.replace(
        settings, path=os.path.expanduser(settings.path)
    )
    depth = settings.num_layers
    sizes: dict[str, Any] = {
        "num_layers": None if depth == settings_lib.ALL_LAYERS else depth,
        "num_layers_max": num_layers_max,
        "image_size": settings.image_size,
        "num_classes": num_classes,
    }
    if settings.source in SOURCES.names():
        return source.build(settings, **sizes)
    with plugins.name_errors("root source", settings.source):
        built = source.build(settings, **sizes)
    if not isinstance(built, root_lib.Root):
        raise errors.UsageError(
            f"root source {settings.source!r} built {type(built).__name__}; "
            "it must return a keras_munet.roots.Root; fix the plug-in"
        )
    return built


def described(root_source: str) -> str:
    """Returns a root's record of its source with the licence of its weights.

    Args:
      root_source: `Root.source`, which begins with the name of its source.
    """
    name = root_source.partition(" ")[0]
    licence = source_lib.RootSource.licence
    if name in SOURCES.names():
        licence = find(name).licence
    return f"{root_source}; {licence}"
