"""Paths as Keras graphs: a component appears once, however many use it."""
