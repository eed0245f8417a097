"""The flavor's name, and the names of its files inside a logged model."""

from __future__ import annotations

FLAVOR_NAME = "aimz_lab"
"""Name of the flavor in MLflow's description of a model."""

STATE = "model"
CODE = "code.pkl"
MODULES = "code"
"""Folder of the modules given by ``code_paths``, where MLflow puts them."""
