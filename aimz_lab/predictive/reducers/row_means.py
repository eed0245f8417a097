"""Weighted means over rows for each draw, by group; of one scenario, or of two side by side."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from aimz_lab.predictive.reducers.contract import Draws, OverDraws, RowMask, RowValues
from aimz_lab.predictive.reducers.row_sums import sums_of_rows

GROUP, WEIGHT = 0, 1


class RowMeans(OverDraws):
    """The weighted mean over the rows of each group, for each draw.

    Args:
        groups: Codes, weights and labels; see ``effects/row_groups.py``.
        contrast: Makes the result of a site's name and its means in two scenarios, which are on
            the last axis; ``None`` for the means of a single scenario.
        shares: Whether values outside of [0, 1] become NaN, as odds need shares.
        name: Suffix of the result.
    """

    over = "row"

    def __init__(
        self,
        groups: Any,
        contrast: Callable[[str, np.ndarray, np.ndarray], np.ndarray] | None = None,
        *,
        shares: bool = False,
        name: str = "average",
    ) -> None:
        super().__init__(name, groups.coords)
        self.row_labels, self.given = groups.labels, groups.given
        self.labelled = groups.labelled or groups.given
        self._groups, self._contrast, self._shares = groups, contrast, shares
        self.by_row, self._unit = None, 1.0
        if groups.n_rows is not None:
            codes = np.zeros(groups.n_rows) if groups.codes is None else groups.codes
            weights = np.ones(groups.n_rows) if groups.weights is None else groups.weights
            # Single precision has its own range.
            self._unit = float(np.abs(weights).max(initial=0.0)) or 1.0
            self.by_row = np.stack([codes, weights / self._unit], axis=1).astype(np.float32)

    def among(self, kept: Int[np.ndarray, " kept"] | None, table: Any) -> RowMeans:
        """Return the means over those rows of a table that were kept; ``None`` for all."""
        groups = self._groups.among(kept, table)
        return RowMeans(groups, self._contrast, shares=self._shares, name=self.name)

    def without_rows(self) -> RowMeans:
        """Return it without its groups and weights of rows, for those that are given some."""
        light = copy.copy(self)
        light.by_row, light.row_labels = None if self.by_row is None else self.by_row[:0], None
        light._groups = replace(self._groups, codes=None, weights=None, labels=None)
        return light

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for the same shape of groups; codes and weights are no part of the program."""
        return RowMeans, self._groups.shape, self.by_row is None, self._shares

    def block(self, values: Draws, valid: RowMask, by_row: RowValues | None) -> jax.Array:
        """Weighted sums for each draw and group, ``(S, *groups, ...)``."""
        if self._shares:
            values = jnp.where((values >= 0) & (values <= 1), values, jnp.nan)
        weights, codes = valid.astype(jnp.result_type(float)), None
        if by_row is not None:
            weights, codes = weights * by_row[:, WEIGHT], by_row[:, GROUP].astype(jnp.int32)
        sums = sums_of_rows(values, weights, codes, self._groups.n_groups)
        return sums.reshape(len(values), *self._groups.shape, *sums.shape[2:])

    def finish(self, total: np.ndarray, n_rows: int) -> np.ndarray:
        """Divide by the weights; the scenarios stay on the last axis."""
        codes = None if self.by_row is None else self.by_row[:, GROUP].astype(int)
        weights = None if self.by_row is None else self.by_row[:, WEIGHT].astype(np.float64)
        codes = np.zeros(n_rows, int) if codes is None else codes
        sums = np.bincount(codes, weights=weights, minlength=self._groups.n_groups)
        shape = self._groups.shape
        rest = [1] * (total.ndim - 1 - len(shape))
        return total / sums.reshape(1, *shape, *rest)

    def contrasted(self, site: str, values: np.ndarray) -> np.ndarray:
        """Return the contrast of values that have the scenarios on their last axis."""
        if self._contrast is None:
            return values
        return self._contrast(site, values[..., 0], values[..., 1])


class RowTotals(RowMeans):
    """The weighted sum over rows for each draw; weights may be negative.

    Args:
        groups: Weights of the rows.
        factor: A number that multiplies the sums.
    """

    def __init__(self, groups: Any, factor: float = 1.0) -> None:
        super().__init__(groups, name="total")
        self._factor = factor

    def among(self, kept: Int[np.ndarray, " kept"] | None, table: Any) -> RowTotals:
        """Return the sums over those rows of a table that were kept; ``None`` for all."""
        weights, labels = self._groups.weights, self._groups.labels
        if kept is None or weights is None or len(weights) != len(table):
            return self
        labels = None if labels is None else labels.in_order(kept)
        return RowTotals(replace(self._groups, weights=weights[kept], labels=labels), self._factor)

    def finish(self, total: np.ndarray, n_rows: int) -> np.ndarray:
        """Return the sums in the unit of the weights."""
        del n_rows
        return total * self._unit * self._factor


Single = Mapping[str, np.ndarray]
Results = Mapping[str, Mapping[str, np.ndarray]]


def contrasted(
    single: Single, results: Results, reducers: Mapping[str, object]
) -> tuple[Single, Results]:
    """Contrast the scenarios in the results of :class:`RowMeans`, and in sites without rows.

    Args:
        single: Draws of the sites without rows.
        results: Results by site and reducer.
        reducers: The reducers by name.
    """
    one = next((each for each in reducers.values() if isinstance(each, RowMeans)), None)
    if one is None:
        return single, results
    return (
        {site: one.contrasted(site, values) for site, values in single.items()},
        {
            site: {name: one.contrasted(site, values) for name, values in found.items()}
            for site, found in results.items()
        },
    )
