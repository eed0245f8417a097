"""How close the guide's draws are to the posterior: k-hat, and summaries that are reweighted."""

from __future__ import annotations

from itertools import product

import numpy as np
from jaxtyping import Float

from aimz_lab.number_text import beside_limit
from aimz_lab.system.lazy_modules import pd, xr
from aimz_lab.trust.report import Finding
from aimz_lab.trust.smoothing import Smoothed, trusted_k
from aimz_lab.types import SAMPLE_DIMS

MOST_ENTRIES = 1000
"""Entries of sites that a report compares; those of larger sites are left out."""

_FAR, _FURTHER = 0.25, 1.0  # posterior standard deviations
_WIDE, _WIDER = 1.25, 2.0  # ratio of standard deviations
_ERRORS = 4  # standard errors that a difference has to exceed, as the largest of many counts


def entries(tree: xr.DataTree) -> tuple[list[str], Float[np.ndarray, "chain draw entry"]]:
    """Return the entries of all sites, with their names as in ``ImpactModel.summary``.

    Args:
        tree: A tree with the group ``posterior``.
    """
    names, columns = [], []
    for site, values in tree["posterior"].data_vars.items():
        others = [dim for dim in values.dims if dim not in SAMPLE_DIMS]
        ordered = values.transpose(*SAMPLE_DIMS, *others)
        if np.prod([values.sizes[dim] for dim in others]) > MOST_ENTRIES:
            continue
        labels = [list(map(str, values[dim].values)) for dim in others]
        names += [f"{site}[{', '.join(at)}]" if at else str(site) for at in product(*labels)]
        columns.append(ordered.values.reshape(*ordered.shape[:2], -1).astype(np.float64))
    if not columns:
        return [], np.empty((1, 1, 0))
    return names, np.concatenate(columns, axis=2)


def moments(
    draws: Float[np.ndarray, "draw entry"], weights: Float[np.ndarray, " draw"] | None = None
) -> tuple[Float[np.ndarray, " entry"], Float[np.ndarray, " entry"]]:
    """Return weighted means and standard deviations.

    Args:
        draws: The draws.
        weights: Weights that sum to 1; equal by default.
    """
    weights = np.full(len(draws), 1 / len(draws)) if weights is None else weights
    mean = weights @ draws
    return mean, np.sqrt(weights @ np.square(draws - mean))


def raw_table(tree: xr.DataTree) -> pd.DataFrame:
    """Return mean and standard deviation of each entry."""
    names, draws = entries(tree)
    mean, sd = moments(draws.reshape(-1, draws.shape[2]))
    return pd.DataFrame({"mean": mean, "sd": sd}, index=names)


def beside(
    table: pd.DataFrame,
    name: str,
    mean: Float[np.ndarray, " entry"],
    sd: Float[np.ndarray, " entry"],
) -> pd.DataFrame:
    """Add other means and standard deviations to a table, with the distance of the raw ones.

    Args:
        table: The raw ones.
        name: Beginning of the new columns.
        mean: Other means.
        sd: Other standard deviations.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = (table["mean"].to_numpy() - mean) / sd
        ratio = table["sd"].to_numpy() / sd
    columns = {"mean": mean, "sd": sd, "shift_sds": shift, "sd_ratio": ratio}
    return table.assign(**{f"{name}_{column}": values for column, values in columns.items()})


def distance_finding(
    table: pd.DataFrame,
    name: str,
    called: str,
    what: str,
    ess: float | Float[np.ndarray, " entry"],
    n_draws: int,
    advice: str,
    *,
    is_scaled: bool,
) -> Finding:
    """Judge how far the raw means and standard deviations are from better ones.

    Args:
        table: With columns of :func:`beside` under ``name``.
        name: Beginning of these columns.
        called: Name of the finding.
        what: What the better ones are, in words.
        ess: Effective number of draws behind them, for all entries or for each.
        n_draws: Number of raw draws.
        advice: What to do if they are far off, but for a posterior that is too wide.
        is_scaled: Whether the training is known to have weighed its batches as all of the rows.
    """
    shift = table[f"{name}_shift_sds"].abs().to_numpy()
    wide = np.abs(np.log(table[f"{name}_sd_ratio"].to_numpy()))
    ess = np.broadcast_to(np.asarray(ess, float), shift.shape)
    error = _ERRORS * np.sqrt(1 / ess + 1 / n_draws)
    shift_beyond, wide_beyond = np.maximum(shift - error, 0), np.maximum(wide - error / 2**0.5, 0)
    at = int(np.argmax(shift_beyond / _FURTHER + wide_beyond / np.log(_WIDER)))
    far, wider = shift_beyond[at], wide_beyond[at]
    level = "green"
    if far > _FAR or wider > np.log(_WIDE):
        level = "amber"
    if far > _FURTHER or wider > np.log(_WIDER):
        level = "red"
    row = table.iloc[at]
    where = (
        f"{table.index[at]} is {abs(row[f'{name}_shift_sds']):.2g} posterior sds off, with "
        f"{row[f'{name}_sd_ratio']:.2g} times the sd"
    )
    text = f"means and sds agree with {what} (at worst, {where})"
    if level != "green":
        text = f"beside {what}, {where}"
        advice = _of_width(row, name, is_scaled) or advice
    return Finding(called, level, text, "" if level == "green" else advice)


def _of_width(row: pd.Series, name: str, is_scaled: bool) -> str:
    if row[f"{name}_sd_ratio"] > _WIDER and not is_scaled:
        return (
            "The posterior is too wide, as of a kernel trained on batches that stand for "
            "themselves: train with scale='auto', and tell n_obs= in loops of your own."
        )
    return ""


def k_hat_finding(
    weights: Smoothed, log_p: Float[np.ndarray, " draw"], n_row_latents: int, advice: str
) -> Finding:
    """Judge k-hat of the guide; Yao, Vehtari, Simpson and Gelman (2018), sec. 3.1.

    Args:
        weights: Smoothed ratios of posterior and guide.
        log_p: Log joint density at each draw.
        n_row_latents: Values of latent sites with one entry per row.
        advice: What to do if the draws are not those of the posterior.
    """
    n_draws, k = len(log_p), weights.k
    share = weights.ess / n_draws
    bad = int((~np.isfinite(log_p)).sum())
    if bad:
        text = (
            f"the joint density is 0 or not a number at {bad:,} of {n_draws:,} draws of the guide"
        )
        advice = "The guide reaches where the model cannot be: check supports and bounds."
        return Finding("k-hat", "red", text, advice)
    trusted = trusted_k(n_draws)
    told, limit = beside_limit(k, trusted)
    if k <= trusted:  # 0.5 is told too
        told = max(told, beside_limit(k, 0.5)[0], key=len)
    shown = f"k-hat of the guide is {told} (± {weights.k_error:.2f} with other draws)"
    shown = shown if np.isfinite(k) else _of_no_tail(k)
    if k <= 0.5:
        text = f"{shown}, below 0.5 (effective draws: {share:.0%})"
        return Finding("k-hat", "green", text)
    if k <= trusted:
        text = f"{shown}, between 0.5 and {limit} (effective draws: {share:.0%})"
        return Finding("k-hat", "amber", text, "Read the reweighted means in report.table.")
    if n_row_latents:
        text = (
            f"{shown}, over {n_row_latents:,} values of latent sites by row: with so many, even a "
            "good guide has no reliable ratios, and this cannot tell them apart"
        )
        return Finding("k-hat", "amber", text, "Compare with diagnose(..., refine='nuts').")
    text = f"{shown}, above {limit}: the guide's draws are not those of the posterior"
    return Finding("k-hat", "red", text, advice)


def _of_no_tail(k: float) -> str:
    if k < 0:
        return "the guide's density is the posterior's, so that k-hat is not even defined"
    return "k-hat of the guide is infinite (one draw outweighs all others)"


def differs(one: xr.DataTree, other: xr.DataTree) -> str | None:
    """Name an entry whose draws are of two distributions, or return ``None``.

    Args:
        one: A tree of posterior draws.
        other: Another one of the same sites.
    """
    names, draws = entries(one)
    others_names, others = entries(other)
    if names != others_names:
        return next(iter(set(names) ^ set(others_names)), "its sites")
    a, b = (each.reshape(-1, each.shape[2]) for each in (draws, others))
    (mean_a, sd_a), (mean_b, sd_b) = moments(a), moments(b)
    error = np.sqrt(np.square(sd_a) / len(a) + np.square(sd_b) / len(b))
    far = np.abs(mean_a - mean_b) > 6 * error + 0.1 * sd_b + 1e-6 * np.abs(mean_b)
    noise = 6 * np.sqrt(0.5 / len(a) + 0.5 / len(b))
    with np.errstate(divide="ignore", invalid="ignore"):
        wide = np.abs(np.log(sd_a / sd_b)) > np.log(1.2) + noise
    wide &= ~((sd_a < 1e-12) & (sd_b < 1e-12))
    where = np.flatnonzero(far | wide)
    return names[where[0]] if len(where) else None
