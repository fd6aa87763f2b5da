"""The root that an experiment's settings ask for."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from keras_munet import errors
from keras_munet.core import plugins
from keras_munet.core import registry
from keras_munet.core import settings as settings_lib
from keras_munet.roots import hub
from keras_munet.roots import keras_file
from keras_munet.roots import keras_hub_source
from keras_munet.roots import npz
from keras_munet.roots import packaged
from keras_munet.roots import root as root_lib

# What `root.path` is for each source that reads it.
PATHS = {
    "npz": "an .npz file or an AugReg query",
    "hub": "a hub handle or a SavedModel folder",
    "keras_hub": "a preset of a keras_hub ViTBackbone",
    "keras": "a .keras file of a functional or Sequential model",
}
SOURCES = ("random", "packaged", *PATHS)
PLUGINS = registry.Registry("root source", "keras_munet.roots", SOURCES)


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
    source = settings.source
    if source in PATHS and not settings.path:
        raise errors.UsageError(
            f"config key root.path is empty; source {source} needs "
            f"{PATHS[source]}"
        )
    settings = dataclasses.replace(
        settings, path=os.path.expanduser(settings.path)
    )
    depth = settings.num_layers
    shared: dict[str, Any] = {
        "num_layers": None if depth == settings_lib.ALL_LAYERS else depth,
        "num_layers_max": num_layers_max,
        "image_size": settings.image_size,
        "num_classes": num_classes,
    }
    variant = settings.variant
    if source not in SOURCES:
        return _plugin(settings, shared)
    if source == "packaged":
        return packaged.packaged(**shared)
    if source == "random":
        return root_lib.random(variant, seed=settings.seed, **shared)
    if source == "keras_hub":
        return keras_hub_source.from_keras_hub(settings.path, **shared)
    if source == "keras":
        return keras_file.from_file(
            settings.path,
            blocks=settings.blocks or None,
            features=settings.features or None,
            pixel_range=(settings.pixel_min, settings.pixel_max),
            **shared,
        )
    read = npz.from_npz if source == "npz" else hub.from_hub
    return read(settings.path, variant=variant or None, **shared)


def _plugin(
    settings: settings_lib.RootSettings, shared: dict[str, Any]
) -> root_lib.Root:
    """Returns what a plug-in builds: `build(settings, **shared)`.

    Raises:
      UsageError: there is none of that name, or it builds no root.
    """
    build_root = PLUGINS.get(settings.source, "root.source")
    with plugins.naming("root source", settings.source):
        built = build_root(settings, **shared)
    if not isinstance(built, root_lib.Root):
        raise errors.UsageError(
            f"root source {settings.source!r} built {type(built).__name__}; "
            "it must return a keras_munet.roots.Root; mend the plug-in"
        )
    return built
