"""A root: the first path's components and what they belong to.

Invariant: a root's components are its family's layout for its own
hyperparameters, in order; a random root depends on its arguments alone.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_munet import errors
from keras_munet.core import architecture
from keras_munet.core import seeds
from keras_munet.core import specs
from keras_munet.models.vit import hybrid
from keras_munet.models.vit import variants

# A root solves no task: no path ever takes over its head. Two classes are
# what the published parameter counts have.
NUM_CLASSES = 2
# The largest published ViT that a name stands for has 632 million.
NUM_PARAMS_MAX = 2**30


@dataclasses.dataclass(frozen=True)
class Root:
    """Components that every later path may start from.

    Attributes:
      family: the shape of every path that can come from it.
      components: embedding to head.
      hparams: `num_layers` and `ds_image_size` (pixels).
      source: where the values come from, for people to read.

    Example:
      >>> root = random("mu", num_layers=2, image_size=16)
      >>> root.components[-1].spec.name, root.source
      ('head', 'random mu/8 seed 0')
    """

    family: architecture.Family
    components: tuple[specs.Component, ...]
    hparams: dict[str, Any]
    source: str

    @property
    def num_params(self) -> int:
        """Parameters of all components."""
        return sum(c.spec.num_params for c in self.components)


def random(
    variant: str,
    *,
    num_layers: int | None = None,
    num_layers_max: int | None = None,
    image_size: int = 32,
    num_classes: int = NUM_CLASSES,
    representation_size: int = 0,
    seed: int = 0,
) -> Root:
    """Returns a root of freshly drawn values.

    Each component has a generator of its own, so that a root of fewer layers
    is the beginning of a deeper one.

    Args:
      variant: the ViT's name, e.g. `Ti/16` or `R26+S/32`.
      num_layers: blocks of the root; None for the variant's own number.
      num_layers_max: the deepest path; None for the root's own depth.
      image_size: side of the square input, pixels.
      num_classes: width of the head.
      representation_size: features of the layer before the head; 0 without.
      seed: of the values.

    Raises:
      UsageError: an unknown variant, or a size that it cannot have.
    """
    vit_variant = variants.variant(variant)
    depth = vit_variant.num_layers if num_layers is None else num_layers
    deepest = depth if num_layers_max is None else num_layers_max
    family = hybrid.family_of(vit_variant, deepest, representation_size)
    hparams = {"num_layers": depth, "ds_image_size": image_size}
    layout = family.layout(hparams, num_classes)
    num_params = sum(spec.num_params for spec in layout)
    if num_params > NUM_PARAMS_MAX:
        raise errors.UsageError(
            f"a random root {vit_variant.name} of {depth} layers for images of "
            f"{image_size} pixels has {num_params} parameters; at most "
            f"{NUM_PARAMS_MAX} are allowed: take fewer layers or a smaller "
            "variant"
        )
    components = tuple(
        family.initial(spec, seeds.generator(seed, "root", spec.name))
        for spec in layout
    )
    return Root(
        family, components, hparams, f"random {vit_variant.name} seed {seed}"
    )
