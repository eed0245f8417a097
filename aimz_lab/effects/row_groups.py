"""Which rows an average effect is taken over: groups, weights, and a part of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from aimz_lab.data import AxisLabels, row_labels
from aimz_lab.data.groups import (
    GroupBy,
    GroupLabels,
    check_crossed,
    group_labels,
)
from aimz_lab.data.tables import is_table
from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.spelling import did_you_mean
from aimz_lab.system.imports import late_import
from aimz_lab.types import shown

Inputs = Sequence[Mapping[str, Any]]
"""Arguments of the scenarios by name; with them, columns and arguments can be named."""


@dataclass(frozen=True)
class RowGroups:
    """Groups and weights of rows.

    Attributes:
        codes: The group of each row, or ``None`` if all rows are one.
        weights: The weight of each row, 0 for rows that are left out; ``None`` for equal ones.
        coords: Labels of the groups by dimension; crossed if there are several.
        labels: Labels of the rows, to compare with those of the data.
        described: What is averaged, for the attributes of results.
        given: The arguments that these come from, for messages.
        labelled: Those that the labels come from, where these are others.
        unknown: Rows whose group or weight is missing, as they may be left out, by what to say of
            them if they are used.
    """

    codes: Int[np.ndarray, " row"] | None = None
    weights: Float[np.ndarray, " row"] | None = None
    coords: Mapping[str, np.ndarray] = field(default_factory=dict)
    labels: AxisLabels | None = None
    described: Mapping[str, str] = field(default_factory=dict)
    given: str = ""
    labelled: str = ""
    unknown: Mapping[str, Bool[np.ndarray, " row"]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of groups along each dimension."""
        return tuple(len(labels) for labels in self.coords.values())

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(np.prod(self.shape, dtype=int))

    @property
    def n_rows(self) -> int | None:
        """Number of rows that were described; ``None`` if any number fits."""
        given = next((each for each in (self.codes, self.weights) if each is not None), None)
        return None if given is None else len(given)

    def totals(self, n_rows: int) -> Float[np.ndarray, " group"]:
        """Return the sum of the weights of each group; its rows, if these weigh the same."""
        codes = np.zeros(n_rows, int) if self.codes is None else self.codes
        return np.bincount(codes, weights=self.weights, minlength=self.n_groups)

    def among(self, kept: Int[np.ndarray, " kept"] | None, table: Any) -> RowGroups:
        """Return the groups of the rows of a table that were kept.

        Args:
            kept: Their positions; ``None`` for all rows.
            table: The table; any input of which all rows are kept.

        Returns:
            These groups, unless they describe every row of the table and some were left out.

        Raises:
            DataError: If no row of a group was kept, or the group or weight of one is missing.
        """
        is_whole = kept is None or self.n_rows != len(table)
        for why, rows in self.unknown.items():
            if rows[slice(None) if is_whole else kept].any():
                raise DataError(why)
        if is_whole:
            return self
        codes, weights = (None if v is None else v[kept] for v in (self.codes, self.weights))
        labels = None if self.labels is None else self.labels.in_order(kept)
        found = replace(self, codes=codes, weights=weights, labels=labels, unknown={})
        why = "Rows with missing values were left out of the table, and they"
        _check_weighed(found, len(kept), why)
        return found


def row_groups(
    by: GroupBy | None,
    weights: str | ArrayLike | None,
    subset: str | ArrayLike | None,
    inputs: Inputs = (),
    *,
    may_drop: bool = False,
) -> RowGroups:
    """Return groups and weights of rows.

    Args:
        by: A column or an argument by its name, one label per row, or several of either.
        weights: Such a name, or one weight per row; at least 0.
        subset: Such a name, or a flag per row: which rows count.
        inputs: The arguments of the scenarios, whose columns can be named.
        may_drop: Whether rows with missing values may be left out of the table. Their groups and
            weights may be missing then; :meth:`RowGroups.among` refuses those of others.

    Raises:
        ArgumentError: If a name is not known or differs between the scenarios, or values do not
            fit.
        DataError: If they are not one per row, a label is missing, or a group has no weight.
    """
    groups = [] if by is None else group_labels(_named(by, inputs), None, may_miss=may_drop)
    unknown = {one.missing(): one.codes < 0 for one in groups}
    groups = [one._replace(codes=np.maximum(one.codes, 0)) for one in groups]
    weight = _weights(weights, inputs, unknown if may_drop else None)
    flags = _subset(subset, inputs, unknown if may_drop else None)
    lengths = {f"by={one.name!r}": len(one.codes) for one in groups}
    lengths |= {} if weight is None else {"weights=": len(weight)}
    lengths |= {} if flags is None else {"subset=": len(flags)}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} has {n:,}" for name, n in lengths.items())
        raise DataError(f"An average effect needs one value for every row: {listed}.")
    if flags is not None:
        weight = flags if weight is None else weight * flags
    coords = {one.name: one.labels for one in groups}
    codes = _codes(groups)
    values = {"by": [one.rows for one in groups], "weights": [weights], "subset": [subset]}
    given = {"by=": by, "weights=": weights, "subset=": subset}
    found = RowGroups(
        codes,
        weight,
        coords,
        agreeing_labels(values),
        _told(weights, subset),
        " and ".join(name for name, value in given.items() if value is not None),
        unknown={why: rows for why, rows in unknown.items() if why},
    )
    if weight is None:
        return found
    _check_weighed(found, len(weight), "subset= or weights=")
    return replace(found, weights=_in_units_of_groups(found))


def _in_units_of_groups(groups: RowGroups) -> np.ndarray:
    """Return weights whose largest is 1 in each group: a mean is that of any unit.

    Single precision has its own range, and a sum of the largest numbers none.
    """
    codes = np.zeros(len(groups.weights), int) if groups.codes is None else groups.codes
    largest = np.zeros(groups.n_groups)
    np.maximum.at(largest, codes, groups.weights)
    return groups.weights / largest[codes]


def _codes(groups: Sequence[GroupLabels]) -> np.ndarray | None:
    if not groups:
        return None
    sizes = [len(one.labels) for one in groups]
    codes = np.ravel_multi_index([one.codes for one in groups], sizes)
    check_crossed(groups, np.bincount(codes, minlength=int(np.prod(sizes))).reshape(sizes))
    return codes.astype(np.int32)


def agreeing_labels(
    given: Mapping[str, Sequence[object]], known: AxisLabels | None = None
) -> AxisLabels | None:
    """Return the labels that values have for their rows, after a check that they agree.

    Args:
        given: Values by argument; those without labels agree with any.
        known: Labels that are known already.

    Raises:
        DataError: If two label a row differently.
    """
    for argument, values in given.items():
        for labels in filter(None, map(row_labels, values)):
            row = None if known is None else known.conflict(labels)
            if row is not None:
                msg = (
                    f"The rows of {argument}= have other labels than those beside it: row {row} is "
                    f"{labels.text(row)} in {argument}= and {known.text(row)} elsewhere. Align "
                    "them by .loc[index], or drop the labels (.to_numpy())."
                )
                raise DataError(msg)
            known = labels if known is None or known.counts else known
    return known


def _told(weights: object, subset: object) -> dict[str, str]:
    """Describe weights and subset by their names, for the attributes of results."""
    given = {"weights": weights, "subset": subset}
    return {
        name: value if isinstance(value, str) else str(getattr(value, "name", None) or "given")
        for name, value in given.items()
        if value is not None
    }


def _check_weighed(found: RowGroups, n_rows: int, why: str) -> None:
    empty = np.flatnonzero(found.totals(n_rows) == 0)
    if not len(empty):
        return
    if not found.coords:
        raise DataError(f"No row is left to average: {why} leave out every one.")
    at = np.unravel_index(empty[0], found.shape)
    labels = zip(found.coords.items(), at, strict=True)
    first = ", ".join(f"{name} {values[i]}" for (name, values), i in labels)
    more = f", and of {len(empty) - 1} more groups" if len(empty) > 1 else ""
    msg = (
        f"{why} leave no row of {first}{more}; give such rows the label of another group in by=, "
        "or choose other rows."
    )
    raise DataError(msg)


def numbers_by_row(argument: str, value: object, inputs: Inputs) -> Float[np.ndarray, " row"]:
    """Return one number per row; of a column or an argument, if it is named.

    Args:
        argument: Whose value it is, for messages.
        value: The values, or a name.
        inputs: The arguments of the scenarios.

    Raises:
        ArgumentError: If the name is not known, or these are no numbers.
    """
    return _numbers(argument, _value(argument, value, inputs))


Unknown = dict[str, np.ndarray]
"""Rows whose values are missing, by what to say of them if they are used."""


def _weights(weights: object, inputs: Inputs, unknown: Unknown | None) -> np.ndarray | None:
    if weights is None:
        return None
    values = numbers_by_row("weights", weights, inputs)
    bad = ~(np.isfinite(values) & (values >= 0))
    if not bad.any():
        return values
    first = np.flatnonzero(bad)[0]
    msg = f"weights= must be finite and at least 0; that of row {first} is {values[first]}."
    return _without_missing(values, bad, msg, unknown)


def _subset(subset: object, inputs: Inputs, unknown: Unknown | None) -> np.ndarray | None:
    if subset is None:
        return None
    values = numbers_by_row("subset", subset, inputs)
    bad = (values != 0) & (values != 1)
    if not bad.any():
        return values
    first = np.flatnonzero(bad)[0]
    msg = (
        f"subset= takes a flag for each row, True or False; that of row {first} is "
        f"{values[first]}. Compare a column: subset=df.treated == 1."
    )
    return _without_missing(values, bad, msg, unknown)


def _without_missing(
    values: np.ndarray, bad: np.ndarray, msg: str, unknown: Unknown | None
) -> np.ndarray:
    """Return values with 0 for missing ones, which are noted as unknown.

    Raises:
        DataError: If other ones are bad, or none may be missing.
    """
    if unknown is None or not np.isnan(values[bad]).all():
        raise DataError(msg)
    unknown[msg] = bad
    return np.where(bad, 0.0, values)


def _numbers(name: str, value: object) -> np.ndarray:
    try:
        values = np.asarray(value)
        if values.dtype.kind not in "biuf":
            raise TypeError
        values = values.astype(np.float64)
    except Exception as error:
        msg = f"{name}= takes one number per row; got {shown(value)}."
        raise ArgumentError(msg) from error
    if values.ndim != 1:
        msg = f"{name}= takes one number per row; its values have shape {values.shape}."
        raise ArgumentError(msg)
    return values


def _named(by: GroupBy, inputs: Inputs) -> GroupBy:
    """Replace the names of columns and arguments by their values."""
    if isinstance(by, str):
        return {by: _value("by", by, inputs)}
    if isinstance(by, Mapping):
        return {str(name): _value("by", each, inputs) for name, each in by.items()}
    if isinstance(by, list | tuple) and by and all(isinstance(one, str) for one in by):
        have = set(_names(inputs))
        if not have & set(by) and len(by) > len(have):
            return np.asarray(by)  # labels of rows, written out
        return {one: _value("by", one, inputs) for one in by}
    if isinstance(by, list | tuple) and all(isinstance(one, str) or np.ndim(one) for one in by):
        return [_column(one, inputs) if isinstance(one, str) else one for one in by]
    return by


def _column(name: str, inputs: Inputs) -> Any:
    """Return the values of a column or an argument, with its name."""
    value = _value("by", name, inputs)
    return value if hasattr(value, "name") else late_import("pandas").Series(value, name=name)


def _names(inputs: Inputs) -> list[str]:
    names: dict[str, None] = {}
    for each in inputs:
        for name, value in each.items():
            if is_table(value):
                names |= dict.fromkeys(map(str, value.columns))
            elif np.ndim(value):  # not an option of the call
                names[name] = None
    return list(names)


def _value(argument: str, value: object, inputs: Inputs) -> Any:
    """Return a value per row; of a column or an argument, if it is named."""
    if not isinstance(value, str):
        return value
    found = [one for each in inputs for one in _of_name(value, each)]
    if not found:
        names = _names(inputs)
        known = ", ".join(names[:20]) or "none: pass one value per row"
        msg = (
            f"{argument}={value!r}: no column or argument of that name."
            f"{did_you_mean(value, names)} There are: {known}."
        )
        raise ArgumentError(msg)
    if any(not _equal(found[0], other) for other in found[1:]):
        msg = (
            f"{argument}={value!r} differs between the scenarios, so that it does not say which "
            f"rows belong together. Pass its values as observed: {argument}=df[{value!r}]."
        )
        raise ArgumentError(msg)
    return found[0]


def _of_name(name: str, given: Mapping[str, Any]) -> list[Any]:
    found = []
    for key, value in given.items():
        if is_table(value):
            columns = list(map(str, value.columns))
            if columns.count(name) == 1:
                found.append(value[value.columns[columns.index(name)]])
        elif key == name:
            found.append(value)
    return found


def _equal(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape:
        return False
    both_missing = (one != one) & (other != other)
    return bool(((one == other) | both_missing).all())
