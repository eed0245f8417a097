"""The rows that a model predicts worst when each is left out, found in one pass over the rows."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Shaped

from aimz_lab.predictive.reducers.contract import Draws, OverDraws, RowMask, RowValues
from aimz_lab.trust.smoothing import LEAST_DRAWS, smoothed

MOST_ROWS = 1_000
"""Rows of which all draws are kept, and leave-one-out is computed; of more, the worst."""


class WorstRows(OverDraws):
    """Of a log-likelihood: leave-one-out of all rows, or of those that WAIC ranks worst.

    Up to 1,000 rows are all smoothed (Vehtari, Gelman and Gabry 2017). Of more rows, those 1,000
    are whose ``elpd_waic`` (Watanabe 2010), which each row's draws give at once, is least.

    Args:
        observed: Whether each row has an observed value; the others are left out.
        r_eff: Effective draws over draws.
        of_svi: Whether the draws are those of a model with SVI, which nothing here corrects.

    Attributes:
        rows: Positions of the rows with leave-one-out, worst first.
        elpd: Their expected log predictive density, in nats.
        p: Their effective numbers of parameters.
        k: Their k-hat; NaN where no draw changes the likelihood, as of masked rows.
    """

    estimates_loo = True
    on_host = True

    def __init__(
        self,
        observed: Shaped[np.ndarray, " row"],
        r_eff: float = 1.0,
        *,
        of_svi: bool = False,
    ) -> None:
        super().__init__("elpd_waic")
        self.of_svi = of_svi
        self.by_row = np.arange(len(observed), dtype=np.int64)
        self._observed, self._r_eff = observed, r_eff
        self._reset(0)
        self.rows: Int[np.ndarray, " kept"] = np.zeros(0, np.int64)
        self.elpd = self.p = self.k = np.zeros(0)

    def _reset(self, n_draws: int) -> None:
        self.n_draws, self.n_seen = n_draws, 0
        self._numbers = np.zeros(0, np.int64)
        self._waic = np.zeros(0)
        self._kept = np.zeros((n_draws, 0), np.float32)

    @property
    def is_all(self) -> bool:
        """Whether all observed rows have leave-one-out."""
        return len(self.rows) == int(self._observed.sum())

    @property
    def has_enough_draws(self) -> bool:
        """Whether there are draws enough for a tail to have a shape."""
        return self.n_draws >= LEAST_DRAWS

    def block(self, values: Draws, valid: RowMask, by_row: RowValues | None) -> np.ndarray:
        """Return ``elpd_waic`` of each row, and keep the draws of the worst."""
        del valid
        rows, values = np.asarray(by_row), np.asarray(values)
        own = values.reshape(*values.shape[:2], -1).sum(-1, dtype=np.float64)
        if rows[0] == 0:
            self._reset(len(own))
        self.n_seen += len(rows)
        with np.errstate(invalid="ignore"):  # a draw under which the row is impossible
            waic = lppd(own) - own.var(0, ddof=min(1, len(own) - 1))
        waic = np.where(np.isnan(waic), -np.inf, waic)
        chosen = self._observed[rows]
        self._keep(rows[chosen], waic[chosen], own[:, chosen])
        entries = waic.reshape(len(rows), *[1] * (values.ndim - 2))
        return np.broadcast_to(entries, values.shape[1:]).copy()

    def _keep(self, rows: np.ndarray, waic: np.ndarray, own: np.ndarray) -> None:
        numbers = np.concatenate([self._numbers, rows])
        scores = np.concatenate([self._waic, waic])
        worst = np.sort(np.argsort(scores, kind="stable")[:MOST_ROWS])
        draws = np.concatenate([self._kept, own.astype(np.float32)], axis=1)
        self._numbers, self._waic, self._kept = numbers[worst], scores[worst], draws[:, worst]

    def smooth(self) -> None:
        """Compute leave-one-out of the kept rows."""
        found = [_left_out(self._kept[:, at], self._r_eff) for at in range(len(self._numbers))]
        elpd, p, k = np.array(found, np.float64).reshape(-1, 3).T
        order = np.argsort(elpd, kind="stable")
        self.rows, self.elpd, self.p, self.k = (each[order] for each in (self._numbers, elpd, p, k))
        self._kept = np.zeros((self.n_draws, 0), np.float32)


def lppd(own: Float[np.ndarray, "draw row"]) -> Float[np.ndarray, " row"]:
    """Return the log of each row's mean density; Gelman, Hwang and Vehtari (2014).

    Args:
        own: Log-likelihood of the rows, in nats.
    """
    top = own.max(0)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(own - top).mean(0)) + top


def _left_out(draws: np.ndarray, r_eff: float) -> tuple[float, float, float]:
    """Return ``elpd_loo``, ``p_loo`` and k-hat of one row."""
    own = draws.astype(np.float64)
    full = float(lppd(own[:, None])[0])
    if np.ptp(own) == 0:  # nothing of the posterior bears on it
        return full, 0.0, np.nan
    found = smoothed(-own, r_eff)
    with np.errstate(divide="ignore"):
        terms = np.log(found.weights) + own
    top = terms.max()
    elpd = float(top + np.log(np.exp(terms - top).sum())) if np.isfinite(top) else -np.inf
    return elpd, full - elpd, found.k
