"""Paths as Keras graphs: a component appears once, however many use it."""

from keras_munet.core import keras_backend

# Before a module of this package imports Keras.
keras_backend.require_tensorflow()
