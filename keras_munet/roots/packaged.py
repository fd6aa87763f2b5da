"""The root that comes with the install.

Its values are RANDOM, from a fixed seed, until a pretrained `mu` is shipped:
it makes every example run without a download, and knows nothing.
"""

from __future__ import annotations

import dataclasses

from keras_munet.roots import root as root_lib

VARIANT = "mu/8"
_SEED = 2022


def packaged(
    *,
    num_layers: int | None = None,
    num_layers_max: int | None = None,
    image_size: int = 32,
    num_classes: int = root_lib.NUM_CLASSES,
) -> root_lib.Root:
    """Returns the packaged `mu` root; the same values at every install.

    Args:
      num_layers: blocks to keep; None for all.
      num_layers_max: the deepest path; None for the root's own depth.
      image_size: side of the square input, pixels.
      num_classes: width of the head.

    Raises:
      UsageError: a depth or image size that `mu` cannot have.
    """
    root = root_lib.random(
        VARIANT,
        num_layers=num_layers,
        num_layers_max=num_layers_max,
        image_size=image_size,
        num_classes=num_classes,
        seed=_SEED,
    )
    return dataclasses.replace(root, source="packaged (random values)")
