"""Trains a generation layer by layer: the engine for CPUs."""
