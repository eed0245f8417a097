"""Columns that make a fit slow or its result ambiguous: constant, collinear, of other scales."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Num, Shaped

from aimz_lab.trust.report import Finding
from aimz_lab.types import Columns, Rows

_MOST_ROWS = 1000
_MOST_COLUMNS = 64
"""Wider arrays are images or embeddings, and not compared column by column."""

_COLLINEAR = 1e3
"""Condition number of the standardised columns; Belsley, Kuh and Welsch (1980) have 30 as a sign
of trouble with least squares, and single precision loses half of its digits here."""

_SCALES = 100.0
_ADVICE = "Standardise the columns; with a table, by formulas such as 'scale(age)'."


def column_findings(rows: Rows, columns: Columns, output: str) -> list[Finding]:
    """Judge the columns of each per-row argument, on up to 1,000 rows.

    Args:
        rows: The arguments by name, output included.
        columns: Names of columns, by argument.
        output: Name of the output.
    """
    findings = []
    for name, array in rows.items():
        values = _some_rows(array)
        if values is None:
            continue
        names = columns.get(name) or [f"column {i} of {name}" for i in range(values.shape[1])]
        if name == output:
            findings += _constant_output(name, values)
        else:
            findings += _of_inputs(values, [str(one) for one in names])
    return findings


def column_notes(rows: Rows, columns: Columns, output: str) -> list[str]:
    """Return what is worth a look, as sentences."""
    found = column_findings(rows, columns, output)
    return [f"{one.text[0].upper()}{one.text[1:]}." for one in found]


def _some_rows(array: Shaped[np.ndarray, "row ..."]) -> Num[np.ndarray, "row column"] | None:
    if array.ndim not in (1, 2) or not np.issubdtype(array.dtype, np.floating):
        return None
    if array.ndim == 2 and array.shape[1] > _MOST_COLUMNS:
        return None
    step = max(1, math.ceil(len(array) / _MOST_ROWS))
    values = np.asarray(array[::step], np.float64).reshape(-1, *array.shape[1:] or (1,))
    return values[np.isfinite(values).all(1)] if len(values) else None


def _constant_output(name: str, values: np.ndarray) -> list[Finding]:
    if len(values) < 3 or np.ptp(values, axis=0).max() > 0:
        return []
    text = f"the output {name} is the same in all rows"
    return [Finding("columns", "amber", text, "Check that the right column is the output.")]


def _of_inputs(values: np.ndarray, names: list[str]) -> list[Finding]:
    if len(values) < 3:
        return []
    sd = values.std(0)
    constant = sd <= 1e-7 * np.maximum(np.abs(values).max(0), 1e-30)
    findings = []
    # One constant column may be the intercept.
    if constant.sum() > 1:
        listed = ", ".join(names[i] for i in np.flatnonzero(constant)[:5])
        text = f"{int(constant.sum())} columns are constant ({listed})"
        findings.append(Finding("columns", "amber", text, "Leave constant columns out."))
    moving = np.flatnonzero(~constant)
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
