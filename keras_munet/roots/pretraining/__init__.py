"""Trains the packaged root: characters in, a hub SavedModel out."""

from keras_munet.core import keras_backend

# Before a module of this package imports Keras.
keras_backend.require_tensorflow()
