"""Describes paths of a Vision Transformer as components (section 1).

Invariant: a layout depends on its arguments alone, and equal places with
equal sizes have equal records, so that paths can exchange components.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from collections.abc import Set
from typing import Any
from typing import ClassVar
from typing import TypeVar

import numpy as np

from keras_munet import errors
from keras_munet.core import architecture
from keras_munet.core import json_fields
from keras_munet.core import specs
from keras_munet.models.vit import initializers
from keras_munet.models.vit import position_embedding
from keras_munet.models.vit import shapes
from keras_munet.models.vit import variants

EMBEDDING = "embedding"
CLASS_TOKEN = "cls"
POSITION_EMBEDDING = "posembed_input"
ADAPTER_PREFIX = "residual_adapter_"
BLOCK_PREFIX = "encoderblock_"
ENCODER_NORM = "encoder_norm"
PRE_LOGITS = "pre_logits"
HEAD = "head"
# Of 4096 pixels with patches of 16.
NUM_TOKENS_MAX = 65_536
# The published ViT's, which a record leaves out.
NORM_EPSILON = 1e-6
_Family = TypeVar("_Family", bound="VitFamily")


@architecture.FAMILIES.register("vit")
@dataclasses.dataclass(frozen=True)
class VitFamily:
    """Every path that one ViT root can give rise to.

    Attributes:
      width: features per token.
      num_heads: attention heads of a block.
      mlp_dim: hidden features of a block's MLP.
      patch_size: side of a square patch, pixels.
      num_layers_max: the deepest path there can be.
      representation_size: features of the layer before the head; 0 without.
      exact_gelu: GELU by the error function, not by tanh.
      norm_epsilon: what norms add to the variance.
    """

    name: ClassVar[str] = "vit"

    width: int
    num_heads: int
    mlp_dim: int
    patch_size: int
    num_layers_max: int
    representation_size: int = 0
    exact_gelu: bool = False
    norm_epsilon: float = NORM_EPSILON

    @classmethod
    def of(
        cls: type[_Family],
        variant: variants.Variant,
        num_layers_max: int,
        representation_size: int = 0,
    ) -> _Family:
        """Returns the family of `variant`, up to `num_layers_max` deep."""
        return cls(
            width=variant.width,
            num_heads=variant.num_heads,
            mlp_dim=variant.mlp_dim,
            patch_size=variant.patch_size,
            num_layers_max=num_layers_max,
            representation_size=representation_size,
        )

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
          adapters: the layers with a residual adapter in front; those above
            `num_layers` are dropped, as the method says.

        Raises:
          UsageError: a depth or an image size that this family cannot have.
        """
        num_layers = hparams["num_layers"]
        self._check_depth(num_layers)
        num_tokens = 1 + self.grid_size(hparams["ds_image_size"]) ** 2
        width = self.width
        block = {
            "width": width,
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
        }
        # Only what is not the published ViT's own: equal layers have equal
        # records, whichever version wrote them.
        norm = {}
        if self.norm_epsilon != NORM_EPSILON:
            norm["norm_epsilon"] = self.norm_epsilon
        options = {**norm, "exact_gelu": True} if self.exact_gelu else norm
        layout = [
            *self._entrance(),
            component_spec(CLASS_TOKEN, "ClassToken", {"width": width}),
            component_spec(
                POSITION_EMBEDDING,
                "PositionEmbedding",
                {"width": width, "num_tokens": num_tokens},
            ),
        ]
        for i in range(num_layers):
            if i in adapters:
                adapter = {"width": width, "hidden_dim": hparams["adapter_dim"]}
                name = f"{ADAPTER_PREFIX}{i}"
                layout.append(component_spec(name, "ResidualAdapter", adapter))
            name = f"{BLOCK_PREFIX}{i}"
            layout.append(component_spec(name, "EncoderBlock", block, options))
        layout.append(
            component_spec(ENCODER_NORM, "EncoderNorm", {"width": width}, norm)
        )
        if self.representation_size:
            sizes = {
                "width": width,
                "representation_size": self.representation_size,
            }
            layout.append(component_spec(PRE_LOGITS, "PreLogits", sizes))
            width = self.representation_size
        head = {"width": width, "num_classes": num_classes}
        layout.append(component_spec(HEAD, "Head", head))
        return tuple(layout)

    def grid_size(self, image_size: int) -> int:
        """Returns the patches along one side of an image of `image_size` px.

        Raises:
          UsageError: the size is not a positive multiple of the patch.
        """
        patch = self.token_side
        whole = json_fields.is_whole(image_size, least=patch)
        if not whole or image_size % patch:
            raise errors.UsageError(
                f"ds_image_size is {image_size!r}; it must be a multiple of "
                f"the patch size, {patch} pixels"
            )
        size = image_size // patch
        if size**2 > NUM_TOKENS_MAX:
            raise errors.UsageError(
                f"ds_image_size is {image_size}, which is {size**2} patches "
                f"of {patch} pixels; at most {NUM_TOKENS_MAX} are allowed: "
                "take smaller images or larger patches"
            )
        return size

    @property
    def token_side(self) -> int:
        """Side of the square of pixels that one token stands for."""
        return self.patch_size

    def _entrance(self) -> list[specs.ComponentSpec]:
        """Returns what makes tokens of images."""
        sizes = {"width": self.width, "patch_size": self.patch_size}
        return [component_spec(EMBEDDING, "PatchEmbedding", sizes)]

    def can_resample(self, spec: specs.ComponentSpec) -> bool:
        """Returns whether other shapes can be resampled to `spec`."""
        return spec.layer == "PositionEmbedding"

    def initial(
        self, spec: specs.ComponentSpec, rng: np.random.Generator
    ) -> specs.Component:
        """Returns a component with the initial values of the published ViT."""
        return initializers.initial_component(spec, rng)

    def resample(
        self, component: specs.Component, spec: specs.ComponentSpec
    ) -> specs.Component:
        """Returns `component` resampled to the shape of `spec`.

        Raises:
          UsageError: the two are not position embeddings of one width.
        """
        return position_embedding.resample_component(component, spec)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_json` is the inverse."""
        return {"family": self.name, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls: type[_Family], value: Mapping[str, Any]) -> _Family:
        """Returns the family that `to_json` wrote."""
        fields = [field.name for field in dataclasses.fields(cls)]
        # Records from before a field with a default lack it.
        return cls(**{key: value[key] for key in fields if key in value})

    def _check_depth(self, num_layers: Any) -> None:
        if (
            not json_fields.is_whole(num_layers)
            or not 0 <= num_layers <= self.num_layers_max
        ):
            raise errors.UsageError(
                f"num_layers is {num_layers!r}; this root allows 0 to "
                f"{self.num_layers_max}, so lower it or raise the range of "
                "num_layers"
            )


def component_spec(
    name: str,
    layer: str,
    sizes: dict[str, int],
    options: Mapping[str, Any] | None = None,
) -> specs.ComponentSpec:
    """Returns the record of a ViT layer with the weights of its sizes."""
    config = {**sizes, **(options or {})}
    return specs.ComponentSpec(
        name, layer, config, shapes.weights(layer, sizes)
    )
