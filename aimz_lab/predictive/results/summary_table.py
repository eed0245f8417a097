"""A table of posterior draws by parameter, with the names of columns and levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from aimz_lab.errors import ArgumentError, OptionalDependencyError, SiteError
from aimz_lab.predictive.reducers.intervals import narrowest_interval
from aimz_lab.system.imports import late_import
from aimz_lab.system.lazy_modules import pd, xr
from aimz_lab.types import SAMPLE_DIMS

_DIAGNOSTICS = ["ess_bulk", "ess_tail", "r_hat"]

TAIL = (0.05, 0.95)
"""The quantiles of ``ess_tail``; Vehtari et al. (2021). ArviZ's own depend on its version."""


def summary_table(
    tree: xr.DataTree, sites: Sequence[str] | None, prob: float, *, are_chains: bool
) -> pd.DataFrame:
    """Summarise the group ``posterior`` by arviz-stats.

    Args:
        tree: A tree with the group.
        sites: The sites; by default all.
        prob: Mass of the interval.
        are_chains: Whether the draws come from Markov chains, which have diagnostics.

    Returns:
        A row for each entry, labelled as ArviZ does, ``"slopes[age]"``; it prints a few digits.

    Raises:
        SiteError: If a site is not among the draws.
        ArgumentError: If ``prob`` is not in (0, 1).
        OptionalDependencyError: If arviz-stats is missing.
    """
    try:
        arviz_stats = late_import("arviz_stats")
    except ImportError as error:
        msg = "A summary needs arviz-stats: pip install 'aimz_lab[lab]'."
        raise OptionalDependencyError(msg) from error
    if isinstance(prob, bool) or not isinstance(prob, (int, float)) or not 0 < prob < 1:
        msg = f"prob must be a number between 0 and 1, got {prob!r}."
        raise ArgumentError(msg)
    have = list(map(str, tree["posterior"].data_vars))
    names = have if sites is None else [sites] if isinstance(sites, str) else list(sites)
    unknown = [name for name in names if name not in have]
    if unknown:
        msg = f"The posterior has no draws of {', '.join(map(repr, unknown))}; it has {have}."
        raise SiteError(msg)
    posterior = tree["posterior"].to_dataset()[names].astype(np.float64)  # also of booleans
    table = arviz_stats.summary(
        xr.DataTree.from_dict({"posterior": posterior}),
        kind="all" if are_chains else "stats",
        round_to="none",
    )
    sites = [posterior[name].transpose(*SAMPLE_DIMS, ...).values for name in names]
    spreads = np.concatenate([_spread(draws, prob) for draws in sites], axis=1)
    table["sd"], table["hdi_low"], table["hdi_high"] = spreads
    if are_chains:
        table["r_hat"] = np.concatenate([np.ravel(r_hat(draws)) for draws in sites])
        tails = [arviz_stats.ess(draws, method="tail", prob=TAIL) for draws in sites]
        table["ess_tail"] = np.concatenate([np.ravel(tail) for tail in tails])
    columns = ["mean", "sd", "hdi_low", "hdi_high", *(_DIAGNOSTICS if are_chains else [])]
    summary = late_import("aimz_lab.predictive.results.posterior_summary")
    return summary.PosteriorSummary(table[columns].astype(float))


def _spread(
    draws: Float[np.ndarray, "chain draw ..."], prob: float
) -> Float[np.ndarray, "3 entry"]:
    """Standard deviation and ends of the highest-density interval of each entry.

    arviz-stats 0.8 divides by the number of draws, and its summary has the equal-tailed interval,
    also where it is asked for the other one.
    """
    draws = draws.reshape(draws.shape[0] * draws.shape[1], -1)
    sd = draws.std(0, ddof=1) if len(draws) > 1 else np.full(draws.shape[1], np.nan)
    return np.stack([sd, *narrowest_interval(np.sort(draws.T), prob)])


def r_hat(draws: Float[np.ndarray, "chain draw ..."]) -> Float[np.ndarray, " ..."]:
    """Return R-hat by arviz-stats: rank-normalised, folded and split.

    Of one chain, which arviz-stats does not judge, its halves count as chains.

    Args:
        draws: The draws.

    Example:
        >>> import numpy as np
        >>> draws = np.random.default_rng(0).normal(size=(1, 400))
        >>> bool(r_hat(draws) < 1.01)
        True
    """
    draws = np.asarray(draws, np.float64)  # as entries are judged elsewhere
    if len(draws) == 1:
        half = draws.shape[1] // 2
        draws = np.concatenate([draws[:, :half], draws[:, draws.shape[1] - half :]])
    with np.errstate(all="ignore"):
        return late_import("arviz_stats.base").array_stats.rhat(draws, chain_axis=0, draw_axis=1)
