"""Datasets and loaders under their documented import path; see :mod:`aimz_lab.data`."""

from __future__ import annotations

from aimz_lab.data import ArrayDataset, ArrayLoader

__all__ = ["ArrayDataset", "ArrayLoader"]
