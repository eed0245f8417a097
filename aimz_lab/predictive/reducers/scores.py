"""Scores of predictions, from the log likelihood of the observed output."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from aimz_lab.calls import public
from aimz_lab.data.options import real_number
from aimz_lab.errors import ArgumentError, OptionalDependencyError
from aimz_lab.predictive.reducers.contract import Draws, OverDraws, Reducer, RowMask, RowValues
from aimz_lab.system.imports import late_import
from aimz_lab.types import shown

_LOO_DRAWS = 25
"""Five draws in the tail, which is a fifth of them; Vehtari, Simpson, Gelman, Yao, Gabry (2024)."""


class OfLogLikelihood(OverDraws):
    """Base class of reducers that mean nothing of other draws than those of a log-likelihood."""


class Lppd(OfLogLikelihood):
    """Of a log-likelihood: the log of its mean density over draws, row by row.

    Summed over rows it is the log pointwise predictive density; Gelman, Hwang and Vehtari (2014).
    """

    def __init__(self) -> None:
        super().__init__("lppd")

    def block(self, values: Draws, valid: RowMask, by_row: RowValues | None) -> jax.Array:
        """Logs of mean densities."""
        del valid, by_row
        return jax.nn.logsumexp(values, axis=0) - jnp.log(float(values.shape[0]))


class Waic(OfLogLikelihood):
    """Of a log-likelihood: its row's ``lppd``, effective parameters ``p_waic``, and ``elpd_waic``.

    Watanabe (2010), with the variance over draws as the penalty, whose denominator is ``S - 1`` as
    in the R package loo. ``elpd_waic = lppd - p_waic``.
    """

    estimates_loo = True

    def __init__(self) -> None:
        super().__init__("waic", {"waic": np.array(["lppd", "p_waic", "elpd_waic"])})

    def block(self, values: Draws, valid: RowMask, by_row: RowValues | None) -> jax.Array:
        """The three, row by row."""
        lppd = Lppd().block(values, valid, by_row)
        penalty = values.var(0, ddof=1)
        return jnp.stack([lppd, penalty, lppd - penalty])


@public
class Loo(OfLogLikelihood):
    """Leave-one-out scores of a log-likelihood by row: ``elpd_loo``, ``p_loo`` and ``pareto_k``.

    Pareto-smoothed importance sampling by arviz-stats; Vehtari, Gelman and Gabry (2017). Do not
    trust the score of a row whose ``pareto_k`` is above about 0.7. At least 25 draws are needed.

    Args:
        r_eff: Effective sample size divided by the number of draws; 1 for independent draws, less
            for a Markov chain. ``arviz_stats.loo`` estimates it from the chains of a posterior:
            pass its value here for the same ``pareto_k``.

    Raises:
        ArgumentError: If ``r_eff`` is not positive.
        OptionalDependencyError: If arviz-stats is missing.

    Example:
        >>> tree = im.log_likelihood(X, y, reduce=Loo(), progress=False)
        >>> tree.log_likelihood.y_loo.sel(loo="elpd_loo").dims
        ('obs',)
    """

    estimates_loo = True
    on_host = True

    def __init__(self, r_eff: float = 1.0) -> None:
        if not 0 < real_number(r_eff) < math.inf:
            msg = f"Loo needs a positive number, got r_eff={shown(r_eff)}."
            raise ArgumentError(msg)
        super().__init__("loo", {"loo": np.array(["elpd_loo", "p_loo", "pareto_k"])})
        self.r_eff = real_number(r_eff)
        self._loo = _arviz_loo()

    def block(self, values: Draws, valid: RowMask, by_row: RowValues | None) -> np.ndarray:
        """The three, row by row.

        Raises:
            ArgumentError: If the draws are too few, or too much alike, to have a tail.
        """
        del valid, by_row
        if len(values) < _LOO_DRAWS:
            msg = (
                f"Loo smooths the tail of a row's weights, which takes {_LOO_DRAWS} draws at "
                f"least; these are {len(values)}. Make more of them, or use reduce='waic'."
            )
            raise ArgumentError(msg)
        draws_last = np.moveaxis(values, 0, -1).astype(np.float64)
        try:
            with np.errstate(divide="ignore", invalid="ignore"):  # pareto_k tells of such tails
                elpd, k, p = self._loo(draws_last, chain_axis=None, r_eff=self.r_eff)
        except ValueError as error:
            same = (np.ptp(draws_last, axis=-1) == 0).reshape(len(draws_last), -1).all(axis=1)
            if same.any() and not same.all():
                raise ArgumentError(_masked_rows(draws_last, same)) from error
            msg = (
                f"Loo cannot smooth the tail of a row's weights: {error}. Draws that repeat each "
                "other, or a row whose likelihood no draw changes, do this; reduce='waic' takes "
                "them."
            )
            raise ArgumentError(msg) from error
        return np.stack([elpd, p, k])


def _masked_rows(draws_last: np.ndarray, same: np.ndarray) -> str:
    """Say which of some rows have one log-likelihood in all draws."""
    values = np.unique(draws_last[same][..., 0])
    what = f"{values[0]:.4g}" if len(values) == 1 else "a value of its own"
    why = (
        " It is 0 where a row is masked, by a mask of the kernel or obs_mask."
        if 0 in values
        else ""
    )
    return (
        f"Loo leaves out one row at a time, and {same.sum():,} of these {len(same):,} rows have "
        f"the same log-likelihood, {what}, in all draws: to leave them out changes nothing.{why} "
        "Leave such rows out of the call, log_likelihood(X[kept], y[kept], ...); or use "
        "reduce='waic', in which they count nothing."
    )


def check_scores(reducers: Mapping[str, Reducer], group: str) -> None:
    """Raise :class:`ArgumentError` if a score of a log-likelihood is asked for anything else."""
    scores = [name for name, one in reducers.items() if isinstance(one, OfLogLikelihood)]
    if scores and group != "log_likelihood":
        msg = (
            f"reduce={scores[0]!r} is a score of a log-likelihood; of draws of {group!r} it means "
            "nothing. Call log_likelihood(X, y, reduce=...)."
        )
        raise ArgumentError(msg)


def check_by_row(reducers: Mapping[str, Reducer], output: str) -> None:
    """Refuse what takes a log density of each row, of an output that has one for all of them.

    Args:
        reducers: Reducers by name.
        output: The output.

    Raises:
        ArgumentError: If one is a score, or summarises over rows.
    """
    for name, one in reducers.items():
        if isinstance(one, OfLogLikelihood) or one.over == "row":
            msg = (
                f"The reducer {name!r} takes a log density of each row, and "
                f"{density_of_all(output)}. Leave out reduce= and by= for its draws. {ROWS_APART}"
            )
            raise ArgumentError(msg)


def density_of_all(output: str) -> str:
    """Say that an output is one event over all rows, as a clause."""
    return f"{output} has one log density for all rows together"


ROWS_APART = (
    "If rows are independent given the latent sites, sample them in a plate, without .to_event "
    "over the rows: each then has a density of its own."
)
"""What to do to have a log density of each row."""


def _arviz_loo() -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    try:
        array_stats = late_import("arviz_stats.base").array_stats
    except ImportError as error:
        msg = "The reducer 'loo' needs arviz-stats: pip install 'aimz_lab[lab]'"
        raise OptionalDependencyError(msg) from error
    return array_stats.loo
