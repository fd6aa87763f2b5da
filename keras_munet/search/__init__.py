"""The evolutionary search, on records alone: no TensorFlow, no Keras."""
