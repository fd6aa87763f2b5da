"""Frozen records, names and seeds that every other package shares."""
