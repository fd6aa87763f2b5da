"""A coordinator whose only worker is this process."""

from __future__ import annotations

import pytest
import tensorflow as tf

from keras_munet.train import child_job
from keras_munet.train.devices import cluster
from keras_munet.train.distributed import coordinator


class _Here:
    """Does at once what a coordinator would send away."""

    def schedule(self, function, args):
        done = [value.numpy() for value in tf.nest.flatten(function(*args))]
        values = tf.nest.pack_sequence_as(function.structured_outputs, done)

        class Fetched:
            def fetch(self):
                return values

        return Fetched()

    def done(self):
        return True


def trainer(
    class_weights: str = "none", quality: str = "accuracy"
) -> coordinator.CoordinatorTrainer:
    """A trainer whose only worker is this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "connect_coordinator", lambda workers: _Here())
        budget = child_job.Budget(
            *(2, 16, 96, 50), quality=quality, class_weights=class_weights
        )
        return coordinator.CoordinatorTrainer(["nowhere:1"], budget, 7)
