"""Does the guide have the shape of the posterior, also where its own draws do not reach?

A guide that is far too narrow in one direction never draws where the posterior still has mass, so
that the tail of its ratios, and k-hat, say too little. The joint density at its draws says more: of
a normal posterior its log is a quadratic, whose coefficients are the posterior's precision, here
in units of the guide's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from aimz_lab.trust.report import Finding

_MOST_VALUES = 30
_DRAWS_EACH = 2
"""Draws for each coefficient of the quadratic, at least."""

_NARROW, _NARROWER = 0.6, 0.4
_LEAST_SHOWN = 0.01


class Shape(NamedTuple):
    """The guide's standard deviations over the posterior's, in the directions of extremes.

    Attributes:
        least: The smallest ratio; 0 where the posterior is flat as far as the draws tell.
        largest: The largest ratio.
    """

    least: float
    largest: float


def shape_of(
    draws: Float[np.ndarray, "draw entry"], log_p: Float[np.ndarray, " draw"]
) -> Shape | None:
    """Fit a quadratic to the log density; ``None`` where it is none, or values are too many.

    Args:
        draws: Draws of the guide.
        log_p: Log joint density at each, up to a constant.
    """
    count, size = draws.shape
    of_squares = size * (size + 1) // 2
    too_many = size > _MOST_VALUES or _DRAWS_EACH * (1 + size + of_squares) > count
    if not size or too_many or not np.isfinite(log_p).all():
        return None
    centred = draws - draws.mean(0)
    try:
        root = np.linalg.cholesky(np.atleast_2d(np.cov(centred.T)))
    except np.linalg.LinAlgError:
        return None
    white = np.linalg.solve(root, centred.T).T
    rows, columns = np.triu_indices(size)
    # Each product stands for both of its entries in the matrix of second derivatives.
    squares = white[:, rows] * white[:, columns] * np.where(rows == columns, 0.5, 1.0)
    design = np.concatenate([np.ones((count, 1)), white, squares], axis=1)
    target = log_p - log_p.mean()
    found, *_ = np.linalg.lstsq(design, target, rcond=None)
    rest = target - design @ found
    if rest.var() > 0.1 * target.var():
        return None
    curved = np.zeros((size, size))
    curved[rows, columns] = curved[columns, rows] = found[1 + size :]
    precisions = np.linalg.eigvalsh(-curved)
    least, largest = np.sqrt(np.maximum(precisions[[0, -1]], 0))
    return Shape(float(least), float(largest))


def shape_finding(shape: Shape, advice: str) -> Finding:
    """Judge the ratios of standard deviations.

    Args:
        shape: The ratios.
        advice: What to do if they are bad.
    """
    narrow, wide = shape.least, 1 / max(shape.largest, 1e-300)
    worst = min(narrow, wide)
    level = "green" if worst >= _NARROW else "amber" if worst >= _NARROWER else "red"
    text = (
        f"in the directions of extremes, the guide is {_times(shape.least)} to "
        f"{_times(shape.largest)} times as wide as the posterior"
    )
    return Finding("shape", level, text, "" if level == "green" else advice)


def _times(ratio: float) -> str:
    if ratio < _LEAST_SHOWN:
        return f"less than {_LEAST_SHOWN}"
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2g}"
