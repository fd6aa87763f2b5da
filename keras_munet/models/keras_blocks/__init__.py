"""Any Keras model as components: its graph cut into blocks in a chain."""
