"""Groups of rows: from a column, labels, or several of them, to a number for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from jax.typing import ArrayLike

from aimz_lab.data.labels import AxisLabels, row_labels
from aimz_lab.data.ranged_source import is_dask_table
from aimz_lab.data.tables import is_a, is_table, native_table
from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.spelling import did_you_mean
from aimz_lab.types import SAMPLE_DIMS, shown

if TYPE_CHECKING:
    import pandas as pd

GroupBy: TypeAlias = str | ArrayLike | Sequence[str | ArrayLike] | Mapping[str, ArrayLike]
"""The name of a column, one label per row, or several of either, also by name."""

MOST_GROUPS = 10_000
"""Most groups of a call: each has a value for every draw."""

LONGEST_NAME = 200
"""Most bytes of the name of a dimension."""


class GroupLabels(NamedTuple):
    """A label for each row.

    Attributes:
        name: Name of the dimension of the groups.
        labels: The labels, each once, in order.
        codes: For each row the number of its label; -1 for a row without one.
        rows: Labels of the rows, to compare with those of the data.
        column: Name of the column of a table that they are; empty if they are none.
    """

    name: str
    labels: np.ndarray
    codes: np.ndarray
    rows: AxisLabels | None = None
    column: str = ""

    def missing(self) -> str:
        """Say which rows have no label, and what to do; empty if all have one."""
        rows = np.flatnonzero(self.codes < 0)
        if not len(rows):
            return ""
        advice = "Leave these rows out, or give them a label, such as .fillna('unknown')."
        if self.column:  # a category of the kernel knows no further level
            advice = (
                f"Leave these rows out: df.dropna(subset=[{self.column!r}]); or, if the model does "
                f"not use that column, give them a label: by=df[{self.column!r}].fillna('unknown')."
            )
        return (
            f"{_what(self.name)} misses the labels of {len(rows)} of {len(self.codes)} rows, first "
            f"of row {rows[0]}. {advice}"
        )


def group_labels(
    by: GroupBy, inputs: object, kept: np.ndarray | None = None, *, may_miss: bool = False
) -> list[GroupLabels]:
    """Return the labels that ``by=`` gives the rows of a call.

    Args:
        by: The name of a column; one label per row, as an array or a column; a list of several; or
            a mapping that names them.
        inputs: The call's input, whose columns can be named if it is a data frame.
        kept: Positions of the rows that are used, or ``None`` for all.
        may_miss: Whether some rows may have no label, as they may not be used.

    Raises:
        ArgumentError: If a column does not exist, or labels have no order or more than one axis, or
            two have the same name.
        DataError: If a label is missing that has to be there, or a level of a category has no row.
    """
    inputs = native_table(inputs)
    if isinstance(by, Mapping):
        named = [(str(name), labels) for name, labels in by.items()]
    else:
        several = list(by) if isinstance(by, (list, tuple)) else [by]
        named = [
            (one, _column(one, inputs)) if isinstance(one, str) else (None, one) for one in several
        ]
    n_rows = len(inputs) if is_table(inputs) else None
    found = [
        labels_of(_of_rows(each, n_rows, kept), name=name, may_miss=may_miss)
        for name, each in named
    ]
    names = [one.name for one in found]
    if not names or len(set(names)) < len(names):
        msg = (
            f"by= groups by {', '.join(map(repr, names)) or 'nothing'}; give each a name of its "
            "own: by={'name': labels, ...}."
        )
        raise ArgumentError(msg)
    return found


def labels_of(by: Any, *, name: str | None = None, may_miss: bool = False) -> GroupLabels:
    """Return groups from one label per row.

    Args:
        by: An array, a list, or a column of a table.
        name: Name of their dimension; by default that of the column, else ``"group"``.
        may_miss: Whether some may be missing; all of them may not.

    Raises:
        ArgumentError: If they are not one per row, or of kinds without an order.
        DataError: If one is missing that has to be there, or a level of a category has no row.
    """
    import pandas as pd

    name = _usable(getattr(by, "name", None) if name is None else name)
    try:
        column = _as_column(by)
        if isinstance(column.dtype, pd.CategoricalDtype):
            codes, labels = column.cat.codes.to_numpy(), column.cat.categories
        else:
            codes, labels = pd.factorize(column, sort=True)
    except (TypeError, ValueError) as error:
        if _ndim(by) != 1:
            msg = f"{_what(name)} takes one label per row; its labels have {_shape(by)}."
        else:
            msg = f"{_what(name)} takes labels of one kind, numbers or texts; got {shown(by)}."
        raise ArgumentError(msg) from error
    column = getattr(by, "name", None)
    found = GroupLabels(
        name,
        _plain(labels),
        codes.astype(np.int32),
        row_labels(by),
        column if isinstance(column, str) else "",
    )
    if not (may_miss and (codes >= 0).any()) and (why := found.missing()):
        raise DataError(why)
    _check_groups(name, codes, labels)
    return found


def _as_column(by: Any) -> pd.Series:
    import pandas as pd

    if is_a(by, "polars", "Series"):
        values = by.to_list()
        if "Enum" in str(by.dtype):
            return pd.Series(pd.Categorical(values, categories=by.dtype.categories.to_list()))
        return pd.Series(values)
    if is_a(by, "pandas", "Series"):
        return by.reset_index(drop=True)
    if is_a(by, "pandas", "Index", "Categorical"):
        return pd.Series(by)
    if _ndim(by) != 1:
        raise ValueError
    values = np.asarray(by)
    kinds = {type(one) for one in by} if isinstance(by, (list, tuple)) else set()
    if str in kinds and len(kinds) > 1:
        raise TypeError
    return pd.Series(values)


def _of_rows(by: Any, n_rows: int | None, kept: np.ndarray | None) -> Any:
    """Return the labels of the rows that are used, after a check of their number.

    Raises:
        ArgumentError: If this is a table, or text where labels are needed.
        DataError: If there are more or fewer than the table has rows.
    """
    if is_table(by) or isinstance(by, str):
        what = "a whole table" if is_table(by) else f"the text {by!r}"
        msg = (
            f"by= takes names of columns or labels of rows, and got {what}: by=['clinic', 'sex'], "
            "by=df.clinic, or by={'name': labels}."
        )
        raise ArgumentError(msg)
    if n_rows is not None and _ndim(by) == 1 and len(by) != n_rows:
        msg = f"by= has labels for {len(by):,} rows; the table has {n_rows:,}."
        raise DataError(msg)
    if kept is None:
        return by
    import pandas as pd

    return by.iloc[kept] if is_a(by, "pandas", "Series") else pd.Index(_as_column(by))[kept]


def _column(name: str, inputs: object) -> Any:
    """Return a column of a table; of a Dask table it is read whole, as each row needs its group."""
    if not (is_table(inputs) or is_dask_table(inputs)):
        msg = (
            f"by={name!r} names a column, and the call has no data frame; pass one label per row, "
            "such as by=df.clinic."
        )
        raise ArgumentError(msg)
    have = list(map(str, inputs.columns))
    if have.count(name) != 1:
        what = "several columns" if name in have else "no column"
        meant = "" if name in have else did_you_mean(name, have)
        msg = (
            f"by={name!r}: the table has {what} of that name.{meant} It has: "
            f"{', '.join(have[:20])}."
        )
        raise ArgumentError(msg)
    if is_a(inputs, "pandas", "DataFrame"):
        return inputs.iloc[:, have.index(name)]
    if is_dask_table(inputs):  # its partitions number their rows each for itself
        return inputs[name].compute().reset_index(drop=True)
    return inputs[name]


def _check_groups(name: str, codes: np.ndarray, labels: pd.Index) -> None:
    """Refuse groups without rows, and almost as many groups as rows."""
    if len(labels) > MOST_GROUPS:
        msg = (
            f"{_what(name)} has {len(labels):,} different labels, and a result has up to "
            f"{MOST_GROUPS:,} groups; put numbers into ranges first, as by pandas.cut."
        )
        raise ArgumentError(msg)
    empty = np.flatnonzero(np.bincount(codes[codes >= 0], minlength=len(labels)) == 0)
    if len(empty):
        listed = ", ".join(repr(str(labels[i])) for i in empty[:5])
        msg = (
            f"{_what(name)} has no rows with {listed}, and nothing to average; drop the unused "
            "categories: .cat.remove_unused_categories()."
        )
        raise DataError(msg)


def check_crossed(groups: Sequence[GroupLabels], counts: np.ndarray) -> None:
    """Refuse combinations of labels without a row.

    Args:
        groups: Several labels of each row.
        counts: Rows of each combination, with an axis for each of ``groups``.

    Raises:
        DataError: If there is one; it names the first.
    """
    empty = np.argwhere(counts == 0)
    if not len(empty):
        return
    first = ", ".join(
        f"{one.name} {one.labels[i]}" for one, i in zip(groups, empty[0], strict=True)
    )
    msg = (
        f"by= has no rows with {first}, and {len(empty)} of {counts.size} combinations are empty. "
        "Join the labels to one: by=df[['a', 'b']].astype(str).agg(', '.join, axis=1)."
    )
    raise DataError(msg)


def _plain(labels: Any) -> np.ndarray:
    """Return labels as results keep them: numbers, texts and dates; ranges as their text."""
    if getattr(labels, "tz", None) is not None:
        labels = labels.tz_localize(None)
    values = np.asarray(labels)
    return values if values.dtype.kind in "biufmMUS" else values.astype(str)


def _usable(name: object) -> str:
    """Return a name if it can be a dimension of results and a folder of a store."""
    fits = isinstance(name, str) and name.isprintable() and "\\" not in name
    fits = fits and not name.startswith("__") and len(name.encode(errors="replace")) <= LONGEST_NAME
    return name if fits and name not in ("", ".", "..", "zarr.json", *SAMPLE_DIMS) else "group"


def _what(name: str) -> str:
    return "by=" if name == "group" else f"by={name!r}"


def _shape(value: Any) -> str:
    try:
        return f"the shape {np.shape(value)}"
    except (TypeError, ValueError):
        return "no shape"


def _ndim(value: Any) -> int | None:
    try:
        return np.ndim(value)
    except (TypeError, ValueError):  # ragged, or no array
        return None
