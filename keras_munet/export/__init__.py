"""One lean SavedModel for all tasks."""
