"""Counts the multiply-adds of running and of training a path.

Invariant: a count follows from the records alone, never from a clock, so that
equal paths cost the same on every machine.

Counted are the products of kernels and of attention; norms, biases,
activations and softmax are not (below 2% at the published widths). A layer
counts in full even where the program leaves out what the head does not read,
or computes once what several children share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from collections.abc import Set

from keras_munet.core import specs


def forward_costs(layout: Sequence[specs.ComponentSpec]) -> dict[str, int]:
    """Returns place -> multiply-adds of one image.

    A kernel costs its size at each position that it is applied to: every
    position of its output for a ResNet's convolution, every patch for the
    embedding, the class token from the last norm on, every token elsewhere. A
    block's two attention products cost 2 * tokens^2 * width.

    Args:
      layout: the components of a path, input first.
    """
    num_tokens = _num_tokens(layout)
    costs = {spec.name: _forward(spec, num_tokens) for spec in layout}
    return {**costs, **_resnet(layout, math.isqrt(num_tokens - 1))}


def training_cost(
    layout: Sequence[specs.ComponentSpec], trained: Set[str]
) -> int:
    """Returns the multiply-adds of one training example.

    Forward once through everything; backward costs a trained component twice
    its forward (gradients of weights and of inputs), a frozen one that stands
    above a trained one once, and a frozen one below nothing.

    Args:
      layout: the components of a path, input first.
      trained: the places that are trained.
    """
    total, is_above = 0, False
    for component, cost in forward_costs(layout).items():
        is_above = is_above or component in trained
        total += cost * (3 if component in trained else 2 if is_above else 1)
    return total


def _forward(spec: specs.ComponentSpec, num_tokens: int) -> int:
    num_positions = {
        "PatchEmbedding": num_tokens - 1,
        "FeatureEmbedding": num_tokens - 1,
        "PreLogits": 1,
        "Head": 1,
    }
    cost = num_positions.get(spec.layer, num_tokens) * sum(
        math.prod(shape)
        for name, shape in spec.weights
        if name.endswith("kernel")
    )
    if spec.layer == "EncoderBlock":
        cost += 2 * num_tokens**2 * spec.config["width"]
    return cost


def _resnet(layout: Sequence[specs.ComponentSpec], grid: int) -> dict[str, int]:
    """Returns place -> multiply-adds of each component of a ResNet.

    Args:
      layout: the components of a path, input first.
      grid: patches along one side.
    """
    costs, side = {}, 0
    # The image's side is not recorded; each side below the tokens' is.
    for spec in reversed(layout):
        if spec.layer == "FeatureEmbedding":
            side = grid * spec.config["patch_size"]
        kernels = {
            name: math.prod(shape)
            for name, shape in spec.weights
            if name.endswith("kernel")
        }
        if spec.layer == "ResNetUnit":
            inside = kernels.pop("conv1_kernel")
            costs[spec.name] = sum(kernels.values()) * side**2
            side *= spec.config["strides"]
            costs[spec.name] += inside * side**2
        if spec.layer == "ResNetRoot":
            # Before the pooling, which halves the sides.
            costs[spec.name] = sum(kernels.values()) * (2 * side) ** 2
    return costs


def _num_tokens(layout: Sequence[specs.ComponentSpec]) -> int:
    """Returns patches and class token, as the position embedding has them."""
    return next(
        spec.config["num_tokens"]
        for spec in layout
        if spec.layer == "PositionEmbedding"
    )
