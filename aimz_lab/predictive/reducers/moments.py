"""Means, standard deviations and shares of draws, computed on the devices."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from aimz_lab.calls import public
from aimz_lab.data import AxisLabels
from aimz_lab.data.groups import labels_of
from aimz_lab.data.options import real_number
from aimz_lab.errors import ArgumentError
from aimz_lab.predictive.reducers.contract import Draws, OverDraws, RowMask, RowValues
from aimz_lab.predictive.reducers.row_sums import sums_of_rows
from aimz_lab.types import check_choice, shown


@public
class Mean(OverDraws):
    """The mean over draws, or over rows.

    Args:
        over: ``"draw"`` for the mean of each row; ``"row"`` for the mean of each draw.
        by: Over rows: one label per row, to average within each label. A column of a table gives
            its name to the dimension, which is ``"group"`` otherwise.

    Raises:
        ArgumentError: If labels are given for a mean over draws, or are not one per row.
        DataError: If a label is missing.

    Example:
        >>> signs = np.sign(X)
        >>> tree = im.predict(X, reduce=Mean(over="row", by=signs), progress=False)
        >>> tree.posterior_predictive.y_mean.dims
        ('chain', 'draw', 'group')
    """

    row_labels: AxisLabels | None = None

    def __init__(self, over: Literal["draw", "row"] = "draw", by: ArrayLike | None = None) -> None:
        check_choice("over", over, Literal["draw", "row"])
        if by is not None and over == "draw":
            msg = "Mean(by=...) averages the rows of each label; pass over='row' with it."
            raise ArgumentError(msg)
        super().__init__("mean")
        self.over = over
        if by is None:
            return
        groups = labels_of(by)
        self.by_row, self.row_labels = groups.codes, groups.rows
        self.coords = {groups.name: groups.labels}

    def without_rows(self) -> Mean:
        """Return it without its labels of rows, for those that are given some at a time."""
        light = copy.copy(self)
        light.by_row, light.row_labels = None if self.by_row is None else self.by_row[:0], None
        return light

    @property
    def _n_groups(self) -> int:
        return len(next(iter(self.coords.values())))

    def block(self, values: Draws, valid: RowMask, by_row: RowValues | None) -> jax.Array:
        """Means of the rows, or sums for each draw."""
        if self.over == "draw":
            origin = _origin(values[:1])
            return origin[0] + (values - origin).mean(0)
        if by_row is None:
            return sums_of_rows(values, valid)[:, 0]
        return sums_of_rows(values, valid, by_row, self._n_groups)

    def finish(self, total: np.ndarray, n_rows: int) -> np.ndarray:
        """Divide sums by the number of rows."""
        if self.over == "draw":
            return total
        if self.by_row is None:
            return total / n_rows
        counts = np.bincount(self.by_row, minlength=self._n_groups)
        return total / counts.reshape(1, -1, *[1] * (total.ndim - 2))


class AverageEffect(Mean):
    """The mean over rows of each draw: of a contrast, the average treatment effect."""

    def __init__(self) -> None:
        super().__init__(over="row")
        self.name = "ate"


class Sd(OverDraws):
    """The standard deviation over draws, with ``S - 1`` in the denominator.

    ``arviz_stats.summary`` has ``S`` there, as ``numpy.std`` by default.
    """

    def __init__(self) -> None:
        super().__init__("sd")

    def block(self, values: Draws, valid: RowMask, by_row: RowValues | None) -> jax.Array:
        """Standard deviations, around the mean."""
        del valid, by_row
        return (values - _origin(values[:1])).std(0, ddof=1)


class PartMeans(OverDraws):
    """The means of successive parts of the draws, whose spread is the error of the whole mean.

    Args:
        n_parts: Number of parts; their sizes differ by one draw at most.
    """

    def __init__(self, n_parts: int) -> None:
        super().__init__("parts", {"part": np.arange(n_parts)})
        self._n_parts = n_parts

    def block(self, values: Draws, valid: RowMask, by_row: RowValues | None) -> jax.Array:
        """Means of each part, ``(part, R, ...)``."""
        del valid, by_row
        origin = _origin(values[:1])
        # With fewer draws than parts, some parts share a draw: the mean of none is undefined.
        parts = [
            (values[min(start, len(values) - 1) : max(end, 1)] - origin).mean(0)
            for start, end in itertools.pairwise(part_ends(len(values), self._n_parts))
        ]
        return origin + jnp.stack(parts)


def part_ends(n_draws: int, n_parts: int) -> Int[np.ndarray, " end"]:
    """Return where successive parts of the draws begin and end, ``(n_parts + 1,)``."""
    return np.linspace(0, n_draws, n_parts + 1).astype(int)


@public
class Exceeds(OverDraws):
    """The share of the draws above a threshold.

    Args:
        threshold: A number, in the units of the site.

    Raises:
        ArgumentError: If ``threshold`` is no number.

    Example:
        >>> tree = im.predict(X, reduce=Exceeds(0.0), progress=False)
        >>> bool(tree.posterior_predictive.y_exceeds[-1] > 0.9)
        True
    """

    def __init__(self, threshold: float) -> None:
        if math.isnan(real_number(threshold)):
            msg = f"Exceeds needs a number, got threshold={shown(threshold)}."
            raise ArgumentError(msg)
        super().__init__("exceeds")
        self.threshold = real_number(threshold)

    def block(self, values: Draws, valid: RowMask, by_row: RowValues | None) -> jax.Array:
        """Shares."""
        del valid, by_row
        threshold = self.threshold
        if jnp.issubdtype(values.dtype, jnp.integer):
            # JAX compares in single precision, which rounds large counts.
            limits = jnp.iinfo(values.dtype)
            if not limits.min <= threshold < limits.max:
                return jnp.full(values.shape[1:], float(threshold < limits.min))
            threshold = math.floor(threshold)
        unknown = (values != values).any(0)  # NaN; a comparison would count it as below
        return jnp.where(unknown, jnp.nan, (values > threshold).mean(0))


def _origin(values: jax.Array) -> jax.Array:
    """Values to subtract before summing: in single precision, large values leave no digits."""
    numbers = values.astype(jnp.result_type(float))
    return jnp.where(jnp.isfinite(numbers), numbers, 0)
