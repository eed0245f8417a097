"""Check the predictions of a tree, read from memory or a store some rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from aimz_lab.data.labels import AxisLabels
from aimz_lab.data.tables import native_table, read_table
from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.kernel.output_transform import TRANSFORM
from aimz_lab.predictive.level_sites import level_numbers, levels_of
from aimz_lab.predictive.reducers.contract import OverDraws
from aimz_lab.predictive.reducers.scores import density_of_all
from aimz_lab.predictive.scored_density import NO_LOO
from aimz_lab.trust.checked_predictions import CheckedPredictions
from aimz_lab.trust.outcome_checks import OutcomeChecks
from aimz_lab.trust.outcome_sums import OutcomeReader
from aimz_lab.trust.own_statistics import Statistic
from aimz_lab.trust.posterior_checks import entries
from aimz_lab.trust.row_columns import RowTable, row_columns
from aimz_lab.trust.rows_beside import (
    check_rows,
    check_same,
    has_values,
    named_columns,
    read_columns,
    sums_of,
)
from aimz_lab.trust.smoothing import array_stats
from aimz_lab.trust.worst_rows import WorstRows
from aimz_lab.types import SAMPLE_DIMS

if TYPE_CHECKING:
    import xarray as xr

GROUPS = ("posterior_predictive", "predictions", "prior_predictive")

_AT_ONCE = 1 << 22  # values read together
_LEAST_ROWS = 256


def checked_tree(
    tree: xr.DataTree,
    X: Any = None,
    y: Any = None,
    *,
    columns: Any = None,
    log_likelihood: xr.DataTree | None = None,
    statistics: Mapping[str, Statistic] | None = None,
) -> CheckedPredictions:
    """Check the predictions of a tree against what was observed.

    Args:
        tree: Predictive draws.
        X: Columns of the rows: a table, an array or arrays by name.
        y: Observed values of the output, or of several sites by name; by default the tree's own.
        columns: Further columns.
        log_likelihood: A tree with the group ``log_likelihood``; by default this one.
        statistics: Further test statistics.

    Raises:
        ArgumentError: If the tree has no predictive draws, or nothing to compare them with.
        DataError: If rows differ in number, order or labels, or values are not those of the tree.
    """
    group = next((name for name in GROUPS if name in tree), None)
    if group is None:
        raise ArgumentError("The tree has no predictive draws; pass that of im.predict(X).")
    draws = tree[group].to_dataset()
    given = _given(tree, draws, y, group)
    first = next(iter(given))
    dim = row_dim(draws, first)
    names = draws.coords[dim].values if dim in draws.coords else None
    labels = None if names is None else AxisLabels((), names, _counts(names))
    table = RowTable(draws.sizes[dim], names, _columns(tree, group, dim, (X, columns), labels))
    own = {site: _aligned(tree, draws, site, dim, values, labels) for site, values in given.items()}
    worst, why_not = _worst(tree, log_likelihood, own[first], first, table, labels)
    outcomes = {}
    for site, values in own.items():
        sums = sums_of(site, values, table, statistics, _entry_names(draws[site], dim))
        read_rows(draws[site], dim, OutcomeReader(sums))
        for one in sums:
            outcomes[one.name] = OutcomeChecks(one, worst if site == first else None)
    notes = [*notes_of(tree, draws, dim, group), *why_not]
    return CheckedPredictions(outcomes, table, tuple(notes))


def read_rows(draws: xr.DataArray, dim: str, reader: OverDraws) -> None:
    """Hand the draws of a tree to a reducer, some rows at a time.

    Args:
        draws: Draws of one site.
        dim: Dimension of the rows.
        reader: A reducer with the rows' positions.
    """
    others = [one for one in draws.dims if one not in (*SAMPLE_DIMS, dim)]
    ordered = draws.transpose(*SAMPLE_DIMS, dim, *others)
    n_rows = draws.sizes[dim]
    values = max(1, draws.size // max(n_rows, 1))
    size = max(_LEAST_ROWS, _AT_ONCE // values)
    for start in range(0, n_rows, size):
        rows = np.arange(start, min(start + size, n_rows))
        part = ordered.isel({dim: slice(start, start + size)}).values
        part = part.reshape(-1, *part.shape[2:])
        reader.block(part, np.ones(len(rows), bool), rows)


def row_dim(draws: xr.Dataset, site: str) -> str:
    """Return the dimension of the rows of a site.

    Args:
        draws: Predictive draws.
        site: The site.

    Raises:
        ArgumentError: If the site has no rows.
    """
    dims = [str(dim) for dim in draws[site].dims if dim not in SAMPLE_DIMS]
    known = [dim for dim in dims if dim in list(np.atleast_1d(draws.attrs.get("row_dims", [])))]
    if not dims:
        raise ArgumentError(f"The site {site!r} has no rows; choose one with a value for each row.")
    return (known or dims)[0]


def r_eff_of(tree: xr.DataTree) -> float:
    """Return effective draws over draws of a posterior with several chains; 1 for others.

    Args:
        tree: A tree, with or without the group ``posterior``.
    """
    if "posterior" not in tree:
        return 1.0
    _, draws = entries(tree)
    if draws.shape[0] < 2 or not draws.shape[2]:
        return 1.0
    ess = array_stats().ess(draws, chain_axis=0, draw_axis=1, method="mean")
    ratio = float(np.nanmean(ess)) / (draws.shape[0] * draws.shape[1])
    return ratio if np.isfinite(ratio) and ratio > 0 else 1.0


def notes_of(tree: xr.DataTree, draws: xr.Dataset, dim: str, group: str) -> list[str]:
    """Return what to bear in mind of the predictions of a tree.

    Args:
        tree: The tree.
        draws: Its predictive draws.
        dim: Dimension of the rows.
        group: The group of the draws.
    """
    notes = []
    if group == "prior_predictive":
        notes.append("These are predictions of the prior.")
    if transform := draws.attrs.get(TRANSFORM):
        output = draws.attrs.get("output")
        notes.append(f"The kernel observes {transform}: predictions of {output} are of that.")
    changed = [*np.atleast_1d(draws.attrs.get("intervention", []))]
    changed += [*np.atleast_1d(draws.attrs.get("condition", []))]
    if changed:
        listed = ", ".join(map(str, changed))
        notes.append(f"These are predictions under values that were set for {listed}.")
    latents = tree["posterior"].data_vars if "posterior" in tree and group == GROUPS[0] else {}
    own = [str(name) for name, one in latents.items() if dim in one.dims]
    if own:
        notes.append(
            f"Each row has its own {', '.join(own)}, which its observed value has shaped: it "
            "predicts itself, so that these checks are too kind."
        )
    output = str(draws.attrs.get("output"))
    levels, numbers = levels_of(draws.attrs, output), level_numbers(draws.attrs, output)
    if len(levels) > 2:
        others = f"of these numbers: {numbers}" if numbers else "say nothing"
        notes.append(
            f"The output is the number of one of {len(levels)} levels: histograms count them, and "
            f"means, residuals and intervals {'are ' * bool(numbers)}{others}."
        )
    return notes


def _given(tree: xr.DataTree, draws: xr.Dataset, y: Any, group: str) -> dict[str, Any]:
    """Return observed values by site; ``None`` for the tree's own."""
    sites = [str(name) for name, one in draws.data_vars.items() if {*SAMPLE_DIMS} < {*one.dims}]
    if not sites:
        have = ", ".join(map(str, draws.data_vars))
        msg = f"The checks need draws of the output, and the tree has {have}; leave out reduce=."
        raise ArgumentError(msg)
    own = list(map(str, tree["observed_data"].data_vars)) if "observed_data" in tree else []
    known = [name for name in sites if name in own]
    if y is None:
        if known:
            return dict.fromkeys(known)
        msg = (
            f"The tree has no observed values of {', '.join(sites)}; pass them as y=. (The group "
            f"is {group!r}, and observed_data comes with predictions of the training rows.)"
        )
        raise ArgumentError(msg)
    if isinstance(y, Mapping):
        unknown = [name for name in y if name not in sites]
        if unknown or not y:
            msg = f"y= names {unknown or 'nothing'}; the tree has draws of {', '.join(sites)}."
            raise ArgumentError(msg)
        return {str(name): value for name, value in y.items()}
    output = draws.attrs.get("output")
    first = next(iter([*known, *([output] if output in sites else [])]), None)
    if first is None and len(sites) > 1:
        msg = f"y= may belong to {', '.join(sites)}; name the site: y={{{sites[0]!r}: y}}."
        raise ArgumentError(msg)
    return {first or sites[0]: y}


def _aligned(
    tree: xr.DataTree,
    draws: xr.Dataset,
    site: str,
    dim: str,
    values: Any,
    labels: AxisLabels | None,
) -> np.ndarray:
    """Return observed values, rows first; those given have to be the tree's own if it has some."""
    if row_dim(draws, site) != dim:
        msg = f"The rows of {site!r} are not those of the first outcome; check it alone."
        raise ArgumentError(msg)
    own = None
    if "observed_data" in tree and site in tree["observed_data"]:
        held = tree["observed_data"][site]
        rest = [one for one in draws[site].dims if one not in (*SAMPLE_DIMS, dim)]
        if {*held.dims} == {dim, *rest}:
            own = held.transpose(dim, *rest).values
    if values is None:
        if own is None:
            raise ArgumentError(f"observed_data has {site!r} in another shape; pass y=.")
        return own
    check_rows(site, native_table(values), draws.sizes[dim], labels)
    read = read_table(site, native_table(values))
    given = np.asarray(values) if read is None else read
    if own is not None:
        check_same(site, given, own)
    return given


def _columns(
    tree: xr.DataTree,
    group: str,
    dim: str,
    sources: Iterable[Any],
    labels: AxisLabels | None,
) -> Mapping[str, Any]:
    n_rows = tree[group].to_dataset().sizes[dim]
    found = read_columns(sources, n_rows, labels)
    prefix = "predictions_" if group == "predictions" else ""
    if f"{prefix}constant_data" in tree:
        for name, one in tree[f"{prefix}constant_data"].data_vars.items():
            if one.dims and one.dims[0] == dim:
                labelled = [str(x) for x in one[one.dims[1]].values] if one.ndim == 2 else None
                found += named_columns(str(name), one.values, labelled)
    if (names := tree[group].to_dataset().coords.get(dim)) is not None and not _counts(
        names.values
    ):
        found.append((dim, names.values))
    return row_columns(found, n_rows)


def _worst(
    tree: xr.DataTree,
    other: xr.DataTree | None,
    own: np.ndarray,
    site: str,
    table: RowTable,
    labels: AxisLabels | None,
) -> tuple[WorstRows | None, list[str]]:
    source = tree if other is None else other
    if "log_likelihood" not in source or site not in source["log_likelihood"]:
        if other is not None:
            raise ArgumentError(f"log_likelihood= has no log-likelihood of {site!r}.")
        return None, []
    values = source["log_likelihood"][site]
    row_dims = source["log_likelihood"].attrs.get("row_dims", values.dims[len(SAMPLE_DIMS) :])
    if not np.size(row_dims):
        return None, [of_one_event(site)]
    if why := source["log_likelihood"].attrs.get(NO_LOO):
        return None, [f"Rows are ranked by their standardised residuals, not by LOO: {why}."]
    dim = row_dim(source["log_likelihood"].to_dataset(), site)
    if values.sizes[dim] != table.n_rows:
        msg = (
            f"The log-likelihood is of {values.sizes[dim]:,} rows, and the predictions of "
            f"{table.n_rows:,}."
        )
        raise DataError(msg)
    if dim in values.coords:
        check_rows("log_likelihood", values[dim], table.n_rows, labels)
    held = other["observed_data"] if other is not None and "observed_data" in other else {}
    # The log-likelihood of a table is on the scale of the kernel, and its outputs with it.
    scaled = any("output_scale" in tree[name].attrs for name in GROUPS if name in tree)
    if site in held and not scaled:
        check_same(site, np.asarray(held[site].values), own)
    worst = WorstRows(has_values(own), r_eff_of(source))
    read_rows(values, dim, worst)
    return (worst, []) if smoothed_if_possible(worst) else (None, [TOO_FEW])


def of_one_event(output: str) -> str:
    """Say what the rows of an output that is one event over all of them do to its checks."""
    return (
        f"Rows are ranked by their standardised residuals, not by LOO: {density_of_all(output)}. "
        "They may depend on each other, and PIT, coverage and calibration take them as independent."
    )


TOO_FEW = "Leave-one-out takes 100 draws at least; rows are ranked by their standardised residuals."


def smoothed_if_possible(worst: WorstRows) -> bool:
    """Compute leave-one-out if there are draws enough.

    Args:
        worst: All rows read.
    """
    if worst.has_enough_draws:
        worst.smooth()
    return worst.has_enough_draws


def _entry_names(draws: xr.DataArray, dim: str) -> list[str]:
    rest = [one for one in draws.dims if one not in (*SAMPLE_DIMS, dim)]
    return [", ".join(map(str, at)) for at in product(*(draws[one].values for one in rest))]


def _counts(names: np.ndarray) -> bool:
    return names.dtype.kind in "iu" and bool((names == np.arange(len(names))).all())
