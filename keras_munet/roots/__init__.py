"""Where first components come from: random values or a checkpoint file."""
