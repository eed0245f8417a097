"""Documented import paths; the code lives elsewhere."""
