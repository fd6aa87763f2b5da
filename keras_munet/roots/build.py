"""The root that an experiment's settings ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_munet import errors
from keras_munet.roots import npz
from keras_munet.roots import packaged
from keras_munet.roots import root as root_lib

SOURCES = ("random", "npz", "packaged")
_ALL_LAYERS = -1
_DEFAULTS: dict[str, Any] = {
    "source": "random",
    "variant": "Ti/16",
    "num_layers": _ALL_LAYERS,
    "path": "",
    "image_size": 32,
    "seed": 0,
}


def build(
    settings: Mapping[str, Any],
    *,
    num_layers_max: int | None = None,
    num_classes: int = root_lib.NUM_CLASSES,
) -> root_lib.Root:
    """Returns the root of the settings group `root`.

    Args:
      settings: any of `source`, `variant`, `num_layers` (-1 or None for all),
        `path`, `image_size` (pixels) and `seed`.
      num_layers_max: the deepest path; None for the root's own depth.
      num_classes: columns of the head; no path ever takes over a root's head.

    Raises:
      UsageError: an unknown key, source or size.
      CheckpointError: the file of source `npz` does not fit.
    """
    unknown = sorted(set(settings) - set(_DEFAULTS))
    if unknown:
        raise errors.UsageError(
            f"unknown config key root.{unknown[0]}; there are: "
            + ", ".join(f"root.{key}" for key in _DEFAULTS)
        )
    values = {**_DEFAULTS, **settings}
    source = values["source"]
    if source not in SOURCES:
        raise errors.UsageError(
            f"config key root.source is {source!r}; it must be one of "
            f"{', '.join(SOURCES)}"
        )
    depth = values["num_layers"]
    shared: dict[str, Any] = {
        "num_layers": None if depth == _ALL_LAYERS else depth,
        "num_layers_max": num_layers_max,
        "image_size": values["image_size"],
        "num_classes": num_classes,
    }
    if source == "packaged":
        return packaged.packaged(**shared)
    if source == "random":
        return root_lib.random(values["variant"], seed=values["seed"], **shared)
    if not values["path"]:
        raise errors.UsageError(
            "config key root.path is empty; source npz needs the path of an "
            "AugReg .npz file"
        )
    return npz.from_npz(values["path"], variant=values["variant"], **shared)
