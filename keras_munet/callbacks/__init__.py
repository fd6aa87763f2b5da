"""Shows a job's progress: as lines, bars, JSON and TensorBoard events."""
