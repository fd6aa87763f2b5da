"""The least work of one training step, in multiply-adds per image.

Invariant: counted is what cannot be left out. What children share frozen from
the input up is computed once; below a child's lowest trained component nothing
has a gradient, and that component's input neither; a frozen one has no
gradient of its weights; the top block computes the class token alone. Norms,
biases, activations and softmax are not counted (below 2% at Ti/16), and
neither is the optimizer.

`keras_munet.models.vit.flops` counts a path for people instead: every layer
in full, nothing shared.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from keras_munet.core import specs
from keras_munet.train import child_job


@dataclasses.dataclass(frozen=True)
class Products:
    """The products of one component, multiply-adds per image.

    Attributes:
      reading: of kernels with the component's input.
      inner: of its other kernels.
      attention: of two activations: both have gradients.
    """

    reading: int = 0
    inner: int = 0
    attention: int = 0

    @property
    def forward(self) -> int:
        """Multiply-adds of an evaluation."""
        return self.reading + self.inner + self.attention

    def backward(self, *, weights: bool, below: bool) -> int:
        """Returns the multiply-adds of the gradients.

        Args:
          weights: whether the component is trained.
          below: whether something below it is.
        """
        if not (weights or below):
            return 0
        total = self.inner + 2 * self.attention
        if below:
            total += self.reading
        if weights:
            total += self.reading + self.inner
        return total


def of_generation(children: Iterable[child_job.ChildJob]) -> int:
    """Returns the multiply-adds of a step that trains `children` together."""
    done: set[tuple[str, ...]] = set()
    total = 0
    for child in children:
        costs = of_path([part.spec for part in child.components])
        prefix: tuple[str, ...] | None = ()
        below = False
        for part, cost in zip(child.components, costs, strict=True):
            shares = prefix is not None and part.shared_id is not None
            prefix = (*prefix, part.shared_id) if shares else None
            if prefix is None or prefix not in done:
                total += cost.forward
            if prefix is not None:
                done.add(prefix)
            total += cost.backward(weights=part.trainable, below=below)
            below = below or part.trainable
    return total


def of_path(
    layout: list[specs.ComponentSpec], *, class_token_only: bool = True
) -> list[Products]:
    """Returns the products of each component of a ViT path, input first.

    Args:
      layout: its components, input first.
      class_token_only: whether the top block leaves out what the head does
        not read.
    """
    num_tokens = next(
        spec.config["num_tokens"]
        for spec in layout
        if spec.layer == "PositionEmbedding"
    )
    blocks = [i for i, spec in enumerate(layout) if _is_block(spec)]
    top = blocks[-1] if blocks and class_token_only else None
    return [
        _products(spec, num_tokens, 1 if i == top else num_tokens)
        for i, spec in enumerate(layout)
    ]


def _is_block(spec: specs.ComponentSpec) -> bool:
    return spec.layer == "EncoderBlock"


def _products(
    spec: specs.ComponentSpec, num_tokens: int, num_read: int
) -> Products:
    """Returns the products of a component of which `num_read` tokens count."""
    kernels = {
        name: math.prod(shape)
        for name, shape in spec.weights
        if name.endswith("kernel")
    }
    if _is_block(spec):
        both = kernels["key_kernel"] + kernels["value_kernel"]
        inner = sum(
            kernels[name]
            for name in ("out_kernel", "mlp_0_kernel", "mlp_1_kernel")
        )
        return Products(
            reading=num_read * kernels["query_kernel"] + num_tokens * both,
            inner=num_read * inner,
            attention=2 * num_read * num_tokens * spec.config["width"],
        )
    if spec.layer == "ResidualAdapter":
        return Products(
            reading=num_tokens * kernels["dense_0_kernel"],
            inner=num_tokens * kernels["dense_1_kernel"],
        )
    num_positions = num_tokens - 1 if spec.layer == "PatchEmbedding" else 1
    return Products(reading=num_positions * sum(kernels.values()))
