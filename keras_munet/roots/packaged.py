"""The root that comes with the install: a `mu` ViT that has seen characters.

Invariant: it lies in the package as a hub SavedModel and is read as any
other. `launch/pretrain.py` made it; `pretraining.json` beside it says how.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from keras_munet.core import settings as settings_lib
from keras_munet.roots import hub
from keras_munet.roots import root as root_lib
from keras_munet.roots import source as source_lib

FOLDER = pathlib.Path(__file__).with_name("packaged_mu")
VARIANT = "mu/8"


def packaged(**options: Any) -> root_lib.Root:
    """Returns the packaged root; the same values at every install.

    Args:
      **options: as `hub.from_hub` takes them: `num_layers`,
        `num_layers_max`, `image_size`, `num_classes`.

    Raises:
      UsageError: a depth or image size that `mu` cannot have.
      CheckpointError: the installed files are damaged.
    """
    root = hub.from_hub(FOLDER, variant=VARIANT, **options)
    return dataclasses.replace(root, source=f"packaged {VARIANT}")


def _build(settings: settings_lib.RootSettings, **sizes: Any) -> root_lib.Root:
    del settings
    return packaged(**sizes)


SOURCE = source_lib.RootSource(
    build=_build,
    licence="comes with keras_munet; pretrained on letters drawn from the "
    "fonts of matplotlib and on Omniglot, MIT licence",
    traced_variant=lambda settings: VARIANT,
)
