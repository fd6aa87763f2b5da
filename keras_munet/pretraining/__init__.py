"""How the packaged root came to be: characters in, a hub SavedModel out."""
