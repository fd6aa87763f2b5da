"""Chooses devices and places children on them."""
