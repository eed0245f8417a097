"""The summary of an effect: a dataset that prints as a table, with names of columns and levels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from aimz_lab.data.html import html_table
from aimz_lab.effects.measures import AVERAGE, UNIT_WORDS
from aimz_lab.effects.sentences import (
    DRAWN_OUTCOMES,
    FIT_STEP,
    INTERVAL_OF,
    OF_DRAWN,
    OF_LEVELS,
    OF_RUNNING_FIT,
    interval_of,
)
from aimz_lab.number_text import count, numbers_alike, numbers_of_row
from aimz_lab.system.imports import late_import
from aimz_lab.system.lazy_modules import xr

if TYPE_CHECKING:
    import pandas as pd

SUMMARY = "summary"
"""Dimension of the summaries: mean, sd, ends of the interval."""

_MOST_ROWS = 20  # that are printed of a site
_PLACES = ("mean", "hdi_low", "hdi_high")


class EffectSummary(xr.Dataset):
    """Summaries of an effect by site, along a dimension ``summary``.

    It is an :class:`xarray.Dataset` in all but its looks: printed, it is a table with a row for
    each entry and a column for each summary.

    Example:
        >>> import xarray as xr
        >>> effect = xr.Dataset({"y": (("chain", "draw"), [[1.5, 2.5, 3.5]])})
        >>> from aimz_lab import summarize_effect
        >>> print(summarize_effect(effect, prob=0.5))
        Effect on y, with the 50% highest-density interval
           mean  sd  hdi_low  hdi_high
        y   2.5   1      1.5       2.5
    """

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        """Return a site, also by the name of its column; anything else as a dataset does."""
        if isinstance(key, str) and key not in self.variables:
            named = (name for name, one in self.variables.items() if key in _names(one))
            key = next(named, key)
        return super().__getitem__(key)

    def table(self) -> pd.DataFrame:
        """Return a data frame with a row for each entry and a column for each summary.

        Returns:
            The index has the labels of each dimension, and the site where there are several sites,
            by its column if it is the output of a table. Sites of different dimensions have one
            label for each entry, ``"y[north]"``. If intervals are of single outcomes, a column
            ``interval_of`` says which.

        Raises:
            ValueError: If this is no longer a summary: a site lacks the dimension ``summary``.
        """
        pd = late_import("pandas")
        if not self._is_summary:
            msg = f"A table needs the dimension {SUMMARY!r}; the sites have {dict(self.sizes)}."
            raise ValueError(msg)
        sites = list(self.data_vars.values())
        frames = {_called(site): summary_frame(site, None) for site in sites}
        marks = [site.coords.get(interval_of(site.name)) for site in sites]
        if any(mark is not None for mark in marks):
            for mark, (name, frame) in zip(marks, frames.items(), strict=True):
                kinds = INTERVAL_OF[1] if mark is None else np.ravel(mark.values)
                frames[name] = frame.assign(interval_of=kinds)
        if len(frames) == 1:
            return next(iter(frames.values()))
        if len({tuple(frame.index.names) for frame in frames.values()}) == 1:
            is_single = next(iter(frames.values())).index.names == ["site"]
            return pd.concat(frames.values() if is_single else frames, names=["site"])
        return pd.concat([_labelled(name, frame) for name, frame in frames.items()])

    @property
    def _is_summary(self) -> bool:
        sites = self.data_vars.values()
        return bool(len(sites)) and all(SUMMARY in site.dims for site in sites)

    def __repr__(self) -> str:
        if not self._is_summary:
            return super().__repr__()
        tables = (
            f"{title}\n{text_table(cells, n_labels)}" for title, cells, n_labels in self._printed()
        )
        return "\n".join([*tables, *self._of_levels])

    def _repr_html_(self) -> str:
        if not self._is_summary:
            return super()._repr_html_()
        tables = (
            html_table(title, cells[0], cells[1:], n_labels=n_labels)
            for title, cells, n_labels in self._printed()
        )
        return "".join([*tables, *(f"<p>{escape(text)}</p>" for text in self._of_levels)])

    @property
    def _of_levels(self) -> list[str]:
        """What is said of sites in place of a table: their values are the numbers of levels."""
        return [one.attrs["text"] for one in self.data_vars.values() if OF_LEVELS in one.attrs]

    def _printed(self) -> Iterator[tuple[str, list[list[str]], int]]:
        """Yield the tables to print: their titles, cells, and how many columns are labels."""
        sites = [site for site in self.data_vars.values() if OF_LEVELS not in site.attrs]
        if not sites:
            return
        if all(site.ndim == 1 for site in sites):
            frame = late_import("pandas").concat([summary_frame(site, None) for site in sites])
            # Each site has a unit of its own.
            rows = [numbers_of_row(row) for row in frame.to_dict("records")]
            yield _title(sites, ", ".join(map(_called, sites))), table_cells(frame, rows), 1
            return
        for site in sites:
            frame, total = summary_frame(site, _MOST_ROWS), _n_entries(site)
            cells, name = table_cells(frame, columns_alike(frame)), _called(site)
            if total > len(frame):
                cells.insert(1 + len(frame) // 2, ["..."] * len(cells[0]))
                name += f" ({count(total)} rows; .table() has each)"
            yield _title([site], name), cells, frame.index.nlevels


def _names(site: xr.Variable) -> tuple[str | None, str | None]:
    """Return what the mean of a site's column is called, and the column."""
    return site.attrs.get("column"), site.attrs.get("of_column")


def _called(site: xr.DataArray) -> str:
    """Return the name of a site's column, if it has one."""
    return str(site.attrs.get("column", site.name))


def _title(sites: Sequence[xr.DataArray], names: str) -> str:
    probs = {site.attrs.get("prob") for site in sites}
    prob = probs.pop() if len(probs) == 1 else None
    are_averages = {site.attrs.get("contrast") for site in sites} == {AVERAGE}
    title = f"{'Average of' if are_averages else 'Effect on'} {names}"
    if reference := sites[0].attrs.get("reference"):
        title += f" against {reference}"
    title += UNIT_WORDS.get(str(sites[0].attrs.get("contrast")), "")
    if prob is not None and any(str(label).startswith("hdi") for label in _columns(sites[0])):
        title += f", with the {100 * prob:g}% highest-density interval{_of_what(sites)}"
    steps = {site.attrs[FIT_STEP] for site in sites if FIT_STEP in site.attrs}
    return f"{title}, {OF_RUNNING_FIT.format(steps.pop())}" if len(steps) == 1 else title


def _of_what(sites: Sequence[xr.DataArray]) -> str:
    """Say where the intervals are of single outcomes."""
    marked = {
        _called(site): site.coords[interval_of(site.name)].values == INTERVAL_OF[0]
        for site in sites
        if interval_of(site.name) in site.coords
    }
    others = [site for site in sites if _called(site) not in marked]
    drawn = [_called(site) for site in others if OF_DRAWN in site.attrs]
    if drawn and len(drawn) == len(sites):
        return f" ({DRAWN_OUTCOMES})"
    if others:
        parts = [f"of {', '.join(marked)} one of single outcomes, not of the effect"] * bool(marked)
        parts += [f"{DRAWN_OUTCOMES}: {', '.join(drawn)}"] * bool(drawn)
        return f" ({'; '.join(parts)})" * bool(parts)
    if all(single.all() for single in marked.values()):
        return " of single outcomes, not of the effect"
    if any(OF_DRAWN in site.attrs for site in sites):
        return f" ({DRAWN_OUTCOMES}; in entries of few rows of single ones, not of the effect)"
    return "; in entries of few rows of single outcomes, not of the effect"


def _columns(summary: xr.Dataset | xr.DataArray) -> list[str]:
    if SUMMARY in summary.coords:
        return [str(label) for label in np.atleast_1d(summary[SUMMARY].values)]
    return [str(i) for i in range(summary.sizes[SUMMARY])]


def _n_entries(site: xr.DataArray) -> int:
    return math.prod(size for dim, size in site.sizes.items() if dim != SUMMARY)


def summary_frame(site: xr.DataArray, most: int | None) -> pd.DataFrame:
    """Return the table of a site; of more than ``most`` entries, the first and the last ones."""
    pd = late_import("pandas")
    site = site.transpose(..., SUMMARY)
    dims, shape, total = site.dims[:-1], site.shape[:-1], _n_entries(site)
    chosen = np.arange(total)
    if most is not None and total > most:
        chosen = np.concatenate([chosen[: most // 2], chosen[total - most // 2 :]])
    values = site.values.reshape(total, site.sizes[SUMMARY])[chosen]
    if not dims:
        return pd.DataFrame(values, pd.Index([_called(site)], name="site"), columns=_columns(site))
    levels: dict[str, pd.Index] = {}
    for dim, at in zip(dims, np.unravel_index(chosen, shape), strict=True):
        labels = site.indexes[dim][at] if dim in site.indexes else pd.Index(at)
        if isinstance(labels, pd.MultiIndex):
            levels |= {name: labels.get_level_values(name) for name in labels.names}
        else:
            levels[str(dim)] = labels
    index = pd.MultiIndex.from_arrays(list(levels.values()), names=list(levels))
    index = index if len(levels) > 1 else index.get_level_values(0)
    return pd.DataFrame(values, index, columns=_columns(site))


def _labelled(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose entries have one label each, as ArviZ writes it."""
    if frame.index.names == ["site"]:
        return frame.rename_axis(None)
    rows = [at if isinstance(at, tuple) else (at,) for at in frame.index]
    labels = [f"{name}[{', '.join(map(str, at))}]" for at in rows]
    return frame.set_axis(labels)


def columns_alike(frame: pd.DataFrame) -> list[list[str]]:
    """Return the rows of a table as text, each column with equally many decimals."""
    spreads = frame.get("sd", ())
    columns = [
        numbers_alike(frame[name].to_list(), spreads if name in _PLACES else ()) for name in frame
    ]
    return list(map(list, zip(*columns, strict=True)))


def table_cells(frame: pd.DataFrame, rows: Sequence[list[str]]) -> list[list[str]]:
    """Return the header and the rows of a table, with their labels."""
    names = ["" if name in (None, "site") else str(name) for name in frame.index.names]
    labels = [at if isinstance(at, tuple) else (at,) for at in frame.index]
    cells = [[*map(str, at), *row] for at, row in zip(labels, rows, strict=True)]
    return [[*names, *map(str, frame.columns)], *cells]


def text_table(rows: list[list[str]], n_labels: int) -> str:
    """Write a table: labels on the left, numbers below the right ends of their names."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < n_labels else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
