"""Recognise data frames without importing their libraries."""

from __future__ import annotations

from aimz_lab.data.tables import is_a


def is_table(value: object) -> bool:
    """Whether a value is a pandas or polars data frame."""
    return is_a(value, "pandas", "DataFrame") or is_a(value, "polars", "DataFrame")
