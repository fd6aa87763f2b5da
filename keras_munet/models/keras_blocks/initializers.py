"""The values that a fresh component of a Keras model starts from, in NumPy.

Invariant: values depend on (spec, generator) alone. Adapters and heads start
like a ViT's. A block is drawn afresh only where no ancestor has it: kernels
by He et al. 2015 (normal, variance 2 / inputs), scales and variances 1, all
else 0.
"""

from __future__ import annotations

import math

import numpy as np

from keras_munet.core import specs
from keras_munet.models.vit import initializers as vit_initializers

# Kinds whose weights are those of a ViT's component.
_LIKE = {"PointwiseAdapter": "ResidualAdapter", "PooledHead": "Head"}
_ONES = ("gamma", "moving_variance", "scale")


def initial_component(
    spec: specs.ComponentSpec, rng: np.random.Generator
) -> specs.Component:
    """Returns a component of `spec` with freshly drawn values."""
    if spec.layer in _LIKE:
        vit_layer = _LIKE[spec.layer]
        values = {
            weight: vit_initializers.initial_value(
                vit_layer, weight, shape, rng
            )
            for weight, shape in spec.weights
        }
    else:
        values = {
            weight: initial_value(weight, shape, rng)
            for weight, shape in spec.weights
        }
    return specs.Component(spec, values)


def initial_value(
    weight: str, shape: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray:
    """Returns `shape` float32, the first value of one weight of a block."""
    if weight.endswith(_ONES):
        return np.ones(shape, np.float32)
    if len(shape) < 2:
        return np.zeros(shape, np.float32)
    # A depthwise kernel's third axis are groups, not inputs.
    depthwise = "depthwise" in weight and len(shape) == 4
    num_inputs = math.prod(shape[:2] if depthwise else shape[:-1])
    stddev = math.sqrt(2.0 / num_inputs)
    return (stddev * rng.standard_normal(shape)).astype(np.float32)
