"""The documented import paths; the code lives elsewhere."""
