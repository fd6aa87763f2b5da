"""Describes paths through a cut Keras model as components.

Invariant: as of every family, a layout depends on its arguments alone. The
first block is the stem, which every path has; `num_layers` counts the blocks
after it. An adapter stands in front of a block and keeps its input's width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from collections.abc import Set
from typing import Any
from typing import ClassVar

import numpy as np

from keras_munet import errors
from keras_munet.core import architecture
from keras_munet.core import json_fields
from keras_munet.core import specs
from keras_munet.models.keras_blocks import initializers
from keras_munet.models.vit import shapes

ADAPTER_PREFIX = "residual_adapter_"
HEAD = "head"
BLOCK_LAYER = "KerasBlock"
ADAPTER_LAYER = "PointwiseAdapter"
HEAD_LAYER = "PooledHead"
# As the image size of a model that takes any.
ANY_SIZE = 0


@architecture.FAMILIES.register("keras")
@dataclasses.dataclass(frozen=True)
class KerasFamily:
    """Every path that one cut Keras model can give rise to.

    Attributes:
      blocks: the records of all blocks, the stem first.
      widths: features that each block gives, the last axis of its output.
      num_layers_max: the deepest path there can be, less the stem.
      image_size: side of the images, pixels, where a layer fixes it, else
        `ANY_SIZE`.
    """

    name: ClassVar[str] = "keras"

    blocks: tuple[specs.ComponentSpec, ...]
    widths: tuple[int, ...]
    num_layers_max: int
    image_size: int = ANY_SIZE

    def layout(
        self,
        hparams: specs.Hparams,
        num_classes: int,
        adapters: Set[int] = frozenset(),
    ) -> tuple[specs.ComponentSpec, ...]:
        """Returns the components of a path, input first.

        Args:
          hparams: reads `num_layers` and `ds_image_size` (pixels), and
            `adapter_dim` where there is an adapter.
          num_classes: width of the head.
          adapters: the blocks after the stem with an adapter in front, from
            0; those above `num_layers` are dropped.

        Raises:
          UsageError: a depth or an image size that this family cannot have.
        """
        num_layers = hparams["num_layers"]
        self._check(num_layers, hparams["ds_image_size"])
        layout = [self.blocks[0]]
        for i in range(num_layers):
            if i in adapters:
                sizes = {
                    "width": self.widths[i],
                    "hidden_dim": hparams["adapter_dim"],
                }
                layout.append(
                    specs.ComponentSpec(
                        f"{ADAPTER_PREFIX}{i}",
                        ADAPTER_LAYER,
                        sizes,
                        shapes.weights("ResidualAdapter", sizes),
                    )
                )
            layout.append(self.blocks[i + 1])
        sizes = {"width": self.widths[num_layers], "num_classes": num_classes}
        weights = shapes.weights("Head", sizes)
        layout.append(specs.ComponentSpec(HEAD, HEAD_LAYER, sizes, weights))
        return tuple(layout)

    def can_resample(self, spec: specs.ComponentSpec) -> bool:
        """Returns False: no block depends on the image size."""
        del spec
        return False

    def initial(
        self, spec: specs.ComponentSpec, rng: np.random.Generator
    ) -> specs.Component:
        """Returns a component with fresh values drawn from `rng`."""
        return initializers.initial_component(spec, rng)

    def resample(
        self, component: specs.Component, spec: specs.ComponentSpec
    ) -> specs.Component:
        """Raises UsageError: nothing of this family can be resampled."""
        raise errors.UsageError(
            f"cannot resample {component.spec.name!r} to {spec.name!r}; no "
            "block of a Keras model can be"
        )

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_json` is the inverse."""
        return {
            "family": self.name,
            "blocks": [spec.to_json() for spec in self.blocks],
            "widths": list(self.widths),
            "num_layers_max": self.num_layers_max,
            "image_size": self.image_size,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> KerasFamily:
        """Returns the family that `to_json` wrote."""
        return cls(
            blocks=tuple(map(specs.ComponentSpec.from_json, value["blocks"])),
            widths=tuple(value["widths"]),
            num_layers_max=value["num_layers_max"],
            image_size=value["image_size"],
        )

    def _check(self, num_layers: Any, image_size: Any) -> None:
        if (
            not json_fields.is_whole(num_layers)
            or not 0 <= num_layers <= self.num_layers_max
        ):
            raise errors.UsageError(
                f"num_layers is {num_layers!r}; this root allows 0 to "
                f"{self.num_layers_max} blocks after the first"
            )
        allowed = self.image_size in (ANY_SIZE, image_size)
        if not json_fields.is_whole(image_size, least=1) or not allowed:
            expected = self.image_size or "a positive number of"
            raise errors.UsageError(
                f"ds_image_size is {image_size!r}; this root takes {expected} "
                "pixels"
            )
