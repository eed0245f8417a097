"""Choose draws that differ widely from one another, to test a kernel with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int, Num

_ENTRIES = 8
"""Most entries of a site that are looked at; they are spread evenly over it."""


def differing_draws(
    draws: Mapping[str, Num[np.ndarray, "draw ..."]], n_draws: int, count: int
) -> Int[np.ndarray, " chosen"]:
    """Choose a draw in the middle, then one by one the draw that is furthest from those chosen.

    Args:
        draws: Values of sites.
        n_draws: Number of draws.
        count: Number of draws to choose, at most.

    Returns:
        Their numbers. The distance of two draws is that of the entry in which they differ most, in
        standard deviations, so that the least and the greatest value of each entry come first.
        Without values, the draws are spread evenly.

    Example:
        >>> slopes = np.float32([0.1, 7.0, 0.0, -0.1, -6.0, 0.2])
        >>> differing_draws({"slope": slopes}, n_draws=6, count=3)
        array([0, 1, 4])
    """
    if count >= n_draws:
        return np.arange(n_draws)
    columns = [_columns(np.asarray(values)) for values in draws.values()]
    if not columns:
        return np.linspace(0, n_draws - 1, count).astype(np.int64)
    table = np.concatenate(columns, axis=1)
    spread = table.std(0)
    table = np.divide(
        table - np.median(table, 0), spread, out=np.zeros_like(table), where=spread > 0
    )
    chosen = [int(np.abs(table).max(1, initial=0.0).argmin())]
    distance = np.full(n_draws, np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.abs(table - table[chosen[-1]]).max(1, initial=0.0))
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
    return np.array(chosen)


def _columns(values: np.ndarray) -> np.ndarray:
    """Some entries of each draw, as numbers; zero stands for what is not finite."""
    flat = values.reshape(len(values), -1)
    some = np.unique(np.linspace(0, max(flat.shape[1] - 1, 0), _ENTRIES).astype(np.int64))
    return np.nan_to_num(flat[:, some[some < flat.shape[1]]].astype(np.float64), posinf=0, neginf=0)
