"""The first rows of a prediction, as a table to print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from aimz_lab.data.html import html_table
from aimz_lab.effects.effect_summary import (
    SUMMARY,
    columns_alike,
    summary_frame,
    table_cells,
    text_table,
)
from aimz_lab.effects.outcome_names import called, column_of
from aimz_lab.effects.sentences import DRAWN_OUTCOMES
from aimz_lab.effects.summaries import hdi
from aimz_lab.number_text import count, number
from aimz_lab.predictive.drawn_sites import named_as_drawn
from aimz_lab.predictive.level_sites import levels_of
from aimz_lab.system.imports import late_import
from aimz_lab.system.lazy_modules import xr
from aimz_lab.trust.smoothing import trusted_k
from aimz_lab.types import SAMPLE_DIMS

if TYPE_CHECKING:
    import pandas as pd

LIKELIHOOD = "log_likelihood"

_PROB = 0.94
_FEW_ROWS, _MOST_ENTRIES, _MOST_COLUMNS = 5, 10, 8
_SUMMARIES = ("mean", "sd", "hdi_low", "hdi_high")
_SCORES = {"loo": ("PSIS-LOO", "elpd_loo", "p_loo"), "waic": ("WAIC", "elpd_waic", "p_waic")}


@dataclass(frozen=True)
class RowTable:
    """What is printed of rows.

    Attributes:
        tables: A title and a table each.
        sentences: What is said above them.
    """

    tables: Sequence[tuple[str, pd.DataFrame]]
    sentences: Sequence[str] = ()

    def __str__(self) -> str:
        tables = (
            f"{title}\n{text_table(cells, n_labels)}" for title, cells, n_labels in self._printed()
        )
        return "\n".join([*self.sentences, *tables])

    def _repr_html_(self) -> str:
        said = (f"<p>{escape(text)}</p>" for text in self.sentences)
        tables = (
            html_table(title, cells[0], cells[1:], n_labels=n_labels)
            for title, cells, n_labels in self._printed()
        )
        return "".join([*said, *tables])

    def _printed(self) -> list[tuple[str, list[list[str]], int]]:
        return [
            (title, table_cells(frame, columns_alike(frame)), frame.index.nlevels)
            for title, frame in self.tables
        ]


def first_rows(group: str, data: xr.Dataset) -> RowTable | None:
    """Return the first rows of each site that is in memory; ``None`` if there is none.

    Args:
        group: Name of the group of a prediction.
        data: Its sites: draws, or what reducers left of them.
    """
    sites = [site for site in data.values() if _row_dim(site, data) and is_in_memory(site)]
    draws = [site for site in sites if set(SAMPLE_DIMS) <= set(site.dims)]
    if draws:
        tables = [_of_draws(group, site, data) for site in draws]
        tables = [table for table in tables if table is not None]
    else:
        tables = _of_reduced(group, sites, data)
    sentences = [_in_words(site, data) for site in sites if group == LIKELIHOOD]
    sentences = [text for text in sentences if text]
    return RowTable(tables, sentences) if tables or sentences else None


def is_in_memory(site: xr.DataArray) -> bool:
    """Whether values are there without reading or computing them, as xarray's own looks ask."""
    return site.variable._in_memory


def _row_dim(site: xr.DataArray, data: xr.Dataset) -> str | None:
    return next((dim for dim in data.attrs.get("row_dims", ()) if dim in site.dims), None)


def _of_draws(group: str, site: xr.DataArray, data: xr.Dataset) -> tuple[str, pd.DataFrame] | None:
    """Return mean, standard deviation and interval of the first rows; of levels, their shares."""
    name, rows = str(site.name), _row_dim(site, data)
    if site.dtype.kind not in "biuf" or not site.size:
        return None
    levels = levels_of(data.attrs, name)
    if len(levels) > 2 and group != LIKELIHOOD:
        return _of_levels(site, data, levels)
    rest = [dim for dim in site.dims if dim not in SAMPLE_DIMS]
    n_rows = site.sizes[rows]
    n_entries = site.size // (n_rows * site.sizes["chain"] * site.sizes["draw"])
    if n_entries > _MOST_ENTRIES:
        return None
    few = site.isel({rows: slice(max(1, min(_FEW_ROWS, _MOST_ENTRIES // n_entries)))})
    few = few.transpose(*SAMPLE_DIMS, rows, ...).astype(np.float64)
    values = few.values.reshape(-1, *few.shape[2:])
    sd = values.std(0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)
    ends = hdi(values, _PROB)
    summary = xr.DataArray(
        np.stack([values.mean(0), sd, ends[..., 0], ends[..., 1]], -1),
        dims=[*few.dims[2:], SUMMARY],
        coords={dim: few.coords[dim] for dim in rest if dim in few.coords},
        name=name,
    ).assign_coords({SUMMARY: [*_SUMMARIES]})
    is_score = group == LIKELIHOOD
    what = f"Log-likelihood of {name} in nats" if is_score else called(data, name)
    is_drawn = name in named_as_drawn(data.attrs) and not is_score
    title = (
        f"{what}, {_which(few.sizes[rows], n_rows)}, with the {100 * _PROB:g}% highest-density "
        f"interval{f' ({DRAWN_OUTCOMES})' if is_drawn else ''}"
    )
    return title, summary_frame(summary, None)


def _of_levels(
    site: xr.DataArray, data: xr.Dataset, levels: Sequence[str]
) -> tuple[str, pd.DataFrame] | None:
    """Return the shares of the levels among the draws of the first rows; ``None`` of many."""
    rows = _row_dim(site, data)
    if {*site.dims} != {*SAMPLE_DIMS, rows} or len(levels) > _MOST_COLUMNS:
        return None
    few = site.isel({rows: slice(_FEW_ROWS)})
    shares = [(few == number).mean(SAMPLE_DIMS) for number in range(len(levels))]
    frame = xr.concat(shares, "level").assign_coords(level=list(levels)).transpose(rows, "level")
    which = _which(few.sizes[rows], site.sizes[rows])
    title = f"Share of the draws in each level of {column_of(data, str(site.name))}, {which}"
    return title, frame.to_pandas()


def _of_reduced(
    group: str, sites: Sequence[xr.DataArray], data: xr.Dataset
) -> list[tuple[str, pd.DataFrame]]:
    """Return the first rows of what reducers left, with a column for each."""
    pd = late_import("pandas")
    found: dict[str, dict[str, pd.Series]] = {}
    sizes = {}
    for site in sites:
        rows = _row_dim(site, data)
        others = [dim for dim in site.dims if dim != rows]
        columns = found.setdefault(rows, {})
        sizes[rows] = site.sizes[rows]
        if len(others) > 1 or (others and site.sizes[others[0]] > _MOST_COLUMNS):
            continue
        few = site.isel({rows: slice(_FEW_ROWS)})
        if not others:
            columns[str(site.name)] = few.to_series()
            continue
        for label in few[others[0]].values:
            named = str(label) if len(sites) == 1 else f"{site.name}[{label}]"
            columns[named] = few.sel({others[0]: label}, drop=True).to_series()
    name = called(data, str(sites[0].name)) if len(sites) == 1 else ""
    if group == LIKELIHOOD:
        output = data.attrs.get("output")
        name = f"Log-likelihood{f' of {output}' * (output is not None)} in nats"
    return [
        (f"{name}, {which}" if name else which.capitalize(), frame)
        for rows, columns in found.items()
        if 0 < len(columns) <= _MOST_COLUMNS
        for frame in [pd.DataFrame(columns)]
        for which in [_which(len(frame), sizes[rows])]
    ]


def _which(shown: int, n_rows: int) -> str:
    of = f"{count(n_rows)} row{'s' * (n_rows != 1)}"
    return of if shown == n_rows else f"the first {shown} of {of}"


def _in_words(site: xr.DataArray, data: xr.Dataset) -> str:
    """Write the sums of scores over rows, and how many of them are not to be trusted."""
    kind = next((dim for dim in _SCORES if dim in site.dims), None)
    if kind is None:
        return ""
    method, elpd, p = _SCORES[kind]
    scores = site.sel({kind: [elpd, p]}).transpose(kind, ...).values.reshape(2, -1)
    has_score = np.isfinite(scores).all(0)
    sums = dict(zip((elpd, p), scores[:, has_score].sum(1), strict=True))
    site_name = str(site.name).removesuffix(f"_{kind}")
    text = f"{method} of {site_name}: " + ", ".join(f"{n} {number(v)}" for n, v in sums.items())
    text += f", summed over {count(has_score.sum())} rows."
    if not has_score.all():
        text += f" {count((~has_score).sum())} others have no finite score."
    if kind != "loo":
        return text
    limit = trusted_k(int(data.attrs.get("n_draws", 0)))
    bad = int((site.sel(loo="pareto_k").values > limit).sum())
    if not bad:
        return f"{text} pareto_k is at most {limit:.2g} in all of them."
    return (
        f"{text} pareto_k is above {limit:.2g} in {count(bad)}, whose scores, and with them the "
        "sums, are not to be trusted."
    )
