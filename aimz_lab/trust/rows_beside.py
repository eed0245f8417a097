"""Observed values and columns of predicted rows: read, or refused where they are of other rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Shaped

from aimz_lab.data.labels import AxisLabels, row_labels
from aimz_lab.data.tables import is_table, native_table
from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.system.lazy_modules import pd
from aimz_lab.trust.outcome_sums import OutcomeSums
from aimz_lab.trust.own_statistics import Statistic
from aimz_lab.trust.row_columns import RowTable

MOST_OUTCOMES = 20
MOST_COLUMNS = 64
"""Columns of a wider array are images or embeddings, and no rows are sorted by them."""


def sums_of(
    site: str,
    values: Shaped[np.ndarray, "row ..."],
    table: RowTable,
    statistics: Mapping[str, Statistic] | None,
    names: Iterable[str] = (),
) -> list[OutcomeSums]:
    """Return sums for each entry of a site's rows.

    Args:
        site: Its name.
        values: The observed values, rows first.
        table: The rows.
        statistics: Further test statistics.
        names: Names of the entries; by default their numbers.

    Raises:
        ArgumentError: If there are too many entries to choose from.
        DataError: If there is not one value, or more, for each row.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "fiub":
        raise DataError(f"Observed values of {site!r} are numbers; got {values.dtype}.")
    if len(values) != table.n_rows:
        msg = (
            f"{site!r} has {len(values):,} observed rows, and there are predictions of "
            f"{table.n_rows:,}; pass the values of the predicted rows, in their order."
        )
        raise DataError(msg)
    if values.ndim == 1:
        return [OutcomeSums(site, values, table, statistics)]
    flat = values.reshape(len(values), -1)
    if flat.shape[1] > MOST_OUTCOMES:
        msg = (
            f"A row of {site!r} has {flat.shape[1]} values, and at most {MOST_OUTCOMES} are "
            "checked one by one. Select some: the tree of tree[group][site].isel(...), and y alike."
        )
        raise ArgumentError(msg)
    found = list(names)
    if len(found) != flat.shape[1]:
        found = [", ".join(map(str, at)) for at in product(*map(range, values.shape[1:]))]
    return [
        OutcomeSums(f"{site}[{name}]", flat[:, entry], table, statistics)
        for entry, name in enumerate(found)
    ]


def read_columns(
    sources: Iterable[Any], n_rows: int, labels: AxisLabels | None
) -> list[tuple[str, Any]]:
    """Return named columns of tables, arrays, and mappings of either.

    Args:
        sources: They, or ``None``.
        n_rows: How many rows there are.
        labels: Labels of the rows.

    Raises:
        DataError: If one has other rows, by number or by labels.
    """
    found: list[tuple[str, Any]] = []
    for source in sources:
        if source is None:
            continue
        given = source if isinstance(source, Mapping) else {"X": source}
        for name, value in given.items():
            native = native_table(value)
            check_rows(str(name), native, n_rows, labels)
            found += named_columns(str(name), native)
    return found


def check_rows(name: str, value: Any, n_rows: int, labels: AxisLabels | None) -> None:
    """Refuse values of other rows.

    Args:
        name: What they are.
        value: The values.
        n_rows: How many rows there are.
        labels: Labels of the rows.

    Raises:
        DataError: If their number differs, or labels that both have.
    """
    shape = np.shape(value)
    if not shape or shape[0] != n_rows:
        msg = (
            f"{name!r} has {shape[0] if shape else 'no'} rows, and there are predictions of "
            f"{n_rows:,}. If rows were left out because of missing values, leave them out here: "
            "table.loc[the row labels of the predictions]."
        )
        raise DataError(msg)
    own = row_labels(value)
    if own is None or labels is None:
        return
    at = own.conflict(labels)
    if at is not None:
        msg = (
            f"{name!r} and the predictions label their rows differently: entry {at} is "
            f"{own.text(at)} and {labels.text(at)}. Bring them into the same order; nothing is "
            "reordered."
        )
        raise DataError(msg)


def has_values(own: Shaped[np.ndarray, "row ..."]) -> Shaped[np.ndarray, " row"]:
    """Return which rows have an observed value.

    Args:
        own: The observed values, rows first; NaN where one is missing.
    """
    return ~np.isnan(own.reshape(len(own), -1).astype(np.float64)).any(1)


def check_same(site: str, given: np.ndarray, own: np.ndarray) -> None:
    """Refuse observed values that are not those the tree was made with.

    Args:
        site: Their site.
        given: The values.
        own: Those of the tree.

    Raises:
        DataError: If they differ.
    """
    if given.shape == (*own.shape, 1):
        given = given[..., 0]
    if given.shape != own.shape or given.dtype.kind not in "fiub":
        msg = f"y of {site!r} has shape {given.shape}, and the tree's own {own.shape}."
        raise DataError(msg)
    given, own = given.astype(np.float64), own.astype(np.float64)
    scale = np.nanmax(np.abs(own), initial=0.0)
    same = np.isclose(given, own, rtol=1e-5, atol=1e-6 * scale) | (np.isnan(given))
    if same.all():
        return
    row = int(np.argmax(~same.reshape(len(same), -1).all(1)))
    why = "another scale or other rows"
    if np.allclose(np.sort(given, axis=0), np.sort(own, axis=0), atol=1e-6 * scale):
        why = "the same values in another order"
    msg = (
        f"y of {site!r} is not what the tree was made with, first in row {row}: {why}. Leave y= "
        "out to take the tree's own, or pass the values of its rows in their order."
    )
    raise DataError(msg)


def named_columns(name: str, value: Any, labels: list[str] | None = None) -> list[tuple[str, Any]]:
    """Split a table or an array into columns with names.

    Args:
        name: Name of the array.
        value: The table or array.
        labels: Names of its columns.
    """
    if is_table(value):
        frame = value if isinstance(value, pd.DataFrame) else value.to_pandas()
        return [(str(one), frame.iloc[:, at]) for at, one in enumerate(frame.columns)]
    if isinstance(value, pd.Series):
        return [(name, value)]
    array = np.asarray(value)
    if array.ndim == 1:
        return [(name, array)]
    if array.ndim != 2 or array.shape[1] > MOST_COLUMNS:
        return []
    # Columns that have names of their own need no name of their array.
    own = labels and any(not label.isdigit() for label in labels)
    return [(labels[at] if own else f"{name}[{at}]", array[:, at]) for at in range(array.shape[1])]
