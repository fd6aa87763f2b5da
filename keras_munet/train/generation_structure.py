"""Identifies the graph of children that are trained together.

Invariant: children whose layers are the same in kind and sharing have equal
structures, for any weights and hyperparameters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from keras_munet.core import specs
from keras_munet.train import child_job
from keras_munet.train import layer_pool


@dataclasses.dataclass(frozen=True)
class GenerationStructure:
    """The layers of each child; equal structures share a graph.

    Attributes:
      chains: per child, (role, spec, count) of each component.
      image_size: side of the input, pixels.
      antialias: see `preprocessing.evaluation_images`.
      label_smoothing: per child; see `losses.cross_entropy`.
      class_weights: of the task; see `losses.cross_entropy`.
    """

    chains: tuple[tuple[tuple[str, specs.ComponentSpec, int], ...], ...]
    image_size: int
    antialias: bool = False
    label_smoothing: tuple[float, ...] = ()
    class_weights: tuple[float, ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        """Hashable; equal for structures that can share a compiled step."""
        return (
            self.image_size,
            self.antialias,
            self.label_smoothing,
            self.class_weights,
            tuple(
                tuple(
                    (role, spec.spec_id, count) for role, spec, count in chain
                )
                for chain in self.chains
            ),
        )


def structure_of(
    children: Sequence[child_job.ChildJob],
    image_size: int,
    antialias: bool = False,
    class_weights: tuple[float, ...] = (),
) -> GenerationStructure:
    """Returns the structure of children that are trained together."""
    counts: dict[tuple[str, str], int] = {}
    shared: dict[str, tuple[str, specs.ComponentSpec, int]] = {}

    def next_use(role: str, spec: specs.ComponentSpec):
        count = counts.get((role, spec.spec_id), 0)
        counts[role, spec.spec_id] = count + 1
        return role, spec, count

    chains = []
    for child in children:
        chain = []
        for part in child.components:
            if part.trainable:
                role = layer_pool.trained_role(
                    part.factor_depth, child.uses_adamw
                )
                chain.append(next_use(role, part.spec))
            elif part.shared_id is None:
                chain.append(next_use(layer_pool.FROZEN, part.spec))
            else:
                if part.shared_id not in shared:
                    shared[part.shared_id] = next_use(
                        layer_pool.FROZEN, part.spec
                    )
                chain.append(shared[part.shared_id])
        chains.append(tuple(chain))
    smoothing = tuple(child.label_smoothing for child in children)
    return GenerationStructure(
        tuple(chains), image_size, antialias, smoothing, class_weights
    )
