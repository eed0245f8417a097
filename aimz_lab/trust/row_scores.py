"""Read a prediction or a log-likelihood block by block: sums, counts, and some rows whole.

These are reducers, so that no array of all rows and draws is ever held. A prediction that turns out
to cross rows starts again from its first row, and so do they.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Shaped

from aimz_lab.predictive.reducers.contract import Draws, OverDraws, RowMask, RowValues


class _ByRow(OverDraws):
    """A reducer that knows the numbers of its rows, and keeps all draws of chosen rows.

    Attributes:
        has_rows: Whether there was anything to read: an output that is one event over all rows has
            not.
    """

    on_host = True

    def __init__(self, n_rows: int, kept: Int[np.ndarray, " kept"]) -> None:
        super().__init__("of_row")
        self.by_row = np.arange(n_rows, dtype=np.int64)
        self._kept = kept
        self._parts: dict[int, np.ndarray] = {}
        self.has_rows = False

    def _keep(self, values: np.ndarray, rows: np.ndarray) -> None:
        self.has_rows = True
        chosen = np.isin(rows, self._kept)
        if chosen.any():
            self._parts[int(rows[0])] = np.array(values[:, chosen])

    @property
    def kept(self) -> Shaped[np.ndarray, "draw kept ..."]:
        """All draws of the chosen rows, in the order of the rows."""
        return np.concatenate([self._parts[first] for first in sorted(self._parts)], axis=1)


class LikelihoodOfRows(_ByRow):
    """Of a log-likelihood: its sum over rows, ``lppd`` by row, and all draws of chosen rows.

    Args:
        n_rows: Rows of the data.
        kept: Numbers of the chosen rows, in order.

    Attributes:
        total: Sum over all rows for each draw, in nats and in double precision.
    """

    def __init__(self, n_rows: int, kept: Int[np.ndarray, " kept"]) -> None:
        super().__init__(n_rows, kept)
        self.total: Float[np.ndarray, " draw"] = np.zeros(())
        self._lppd: dict[int, np.ndarray] = {}

    @property
    def lppd(self) -> Float[np.ndarray, " row"]:
        """Log of the mean density of each row; Gelman, Hwang and Vehtari (2014)."""
        return np.concatenate([self._lppd[first] for first in sorted(self._lppd)])

    def block(self, values: Draws, valid: RowMask, by_row: RowValues | None) -> np.ndarray:
        """Read some rows; what counts is kept beside the result, which says nothing."""
        del valid
        rows, values = np.asarray(by_row), np.asarray(values, np.float64)
        nothing = np.zeros(values.shape[1:], np.float32)
        values = values.reshape(*values.shape[:2], -1).sum(-1)
        if rows[0] == 0:
            self.total, self._parts, self._lppd = np.zeros(len(values)), {}, {}
        self.total = self.total + values.sum(1)
        self._keep(values, rows)
        top = values.max(0)
        top = np.where(np.isfinite(top), top, 0.0)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            self._lppd[int(rows[0])] = np.log(np.exp(values - top).mean(0)) + top
        return nothing


class PredictionsOfRows(_ByRow):
    """Of predictive draws: statistics of each draw over rows, and all draws of chosen rows.

    Args:
        outputs: The observed output, rows first; NaN where it is missing.
        kept: Numbers of the chosen rows, in order.

    Attributes:
        sums: By draw: the count, the sum and the sum of squares around the observed mean.
        ends: By draw: the least and the largest value.
    """

    def __init__(
        self, outputs: Shaped[np.ndarray, "row ..."], kept: Int[np.ndarray, " kept"]
    ) -> None:
        super().__init__(len(outputs), kept)
        self._outputs = np.asarray(outputs, np.float64)
        self.observed = np.isfinite(self._outputs)
        self.centre = float(self._outputs[self.observed].mean()) if self.observed.any() else 0.0
        self.sums: Float[np.ndarray, "3 draw"] = np.zeros((3, 1))
        self.ends: Float[np.ndarray, "2 draw"] = np.zeros((2, 1))

    def block(self, values: Draws, valid: RowMask, by_row: RowValues | None) -> np.ndarray:
        """Read some rows; what counts is kept beside the result, which says nothing."""
        del valid
        rows, values = np.asarray(by_row), np.asarray(values)
        if rows[0] == 0:
            self._parts = {}
            self.sums = np.zeros((3, len(values)))
            self.ends = np.full((2, len(values)), [[np.inf], [-np.inf]])
        self._keep(values, rows)
        seen = self.observed[rows]
        flat = np.asarray(values[:, seen], np.float64).reshape(len(values), -1) - self.centre
        if flat.shape[1]:
            with np.errstate(over="ignore", invalid="ignore"):  # of infinite predictions it is NaN
                total, squares = flat.sum(1), np.square(flat).sum(1)
                self.sums += np.stack([np.full(len(flat), float(flat.shape[1])), total, squares])
            low, high = flat.min(1) + self.centre, flat.max(1) + self.centre
            self.ends = np.stack([np.minimum(self.ends[0], low), np.maximum(self.ends[1], high)])
        return np.zeros(values.shape[1:], np.float32)

    def statistics(self) -> dict[str, tuple[Float[np.ndarray, " draw"], float]]:
        """Return each statistic of the predictive draws, with that of the observed output."""
        count, total, squares = self.sums
        with np.errstate(over="ignore", invalid="ignore"):
            mean = total / count
            spread = np.sqrt(np.maximum(squares / count - mean**2, 0))
        seen = self._outputs[self.observed]
        return {
            "mean": (mean + self.centre, float(seen.mean())),
            "sd": (spread, float(seen.std())),
            "minimum": (self.ends[0], float(seen.min())),
            "maximum": (self.ends[1], float(seen.max())),
        }
