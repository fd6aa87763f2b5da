"""The kinds of ViT component as Keras layers (section 1).

Invariant: a path is a plain chain of these layers, images in and logits out:
`[b, side, side, 3]` -> a hybrid's ResNet (`resnet_layers`) -> embedding ->
`[b, n, width]` -> cls -> `[b, n + 1, width]` -> posembed_input -> adapters and
blocks -> encoder_norm -> pre_logits, where there is one -> head ->
`[b, classes]` float32. Importing this module registers them all.
"""

from __future__ import annotations

from typing import Any
from typing import ClassVar

import keras

from keras_munet import errors
from keras_munet.core import registry
from keras_munet.models.vit import base
from keras_munet.models.vit import functions
from keras_munet.models.vit import operations
from keras_munet.models.vit import resnet_layers as _resnet  # noqa: F401  registers
from keras_munet.models.vit import shapes

_serializable = keras.saving.register_keras_serializable(package="keras_munet")


@_serializable
@registry.LAYERS.register("PatchEmbedding")
class PatchEmbedding(base.VitLayer):
    """Cuts images into square patches and projects each to one token."""

    size_names: ClassVar[tuple[str, ...]] = ("width", "patch_size")
    has_products = True
    function = functions.patch_embedding

    def __init__(self, width: int, patch_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = width
        self.patch_size = patch_size

    @property
    def input_width(self) -> int:
        """The channels of an image."""
        return shapes.NUM_CHANNELS

    def compute_output_shape(self, input_shape: base.Shape) -> base.Shape:
        """Returns `(batch, patches, width)`.

        Raises:
          UsageError: a side is not a multiple of the patch.
        """
        batch, *sides, _ = input_shape
        if any(s is not None and s % self.patch_size for s in sides):
            raise errors.UsageError(
                f"an image of {sides[0]} x {sides[1]} pixels has no whole "
                f"number of patches; use multiples of {self.patch_size}"
            )
        num_patches = 1
        for side in sides:
            if side is None:
                return (batch, None, self.width)
            num_patches *= side // self.patch_size
        return (batch, num_patches, self.width)


@_serializable
@registry.LAYERS.register("FeatureEmbedding")
class FeatureEmbedding(PatchEmbedding):
    """Cuts a ResNet's features into square patches, each to one token."""

    size_names = ("width", "patch_size", "num_channels")

    def __init__(
        self, width: int, patch_size: int, num_channels: int, **kwargs: Any
    ):
        super().__init__(width, patch_size, **kwargs)
        self.num_channels = num_channels

    @property
    def input_width(self) -> int:
        """The features of a position."""
        return self.num_channels


@_serializable
@registry.LAYERS.register("ClassToken")
class ClassToken(base.VitLayer):
    """Puts a learned token in front of the patches."""

    size_names = ("width",)
    function = functions.class_token

    def __init__(self, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = width

    def compute_output_shape(self, input_shape: base.Shape) -> base.Shape:
        """Returns `(batch, 1 + tokens, width)`."""
        batch, num_tokens, width = input_shape
        return (batch, None if num_tokens is None else num_tokens + 1, width)


@_serializable
@registry.LAYERS.register("PositionEmbedding")
class PositionEmbedding(base.VitLayer):
    """Adds a learned vector per position."""

    size_names = ("width", "num_tokens")
    function = functions.position_embedding

    def __init__(self, width: int, num_tokens: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = width
        self.num_tokens = num_tokens

    def compute_output_shape(self, input_shape: base.Shape) -> base.Shape:
        """Returns the input's shape.

        Raises:
          UsageError: the input has another number of tokens.
        """
        if input_shape[1] not in (None, self.num_tokens):
            raise errors.UsageError(
                f"{self.name!r} has positions for {self.num_tokens} tokens "
                f"and got {input_shape[1]}; resample it to the image size"
            )
        return (input_shape[0], self.num_tokens, input_shape[2])


@_serializable
@registry.LAYERS.register("ResidualAdapter")
class ResidualAdapter(base.VitLayer):
    """Adds a small MLP's output; a fresh one changes nothing."""

    size_names = ("width", "hidden_dim")
    has_products = True
    function = functions.residual_adapter

    def __init__(self, width: int, hidden_dim: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = width
        self.hidden_dim = hidden_dim


@_serializable
@registry.LAYERS.register("EncoderBlock")
class EncoderBlock(base.ClassTokenOption):
    """Self-attention and an MLP, each behind a norm and added to its input."""

    size_names = ("width", "num_heads", "mlp_dim")
    option_names = ("exact_gelu", "norm_epsilon")
    has_products = True
    mixes_tokens = True
    function = functions.encoder_block

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_dim: int,
        exact_gelu: bool = False,
        norm_epsilon: float = operations.LAYER_NORM_EPSILON,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.width = width
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.exact_gelu = exact_gelu
        self.norm_epsilon = norm_epsilon

    def num_kept(self, input_shape: base.Shape, **options: bool) -> int:
        """Returns how many numbers a training step keeps for each example.

        Of every token: both norms (before and after scaling), query, key,
        value and what was read, each a width; four sides of the MLP's hidden
        layer; and the shares of attention.
        """
        num_tokens = input_shape[1] or 1
        class_token_only = options.get("class_token_only", False)
        num_read = 1 if class_token_only else num_tokens
        rows = num_read * (8 * self.width + 4 * self.mlp_dim)
        below = 2 * self.width * num_tokens if class_token_only else 0
        return rows + below + self.num_heads * num_read * num_tokens


@_serializable
@registry.LAYERS.register("EncoderNorm")
class EncoderNorm(base.ClassTokenOption):
    """The norm between the last block and the head."""

    size_names = ("width",)
    option_names = ("norm_epsilon",)
    function = functions.encoder_norm

    def __init__(
        self,
        width: int,
        norm_epsilon: float = operations.LAYER_NORM_EPSILON,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.width = width
        self.norm_epsilon = norm_epsilon


@_serializable
@registry.LAYERS.register("PreLogits")
class PreLogits(base.VitLayer):
    """A dense layer and tanh on the class token, before the head."""

    size_names = ("width", "representation_size")
    function = functions.pre_logits

    def __init__(self, width: int, representation_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = width
        self.representation_size = representation_size

    def compute_output_shape(self, input_shape: base.Shape) -> base.Shape:
        """Returns `(batch, 1, representation_size)`."""
        return (input_shape[0], 1, self.representation_size)


@_serializable
@registry.LAYERS.register("Head")
class Head(base.VitLayer):
    """Reads the class token and gives one float32 logit per class."""

    size_names = ("width", "num_classes")
    function = functions.head

    def __init__(self, width: int, num_classes: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = width
        self.num_classes = num_classes

    def compute_output_shape(self, input_shape: base.Shape) -> base.Shape:
        """Returns `(batch, classes)`."""
        return (input_shape[0], self.num_classes)

    def compute_output_spec(
        self, x: keras.KerasTensor, **options: bool
    ) -> keras.KerasTensor:
        """Returns `(batch, classes)` float32, for any compute dtype."""
        shape = self.compute_output_shape(x.shape, **options)
        return keras.KerasTensor(shape, dtype="float32")
