"""The version of the package, for all rooms."""

from __future__ import annotations

__version__ = "0.1.0"
