"""Trains children as programs of several workers."""
