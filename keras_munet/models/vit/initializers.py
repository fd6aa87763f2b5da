"""The values that a ViT's weights start from, in NumPy.

Invariant: values depend on (layer kind, weight name, shape, generator) alone.
They are the published Flax ViT's: Xavier-uniform products, LeCun-normal patch
kernel and convolutions, zero head, and a ResNet unit that adds nothing at
first. An adapter's last kernel is zero, so that a new adapter
changes nothing at first (section 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from keras_munet import errors
from keras_munet.core import specs

_Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

_MLP_BIAS_STDDEV = 1e-6
_POSITION_STDDEV = 0.02
_TRUNCATED_AT = 2.0
# The standard deviation of a unit normal that is cut at two.
_TRUNCATED_STDDEV = 0.87962566103423978


def _zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    del rng
    return np.zeros(shape, np.float32)


def _ones(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    del rng
    return np.ones(shape, np.float32)


def _normal(stddev: float) -> _Draw:
    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return (rng.standard_normal(shape) * stddev).astype(np.float32)

    return draw


def _xavier_uniform(num_out_axes: int) -> _Draw:
    """Returns Xavier's draw for a kernel whose last axes are its outputs.

    The kernel counts as the matrix that it is used as: `[width, heads, dim]`
    has `width` inputs and `heads * dim` outputs.
    """

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        fan_in = math.prod(shape[:-num_out_axes])
        fan_out = math.prod(shape[-num_out_axes:])
        limit = math.sqrt(6.0 / (fan_in + fan_out))
        return rng.uniform(-limit, limit, shape).astype(np.float32)

    return draw


def _lecun_normal(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> np.ndarray:
    stddev = math.sqrt(1.0 / math.prod(shape[:-1])) / _TRUNCATED_STDDEV
    values = rng.standard_normal(shape)
    outside = np.abs(values) > _TRUNCATED_AT
    while outside.any():
        values[outside] = rng.standard_normal(int(outside.sum()))
        outside = np.abs(values) > _TRUNCATED_AT
    return (values * stddev).astype(np.float32)


_HEADS_OUT = _xavier_uniform(num_out_axes=2)
_MATRIX = _xavier_uniform(num_out_axes=1)
_MLP_BIAS = _normal(_MLP_BIAS_STDDEV)
_DRAWS: dict[tuple[str, str], _Draw] = {
    ("PatchEmbedding", "kernel"): _lecun_normal,
    ("PatchEmbedding", "bias"): _zeros,
    ("ClassToken", "token"): _zeros,
    ("PositionEmbedding", "pos_embedding"): _normal(_POSITION_STDDEV),
    ("ResidualAdapter", "norm_scale"): _ones,
    ("ResidualAdapter", "norm_bias"): _zeros,
    ("ResidualAdapter", "dense_0_kernel"): _lecun_normal,
    ("ResidualAdapter", "dense_0_bias"): _zeros,
    ("ResidualAdapter", "dense_1_kernel"): _zeros,
    ("ResidualAdapter", "dense_1_bias"): _zeros,
    ("EncoderBlock", "norm_0_scale"): _ones,
    ("EncoderBlock", "norm_0_bias"): _zeros,
    ("EncoderBlock", "query_kernel"): _HEADS_OUT,
    ("EncoderBlock", "query_bias"): _zeros,
    ("EncoderBlock", "key_kernel"): _HEADS_OUT,
    ("EncoderBlock", "key_bias"): _zeros,
    ("EncoderBlock", "value_kernel"): _HEADS_OUT,
    ("EncoderBlock", "value_bias"): _zeros,
    ("EncoderBlock", "out_kernel"): _MATRIX,
    ("EncoderBlock", "out_bias"): _zeros,
    ("EncoderBlock", "norm_1_scale"): _ones,
    ("EncoderBlock", "norm_1_bias"): _zeros,
    ("EncoderBlock", "mlp_0_kernel"): _MATRIX,
    ("EncoderBlock", "mlp_0_bias"): _MLP_BIAS,
    ("EncoderBlock", "mlp_1_kernel"): _MATRIX,
    ("EncoderBlock", "mlp_1_bias"): _MLP_BIAS,
    ("EncoderNorm", "scale"): _ones,
    ("EncoderNorm", "bias"): _zeros,
    ("PreLogits", "kernel"): _lecun_normal,
    ("PreLogits", "bias"): _zeros,
    ("Head", "kernel"): _zeros,
    ("Head", "bias"): _zeros,
    ("FeatureEmbedding", "kernel"): _lecun_normal,
    ("FeatureEmbedding", "bias"): _zeros,
    ("ResNetRoot", "conv_kernel"): _lecun_normal,
    ("ResNetRoot", "norm_scale"): _ones,
    ("ResNetRoot", "norm_bias"): _zeros,
    **{
        ("ResNetUnit", f"{part}_{weight}"): draw
        for name in ("1", "2", "3", "_proj")
        for part, weight, draw in (
            (f"conv{name}", "kernel", _lecun_normal),
            (f"gn{name}", "scale", _zeros if name == "3" else _ones),
            (f"gn{name}", "bias", _zeros),
        )
    },
}


def initial_value(
    layer: str, weight: str, shape: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray:
    """Returns `shape` float32, the first value of one weight.

    Raises:
      UsageError: the layer has no weight of that name.
    """
    if (layer, weight) not in _DRAWS:
        raise errors.UsageError(
            f"no initial value is known for weight {weight!r} of layer "
            f"{layer!r}; use the layers and weights of "
            "keras_munet.models.vit.shapes"
        )
    return _DRAWS[layer, weight](rng, shape)


def initial_component(
    spec: specs.ComponentSpec, rng: np.random.Generator
) -> specs.Component:
    """Returns a component of `spec` with freshly drawn values."""
    values = {
        weight: initial_value(spec.layer, weight, shape, rng)
        for weight, shape in spec.weights
    }
    return specs.Component(spec, values)
