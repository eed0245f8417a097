"""Columns that make a fit slow or its result ambiguous: constant, collinear, of other scales."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Num, Shaped

from aimz_lab.system.random_streams import own_rng
from aimz_lab.trust.report import Finding
from aimz_lab.types import Columns, Rows

_MOST_ROWS, _FEWEST_ROWS = 1000, 3
_MOST_VALUES = 1 << 22
"""Of more rows, once something was found in few."""

_MOST_COLUMNS = 64
"""Wider arrays are images or embeddings, and not compared column by column."""

_COLLINEAR = 1e3
"""Condition number of the standardised columns; Belsley, Kuh and Welsch (1980) have 30 as a sign
of trouble with least squares, and single precision loses half of its digits here."""

_LEAST_WEIGHT = 1e-3
"""Of a column that takes part in a sum that is 0, if all weights are a vector of length 1."""

_LEAST_CONSTANT = 0.01
"""Of the weighted columns that add up to a constant, the share that it is at least: more than the
rounding and the noise that collinear columns may have."""

_SCALES = 100.0
_ADVICE = "Standardise the columns; with a table, by formulas such as 'scale(age)'."

_MOST_NAMED = 5
_INTERCEPTS = frozenset({"1", "bias", "const", "constant", "intercept", "one", "ones"})
"""Names of columns of ones that belong there: the data is not meant to say anything by them."""


def column_findings(rows: Rows, columns: Columns, output: str) -> list[Finding]:
    """Judge the columns of each per-row argument, on up to 1,000 rows; a finding, on many more.

    Args:
        rows: The arguments by name, output included.
        columns: Names of columns, by argument.
        output: Name of the output.
    """
    findings, constant = [], []
    for name, array in rows.items():
        sample = _some_rows(array)
        if sample is None or len(sample) < _FEWEST_ROWS:
            continue
        names = [str(one) for one in columns.get(name) or ()]
        same = _constant(array, sample)
        if name == output:
            findings += _constant_output(name) if same.all() else []
            continue
        constant += _named(name, names, same, sample)
        if array.dtype.kind == "f":
            names = names or [f"column {i} of {name}" for i in range(len(same))]
            kept = [names[i] for i in np.flatnonzero(~same)]
            found = _of_inputs(sample[:, ~same], kept)
            if found and len(sample) < len(array):  # others may have what these rows lack
                more = _some_rows(array, _MOST_VALUES // len(same))
                found = _of_inputs(more[:, ~same], kept)
            findings += found
    return [*_constant_inputs(constant), *findings]


def column_notes(rows: Rows, columns: Columns, output: str) -> list[str]:
    """Return what is worth a look, as sentences."""
    found = column_findings(rows, columns, output)
    return [f"{one.text[0].upper()}{one.text[1:]}." for one in found]


def _some_rows(
    array: Shaped[np.ndarray, "row ..."], most: int = _MOST_ROWS
) -> Num[np.ndarray, "row column"] | None:
    if array.ndim not in (1, 2) or array.dtype.kind not in "biuf":
        return None
    if array.ndim == 2 and array.shape[1] > _MOST_COLUMNS:
        return None
    step = max(1, math.ceil(len(array) / most))
    # One of each so many rows, and not always the first: rows may repeat in a period.
    first = np.arange(0, len(array), step)
    rows = first + own_rng("rows of a column").integers(np.minimum(step, len(array) - first))
    return np.asarray(array[rows], np.float64).reshape(-1, *array.shape[1:] or (1,))


def _constant(
    array: Shaped[np.ndarray, "row ..."], sample: Num[np.ndarray, "row column"]
) -> Bool[np.ndarray, " column"]:
    """Return which columns have one value in all rows; all are read of those that may."""
    same = _has_one_value(sample)
    if len(sample) < len(array):
        every = array.reshape(len(array), -1)
        for i in np.flatnonzero(same):
            same[i] = _has_one_value(np.asarray(every[:, i : i + 1], np.float64))[0]
    return same


def _has_one_value(values: Num[np.ndarray, "row column"]) -> Bool[np.ndarray, " column"]:
    """Return which columns have one finite value, up to the rounding of single precision."""
    finite = np.isfinite(values)
    low = np.where(finite, values, np.inf).min(0)
    high = np.where(finite, values, -np.inf).max(0)
    near = high - low <= 1e-7 * np.maximum(np.abs(low), np.abs(high))
    return near & finite.any(0)


def _constant_output(name: str) -> list[Finding]:
    text = f"the output {name} is the same in all rows"
    return [Finding("columns", "amber", text, "Check that the right column is the output.")]


def _named(
    argument: str,
    names: Sequence[str],
    same: Bool[np.ndarray, " column"],
    sample: Num[np.ndarray, "row column"],
) -> list[str]:
    """Name the constant columns of an argument, but a column of ones that is the intercept."""
    found = []
    for i in np.flatnonzero(same):
        are_ones = len(same) > 1 and np.all(sample[:, i] == 1)
        if are_ones and (not names or names[i].lower() in _INTERCEPTS):
            continue
        in_matrix = f"column {i} of {argument}" if len(same) > 1 else argument
        found.append(names[i] if names else in_matrix)
    return found


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _constant_inputs(names: Sequence[str]) -> list[Finding]:
    if not names:
        return []
    are, listed = "is" if len(names) == 1 else "are", _listed(names)
    text = f"the data says nothing of the effect of {listed}, which {are} the same in all rows"
    advice = "Check that these are the right columns and rows; leave out what does not vary."
    return [Finding("columns", "amber", text, advice)]


def _of_inputs(values: Num[np.ndarray, "row column"], names: Sequence[str]) -> list[Finding]:
    """Judge columns that are not constant."""
    findings: list[Finding] = []
    values = values[np.isfinite(values).all(1)]
    if len(values) < _FEWEST_ROWS or len(names) < 2:
        return findings
    sd = values.std(0)
    # A column may vary in few rows, and not in these.
    moving = np.flatnonzero(sd > 1e-7 * np.maximum(np.abs(values).max(0), 1e-30))
    if len(moving) < 2:
        return findings
    small, large = moving[np.argmin(sd[moving])], moving[np.argmax(sd[moving])]
    if sd[large] / sd[small] > _SCALES:
        times = sd[large] / sd[small]
        text = f"the spread of {names[large]} is {times:,.0f} times that of {names[small]}"
        findings.append(Finding("columns", "amber", text, _ADVICE))
    return findings + _collinear(values[:, moving], [names[i] for i in moving])


def _collinear(values: Float[np.ndarray, "row column"], names: Sequence[str]) -> list[Finding]:
    """Say which columns are collinear, alone or with an intercept; of several such sets, one."""
    if len(values) <= values.shape[1]:
        return []
    mean, sd = values.mean(0), values.std(0)
    standard = (values - mean) / sd
    products = standard.T @ standard
    if (direction := _null_direction(products)) is None:
        return []
    by_weight = np.argsort(-np.abs(direction), kind="stable")

    def of_first(count: int) -> tuple[np.ndarray, Float[np.ndarray, " column"] | None]:
        few = np.sort(by_weight[:count])
        return few, _null_direction(products[np.ix_(few, few)])

    # The condition number does not fall with the number of columns.
    counts = range(2, len(names) + 1)
    found = bisect_left(counts, x=True, key=lambda count: of_first(count)[1] is not None)
    few, direction = of_first(counts[found])
    # Centred, the weighted columns add up to 0 in every row; as they are, to a constant.
    weight, shift = np.abs(direction), direction * mean[few] / sd[few]
    has_intercept = abs(shift.sum()) > _LEAST_CONSTANT * (weight + np.abs(shift)).sum()
    named = [names[i] for i in few[weight > _LEAST_WEIGHT]]
    rest = "the other" if len(named) == 2 else "the others"
    rest += " and the intercept" if has_intercept else ""
    text = f"one of {_listed(named)} follows from {rest}: they are collinear"
    return [Finding("columns", "amber", text, "Leave one of them out, or take a tighter prior.")]


def _null_direction(
    products: Float[np.ndarray, "column column"],
) -> Float[np.ndarray, " column"] | None:
    """Return the weights by which collinear columns add up to 0; ``None`` if they are not so."""
    squares, directions = np.linalg.eigh(products)  # many times as fast as an SVD of the columns
    return directions[:, 0] if squares[0] * _COLLINEAR**2 <= squares[-1] else None
