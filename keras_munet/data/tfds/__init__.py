"""Reads tasks of TensorFlow Datasets without importing what the data name."""
