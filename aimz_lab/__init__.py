"""Interactive Bayesian modelling with NumPyro: train while you watch, then ask what-if questions."""

from __future__ import annotations

__version__ = "0.1.0"
