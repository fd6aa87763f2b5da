"""Tasks as arrays in memory, and what turns their images into batches."""
