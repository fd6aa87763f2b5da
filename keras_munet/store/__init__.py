"""A system on disk: immutable components, one atomic ref per task."""
