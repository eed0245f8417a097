"""What an outcome is called: by its column, where a table has one, else by its site."""

from __future__ import annotations

from aimz_lab.system.lazy_modules import xr

_SUFFIXES = ("_mean", "_ate")  # of averages that reducers made


def column_of(draws: xr.Dataset, site: str) -> str:
    """Return the column that a site stands for, if it is the output of a table; else its name.

    Args:
        draws: The group of an effect or a prediction.
        site: The site, or an average of it that a reducer made.
    """
    kind, _, column = str(draws.attrs.get("output_scale", "")).partition(" ")
    if kind != "column":
        column = str(draws.attrs.get("output_column", ""))
    output = draws.attrs.get("output")
    if not column or not isinstance(output, str):
        return site
    known = {output: column, **{output + end: column + end for end in _SUFFIXES}}
    return known.get(site, site)
