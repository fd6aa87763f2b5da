"""Loads the data sets of the experiments."""
