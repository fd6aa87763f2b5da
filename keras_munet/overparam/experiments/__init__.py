"""Repeats the published experiments: networks, data sets and settings."""
