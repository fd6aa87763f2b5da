"""The Vision Transformer as components: records, initial values, layers."""
