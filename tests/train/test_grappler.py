"""What `train/grappler.py` asks of TensorFlow's passes over graphs."""

from __future__ import annotations

import tensorflow as tf

from keras_munet.train import grappler


def test_the_process_keeps_its_own_option():
    options = tf.config.optimizer.get_experimental_options
    before = options().get("disable_meta_optimizer", False)
    with grappler.disable_grappler():
        assert options()["disable_meta_optimizer"]
    assert options().get("disable_meta_optimizer", False) == before
