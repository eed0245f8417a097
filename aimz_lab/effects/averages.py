"""Average effects of scenarios at hand, read some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from aimz_lab.effects.measures import Measure
from aimz_lab.effects.row_groups import RowGroups
from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.system.lazy_modules import xr
from aimz_lab.types import SAMPLE_DIMS

PIECE_VALUES = 2**22
"""Values of a site that are read at a time."""


def row_dim(site: xr.DataArray, group: xr.Dataset, n_rows: int | None) -> str | None:
    """Return the name of a site's dimension of rows; ``None`` if it has none.

    Args:
        site: Draws of the site.
        group: The group that it is from.
        n_rows: Number of rows, if known.

    Raises:
        ArgumentError: If it cannot be told.
    """
    others = [str(dim) for dim in site.dims if dim not in SAMPLE_DIMS]
    if "row_dims" in group.attrs:
        named = set(map(str, np.atleast_1d(group.attrs["row_dims"])))
        return next((dim for dim in others if dim in named), None)
    if n_rows is not None:
        others = [dim for dim in others if site.sizes[dim] == n_rows]
    if len(others) > 1:
        msg = (
            f"Which dimension of {site.name!r} are its rows is not known: {', '.join(others)}. "
            "Pass the trees of im.predict(...), which say so."
        )
        raise ArgumentError(msg)
    return others[0] if others else None


def average_contrast(
    before: xr.DataArray, after: xr.DataArray, rows: str | None, groups: RowGroups, measure: Measure
) -> xr.DataArray:
    """Return the contrast of the averages of a site over rows, for each draw and group.

    Args:
        before: Draws under the baseline.
        after: Draws under the intervention, of the same shape.
        rows: The dimension of rows; ``None`` if there is none.
        groups: Groups and weights of the rows.
        measure: Contrasts the averages.

    Raises:
        DataError: If groups or weights are for another number of rows, or the measure is not
            defined.
    """
    if rows is None:
        return by_draw(before, after, measure)
    name = str(after.name)
    n_rows = after.sizes[rows]
    if groups.n_rows not in (None, n_rows):
        given = f"The values of {groups.given} are for {groups.n_rows:,} rows"
        msg = f"{given}; {name!r} has {n_rows:,}."
        raise DataError(msg)
    means = [
        _means(each, rows, groups, measure.contrast == "odds_ratio") for each in (before, after)
    ]
    rest = [dim for dim in after.dims if dim not in (*SAMPLE_DIMS, rows)]
    dims = (*SAMPLE_DIMS, *groups.coords, *rest)
    values = measure(name, *means)
    sizes = [after.sizes[dim] for dim in SAMPLE_DIMS]
    coords = {dim: after.coords[dim] for dim in (*SAMPLE_DIMS, *rest) if dim in after.coords}
    return xr.DataArray(
        values.reshape(*sizes, *values.shape[1:]),
        dims=dims,
        coords={**coords, **groups.coords},
        name=after.name,
    )


def by_draw(before: xr.DataArray, after: xr.DataArray, measure: Measure) -> xr.DataArray:
    """Return the contrast of each value of a site.

    Args:
        before: Draws under the baseline.
        after: Draws under the intervention, of the same shape.
        measure: Contrasts the values.
    """
    ordered = [each.transpose(*SAMPLE_DIMS, ...) for each in (before, after)]
    flat = [each.values.reshape(-1, *each.shape[2:]) for each in ordered]
    found = measure(str(after.name), *flat)
    return ordered[1].copy(data=found.reshape(ordered[1].shape))


def _means(
    draws: xr.DataArray, rows: str, groups: RowGroups, shares: bool
) -> Float[np.ndarray, "draw *groups ..."]:
    n_rows = draws.sizes[rows]
    codes = np.zeros(n_rows, int) if groups.codes is None else groups.codes
    weights = np.ones(n_rows) if groups.weights is None else groups.weights
    total: np.ndarray | float = 0.0
    for part, values in _pieces(draws, rows):
        if shares:
            values = np.where((values >= 0) & (values <= 1), values, np.nan)
        total = total + _sums(values, codes[part], weights[part], groups.n_groups)
    shape = total.shape
    means = total / groups.totals(n_rows).reshape(1, -1, *[1] * (total.ndim - 2))
    return means.reshape(shape[0], *groups.shape, *shape[2:])


def _pieces(draws: xr.DataArray, rows: str) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield rows as ``(S, R, ...)`` in double precision."""
    n_rows = draws.sizes[rows]
    step = max(1, PIECE_VALUES * n_rows // max(draws.size, 1))
    for first in range(0, n_rows, step):
        part = slice(first, min(first + step, n_rows))
        ordered = draws.isel({rows: part}).transpose(*SAMPLE_DIMS, rows, ...)
        values = np.asarray(ordered.values, dtype=np.float64)
        yield part, values.reshape(-1, *values.shape[2:])


def _sums(
    values: np.ndarray, codes: np.ndarray, weights: np.ndarray, n_groups: int
) -> Float[np.ndarray, "draw group ..."]:
    order = np.argsort(codes, kind="stable")
    over = weights[order].reshape(-1, *[1] * (values.ndim - 2))
    ordered = values[:, order]
    weighed = np.where(over > 0, ordered * over, 0.0)
    present, starts = np.unique(codes[order], return_index=True)
    sums = np.zeros((len(values), n_groups, *values.shape[2:]))
    sums[:, present] = np.add.reduceat(weighed, starts, axis=1)
    return sums
