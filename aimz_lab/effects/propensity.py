"""Propensity scores: a logistic regression on columns and their squares, with a small ridge."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

_STEPS = 50
_RIDGE = 1.0
"""Prior precision of each slope on standardised columns: separated rows stay finite."""


def propensities(
    design: Float[np.ndarray, "row column"], flags: Bool[np.ndarray, " row"]
) -> Float[np.ndarray, " row"]:
    """Return each row's probability of the flag, given its columns.

    Args:
        design: Columns of numbers; those that are constant count for nothing.
        flags: The flags.
    """
    standard = standardised(design, design)
    squares = np.stack(
        [each**2 for each in standard.T if len(np.unique(each)) > 2] or [np.zeros(len(design))],
        axis=1,
    )
    columns = np.concatenate([standard, standardised(squares, squares)], axis=1)
    full = np.concatenate([np.ones((len(design), 1)), columns], axis=1)
    ridge = np.full(full.shape[1], _RIDGE)
    ridge[0] = 1e-6
    y, beta = flags.astype(float), np.zeros(full.shape[1])
    for _ in range(_STEPS):
        p = _logistic(full @ beta)
        gradient = full.T @ (y - p) - ridge * beta
        curvature = (full * (p * (1 - p))[:, None]).T @ full + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        # A step of Newton's method may overshoot where the flags are nearly separated.
        beta = beta + step * min(1.0, 5.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return _logistic(full @ beta)


def standardised(
    values: Float[np.ndarray, "row column"], like: Float[np.ndarray, "row column"]
) -> Float[np.ndarray, "row column"]:
    """Return columns with the mean and deviation of others taken off; constant ones as 0.

    Args:
        values: The columns.
        like: The columns that mean and deviation are taken from.
    """
    sd = like.std(0)
    return np.where(sd > 0, (values - like.mean(0)) / np.where(sd > 0, sd, 1.0), 0.0)


def area_under_curve(score: np.ndarray, flags: np.ndarray) -> float:
    """Return the probability that a flagged row has the larger score; ties count half."""
    from scipy.stats import rankdata

    n_flagged = int(flags.sum())
    n_other = len(flags) - n_flagged
    ranks = rankdata(score)[flags].sum()
    return float((ranks - n_flagged * (n_flagged + 1) / 2) / (n_flagged * n_other))


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -35, 35)))
