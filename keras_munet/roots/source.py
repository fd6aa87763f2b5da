"""Describes a kind of root: how it is built, and what is known without it.

A root source is one file with a `RootSource` and one line in `roots.build`, or
an entry point of group `keras_munet.roots` in another distribution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from keras_munet.core import settings as settings_lib
from keras_munet.roots import root as root_lib


def _no_variant(settings: settings_lib.RootSettings) -> str:
    del settings
    return ""


@dataclasses.dataclass(frozen=True)
class RootSource:
    """One kind of root.

    Attributes:
      build: `build(settings, **sizes)` returns the root; `sizes` are
        `num_layers` (None for all), `num_layers_max` (None for the root's own
        depth), `image_size` (pixels) and `num_classes`.
      path_help: what `root.path` names; empty where the source reads none.
      licence: of the weights and of the data that trained them.
      traced_variant: returns the ViT whose shapes the root has, so that
        tracing reads no weights; empty where the weights alone tell.

    Example:
      >>> def build(settings, **sizes):
      ...     return root_lib.random("mu", seed=settings.seed, **sizes)
      >>> source = RootSource(build, licence="CC BY 4.0")
      >>> source.build(settings_lib.RootSettings(seed=3), num_layers=1).source
      'random mu/8 seed 3'
    """

    build: Callable[..., root_lib.Root]
    path_help: str = ""
    licence: str = "licence and data as the giver of the file states them"
    traced_variant: Callable[[settings_lib.RootSettings], str] = _no_variant
