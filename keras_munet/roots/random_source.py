"""A root of freshly drawn values, by the name of a ViT."""

from __future__ import annotations

from typing import Any

from keras_munet.core import settings as settings_lib
from keras_munet.roots import root as root_lib
from keras_munet.roots import source as source_lib


def _build(settings: settings_lib.RootSettings, **sizes: Any) -> root_lib.Root:
    return root_lib.random(settings.variant, seed=settings.seed, **sizes)


SOURCE = source_lib.RootSource(
    build=_build,
    licence="trained on nothing",
    traced_variant=lambda settings: settings.variant,
)
