"""The layers that a generation borrows, however its steps are computed.

Invariant: a component that children share frozen is one layer of all of them.
"""

from __future__ import annotations

import tensorflow as tf

from keras_munet.graph import builder
from keras_munet.train import slots as slots_lib
from keras_munet.train import structures


class Borrowed:
    """The slots of a generation's children.

    Attributes:
      slots: of each child, input first.
      image_size: side of the input, pixels.
    """

    def __init__(
        self,
        structure: structures.Structure,
        pool: slots_lib.SlotPool,
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
        with strategy.scope():
            self.slots = [
                [pool.get(role, spec, n) for role, spec, n in chain]
                for chain in structure.chains
            ]
        self._layers = [[slot.layer for slot in chain] for chain in self.slots]
        for chain in self._layers:
            builder.check(chain, structure.image_size)
        self._trained = [
            [slot for slot in chain if slot.momentum is not None]
            for chain in self.slots
        ]

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
