"""The version of keras_munet."""

__version__ = "0.2.0"
