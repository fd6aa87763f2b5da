"""The weights that each kind of component has: names and shapes.

Invariant: the family's records and the live layers both read this table, so
that a layer's variables always have the order of its record. Shapes are those
of the published AugReg checkpoints; kernels keep their heads apart.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from keras_munet import errors

NUM_CHANNELS = 3
# Of every group norm of a hybrid's ResNet.
NUM_GROUPS = 32
# A bottleneck unit's output is so many times as wide as its inside.
EXPANSION = 4
_ROOT_SIDE = 7
_UNIT_SIDE = 3

Weights = tuple[tuple[str, tuple[int, ...]], ...]


def _patch_embedding(
    *, width: int, patch_size: int, num_channels: int = NUM_CHANNELS
) -> Weights:
    return (
        ("kernel", (patch_size, patch_size, num_channels, width)),
        ("bias", (width,)),
    )


def _resnet_root(*, width: int) -> Weights:
    _check_groups(width)
    return (
        ("conv_kernel", (_ROOT_SIDE, _ROOT_SIDE, NUM_CHANNELS, width)),
        ("norm_scale", (width,)),
        ("norm_bias", (width,)),
    )


def _resnet_unit(*, input_width: int, features: int, strides: int) -> Weights:
    _check_groups(features)
    outside = EXPANSION * features
    convolutions = {
        "1": (1, 1, input_width, features),
        "2": (_UNIT_SIDE, _UNIT_SIDE, features, features),
        "3": (1, 1, features, outside),
    }
    # Where the input cannot be added to the output as it is.
    if strides > 1 or input_width != outside:
        convolutions["_proj"] = (1, 1, input_width, outside)
    shapes: list[tuple[str, tuple[int, ...]]] = []
    for name, shape in convolutions.items():
        shapes += [
            (f"conv{name}_kernel", shape),
            (f"gn{name}_scale", shape[-1:]),
            (f"gn{name}_bias", shape[-1:]),
        ]
    return tuple(shapes)


def _check_groups(width: int) -> None:
    if width % NUM_GROUPS:
        raise errors.UsageError(
            f"a ResNet of width {width} has no {NUM_GROUPS} equal groups of "
            f"features to normalise; use a multiple of {NUM_GROUPS}"
        )


def _class_token(*, width: int) -> Weights:
    return (("token", (1, 1, width)),)


def _position_embedding(*, width: int, num_tokens: int) -> Weights:
    return (("pos_embedding", (1, num_tokens, width)),)


def _residual_adapter(*, width: int, hidden_dim: int) -> Weights:
    return (
        ("norm_scale", (width,)),
        ("norm_bias", (width,)),
        ("dense_0_kernel", (width, hidden_dim)),
        ("dense_0_bias", (hidden_dim,)),
        ("dense_1_kernel", (hidden_dim, width)),
        ("dense_1_bias", (width,)),
    )


def _encoder_block(*, width: int, num_heads: int, mlp_dim: int) -> Weights:
    if num_heads < 1 or width % num_heads:
        raise errors.UsageError(
            f"{num_heads} heads do not divide a width of {width}; choose a "
            "number of heads that does"
        )
    head_dim = width // num_heads
    return (
        ("norm_0_scale", (width,)),
        ("norm_0_bias", (width,)),
        ("query_kernel", (width, num_heads, head_dim)),
        ("query_bias", (num_heads, head_dim)),
        ("key_kernel", (width, num_heads, head_dim)),
        ("key_bias", (num_heads, head_dim)),
        ("value_kernel", (width, num_heads, head_dim)),
        ("value_bias", (num_heads, head_dim)),
        ("out_kernel", (num_heads, head_dim, width)),
        ("out_bias", (width,)),
        ("norm_1_scale", (width,)),
        ("norm_1_bias", (width,)),
        ("mlp_0_kernel", (width, mlp_dim)),
        ("mlp_0_bias", (mlp_dim,)),
        ("mlp_1_kernel", (mlp_dim, width)),
        ("mlp_1_bias", (width,)),
    )


def _encoder_norm(*, width: int) -> Weights:
    return (("scale", (width,)), ("bias", (width,)))


def _pre_logits(*, width: int, representation_size: int) -> Weights:
    return (
        ("kernel", (width, representation_size)),
        ("bias", (representation_size,)),
    )


def _head(*, width: int, num_classes: int) -> Weights:
    return (("kernel", (width, num_classes)), ("bias", (num_classes,)))


_KINDS: Mapping[str, Callable[..., Weights]] = {
    "PatchEmbedding": _patch_embedding,
    "FeatureEmbedding": _patch_embedding,
    "ResNetRoot": _resnet_root,
    "ResNetUnit": _resnet_unit,
    "ClassToken": _class_token,
    "PositionEmbedding": _position_embedding,
    "ResidualAdapter": _residual_adapter,
    "EncoderBlock": _encoder_block,
    "EncoderNorm": _encoder_norm,
    "PreLogits": _pre_logits,
    "Head": _head,
}


def weights(layer: str, config: Mapping[str, Any]) -> Weights:
    """Returns (weight name, shape) in the order of the layer's variables.

    Args:
      layer: the registered name of the layer's class.
      config: its sizes.

    Raises:
      UsageError: no such kind, or a size that cannot be.
    """
    if layer not in _KINDS:
        raise errors.UsageError(
            f"unknown ViT layer {layer!r}; there are: {', '.join(_KINDS)}"
        )
    for key, size in config.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise errors.UsageError(
                f"{layer}'s {key} is {size!r}; it must be a whole number from 1"
            )
    return _KINDS[layer](**config)
