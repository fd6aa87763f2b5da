"""The layers that a generation borrows, however its steps are computed.

Invariant: a component that children share frozen is one layer of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence

import tensorflow as tf

from keras_munet.models import path_model
from keras_munet.models.vit import functions
from keras_munet.train import generation_structure
from keras_munet.train import layer_pool


class GenerationBase:
    """The slots of a generation's children.

    Attributes:
      slots: of each child, input first.
      image_size: side of the input, pixels.
      antialias: see `preprocessing.evaluation_images`.
      image: both.
    """

    def __init__(
        self,
        structure: generation_structure.GenerationStructure,
        pool: layer_pool.LayerPool,
        strategy: tf.distribute.Strategy,
    ):
        """Takes the layers that a structure says.

        Args:
          structure: which layers each child has.
          pool: lends them.
          strategy: where steps run.

        Raises:
          UsageError: layers of a child do not fit together.
        """
        self.image_size = structure.image_size
        self.antialias = structure.antialias
        self.label_smoothing = structure.label_smoothing
        self.class_weights = structure.class_weights
        self.image = structure.image_size, structure.antialias
        with strategy.scope():
            self.slots = [
                [pool.get(role, spec, n) for role, spec, n in chain]
                for chain in structure.chains
            ]
        self._layers = [[slot.layer for slot in chain] for chain in self.slots]
        for chain in self._layers:
            path_model.check_layers(chain, structure.image_size)
        self._trained = [
            [slot for slot in chain if slot.momentum is not None]
            for chain in self.slots
        ]

    @property
    def gradients(self) -> list[list[str]]:
        """Of each child what a training step needs of each layer.

        See `functions.noinline`; no gradient passes its lowest trained one.
        """
        return [list(_gradients(chain)) for chain in self.slots]

    @property
    def num_children(self) -> int:
        """Of the generation."""
        return len(self.slots)

    def contract(self) -> None:
        """Gives every layer the weights that its factors stand for.

        What is counted and what a snapshot takes are these weights.
        """
        for child in self._trained:
            for slot in child:
                slot.contract()


def _gradients(chain: Sequence[layer_pool.PooledLayer]) -> Iterator[str]:
    below = True
    for slot in chain:
        if slot.momentum is None:
            yield functions.INPUT_ONLY
        else:
            yield functions.WEIGHTS_ONLY if below else functions.ALL
            below = False
