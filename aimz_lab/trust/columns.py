"""Columns that make a fit slow or its result ambiguous: constant, collinear, of other scales."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Num, Shaped

from aimz_lab.trust.report import Finding
from aimz_lab.types import Columns, Rows

_MOST_ROWS, _FEWEST_ROWS = 1000, 3
_MOST_COLUMNS = 64
"""Wider arrays are images or embeddings, and not compared column by column."""

_COLLINEAR = 1e3
"""Condition number of the standardised columns; Belsley, Kuh and Welsch (1980) have 30 as a sign
of trouble with least squares, and single precision loses half of its digits here."""

_SCALES = 100.0
_ADVICE = "Standardise the columns; with a table, by formulas such as 'scale(age)'."

_MOST_NAMED = 5
_INTERCEPTS = frozenset({"1", "bias", "const", "constant", "intercept", "one", "ones"})
"""Names of columns of ones that belong there: the data is not meant to say anything by them."""


def column_findings(rows: Rows, columns: Columns, output: str) -> list[Finding]:
    """Judge the columns of each per-row argument, on up to 1,000 rows.

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
            values = sample[np.isfinite(sample).all(1)]
            names = names or [f"column {i} of {name}" for i in range(values.shape[1])]
            findings += _of_inputs(values[:, ~same], [names[i] for i in np.flatnonzero(~same)])
    return [*_constant_inputs(constant), *findings]


def column_notes(rows: Rows, columns: Columns, output: str) -> list[str]:
    """Return what is worth a look, as sentences."""
    found = column_findings(rows, columns, output)
    return [f"{one.text[0].upper()}{one.text[1:]}." for one in found]


def _some_rows(array: Shaped[np.ndarray, "row ..."]) -> Num[np.ndarray, "row column"] | None:
    if array.ndim not in (1, 2) or array.dtype.kind not in "biuf":
        return None
    if array.ndim == 2 and array.shape[1] > _MOST_COLUMNS:
        return None
    step = max(1, math.ceil(len(array) / _MOST_ROWS))
    return np.asarray(array[::step], np.float64).reshape(-1, *array.shape[1:] or (1,))


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


def _constant_inputs(names: Sequence[str]) -> list[Finding]:
    if not names:
        return []
    more = len(names) - _MOST_NAMED
    listed = ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    are = "is" if len(names) == 1 else "are"
    text = f"the data says nothing of the effect of {listed}, which {are} the same in all rows"
    advice = "Check that these are the right columns and rows; leave out what does not vary."
    return [Finding("columns", "amber", text, advice)]


def _of_inputs(values: np.ndarray, names: list[str]) -> list[Finding]:
    """Judge columns that are not constant."""
    findings: list[Finding] = []
    if len(values) < _FEWEST_ROWS or len(names) < 2:
        return findings
    sd = values.std(0)
    # A column may vary in few rows, and not in these.
    moving = np.flatnonzero(sd > 1e-7 * np.maximum(np.abs(values).max(0), 1e-30))
    if len(moving) < 2:
        return findings
    small, large = moving[np.argmin(sd[moving])], moving[np.argmax(sd[moving])]
    if sd[large] / sd[small] > _SCALES:
        text = (
            f"{names[large]} is spread {sd[large] / sd[small]:,.0f} times as wide as {names[small]}"
        )
        findings.append(Finding("columns", "amber", text, _ADVICE))
    return findings + _collinear((values - values.mean(0))[:, moving] / sd[moving], names, moving)


def _collinear(standard: np.ndarray, names: list[str], moving: np.ndarray) -> list[Finding]:
    if len(standard) <= standard.shape[1]:
        return []
    squares, directions = np.linalg.eigh(standard.T @ standard)  # many times as fast as an SVD
    if squares[0] * _COLLINEAR**2 > squares[-1]:
        return []
    least = np.abs(directions[:, 0])
    involved = sorted(i for i in np.argsort(-least)[:4] if least[i] > 0.1)
    listed = ", ".join(names[moving[i]] for i in involved)
    text = f"{listed} are collinear: one follows from the others"
    return [Finding("columns", "amber", text, "Leave one of them out, or take a tighter prior.")]
