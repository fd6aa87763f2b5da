"""One of each kind of extension of keras_munet; see its docs/plugins.md."""
