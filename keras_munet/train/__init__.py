"""Training of generations under a tf.distribute strategy."""
