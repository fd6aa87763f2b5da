"""Trains every child by one compiled program: the engine for accelerators."""
