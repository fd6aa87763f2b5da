"""Turns paths into Keras models: layers, architectures and graphs."""
