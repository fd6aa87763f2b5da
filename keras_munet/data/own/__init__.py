"""Prepares tasks from a user's own folders, tables and arrays."""
