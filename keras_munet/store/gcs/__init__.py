"""Stores a system in a Google Cloud Storage bucket."""
