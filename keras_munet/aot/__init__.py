"""Ahead of time: what a TPU would be given, compiled where there is none."""
