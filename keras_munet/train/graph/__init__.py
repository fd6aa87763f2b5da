"""Trains a generation as one graph: the engine for accelerators."""
