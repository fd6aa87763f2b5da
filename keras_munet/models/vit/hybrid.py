"""The family of hybrids: a ViT whose patches are cut from a ResNet's features.

Invariant: above the embedding a hybrid is a plain ViT, and below it is the
ResNet that every path has, a component per bottleneck unit: the search shares
or clones units and never leaves one out.

Sources: Dosovitskiy et al. 2020 (arXiv 2010.11929), appendix B.1, and Steiner
et al. 2021 (arXiv 2106.10270) for R+Ti/16, R26+S/32 and R50+L/32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from typing import ClassVar

from keras_munet.core import architecture
from keras_munet.core import specs
from keras_munet.models.vit import architecture as vit_architecture
from keras_munet.models.vit import shapes
from keras_munet.models.vit import variants

RESNET_ROOT = "resnet_root"
# Features of the stem's output and of the first stage's inside.
STEM_WIDTH = 64
# What the stem's convolution and pooling divide the sides of an image by.
STEM_STRIDES = 4


def unit_name(stage: int, unit: int) -> str:
    """Returns the place of a unit, both counted from 1 as files count them."""
    return f"block{stage}_unit{unit}"


@architecture.FAMILIES.register("vit_hybrid")
@dataclasses.dataclass(frozen=True)
class HybridFamily(vit_architecture.VitFamily):
    """Every path that one hybrid root can give rise to.

    Attributes:
      units: bottleneck units of each ResNet stage; the stem alone if empty.
      stem_width: features of the stem, a multiple of 32.
    """

    name: ClassVar[str] = "vit_hybrid"

    units: tuple[int, ...] = ()
    stem_width: int = STEM_WIDTH

    @classmethod
    def of(
        cls,
        variant: variants.Variant,
        num_layers_max: int,
        representation_size: int = 0,
    ) -> HybridFamily:
        """Returns the family of `variant`, up to `num_layers_max` deep."""
        plain = super().of(variant, num_layers_max, representation_size)
        return dataclasses.replace(plain, units=variant.units or ())

    @property
    def token_side(self) -> int:
        """Side of the square of pixels that one token stands for."""
        return self.patch_size * STEM_STRIDES * 2 ** max(len(self.units) - 1, 0)

    def _entrance(self) -> list[specs.ComponentSpec]:
        """Returns what makes tokens of images."""
        width = self.stem_width
        entrance = [
            vit_architecture.component_spec(
                RESNET_ROOT, "ResNetRoot", {"width": width}
            )
        ]
        for stage, num_units in enumerate(self.units):
            for unit in range(num_units):
                sizes = {
                    "input_width": width,
                    "features": self.stem_width * 2**stage,
                    "strides": 2 if stage and not unit else 1,
                }
                name = unit_name(stage + 1, unit + 1)
                entrance.append(
                    vit_architecture.component_spec(name, "ResNetUnit", sizes)
                )
                width = shapes.EXPANSION * sizes["features"]
        sizes = {
            "width": self.width,
            "patch_size": self.patch_size,
            "num_channels": width,
        }
        return [
            *entrance,
            vit_architecture.component_spec(
                vit_architecture.EMBEDDING, "FeatureEmbedding", sizes
            ),
        ]

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_json` is the inverse."""
        return {**super().to_json(), "units": list(self.units)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> HybridFamily:
        """Returns the family that `to_json` wrote."""
        return super().from_json({**value, "units": tuple(value["units"])})


def family_of(
    variant: variants.Variant,
    num_layers_max: int,
    representation_size: int = 0,
) -> vit_architecture.VitFamily:
    """Returns the family of a variant, plain or hybrid.

    Args:
      variant: see `variants.variant`.
      num_layers_max: the deepest path there can be.
      representation_size: features of the layer before the head; 0 without.
    """
    family_type = (
        vit_architecture.VitFamily if variant.units is None else HybridFamily
    )
    return family_type.of(variant, num_layers_max, representation_size)
