"""R-hat and effective sample sizes of many values at once.

The numbers are those of ArviZ, which judges value by value: with hundreds of values that takes
longer than to draw them. Both follow Vehtari et al. 2021, https://doi.org/10.1214/20-BA1221.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from aimz_lab.system.imports import late_import

TAIL = (0.05, 0.95)

_CONSTANT = np.finfo(float).resolution
_SLICE = 2**16
"""Numbers that are judged together: what is made of them stays in the processor's cache. While
chains run, no more are read, and no thread but the run's own takes part."""


class ChainStatistics(NamedTuple):
    """How far chains agree, value by value; NaN where a draw is not finite.

    Attributes:
        mean: Mean of the draws.
        sd: Their standard deviation.
        r_hat: Rank-normalized split R-hat; NaN where it is not defined.
        ess_bulk: Effective sample size of the bulk.
        ess_tail: The lower effective sample size of the 5% and the 95% quantile.
    """

    mean: Float[np.ndarray, " value"]
    sd: Float[np.ndarray, " value"]
    r_hat: Float[np.ndarray, " value"]
    ess_bulk: Float[np.ndarray, " value"]
    ess_tail: Float[np.ndarray, " value"]


def chain_statistics(values: Float[np.ndarray, "value chain draw"]) -> ChainStatistics:
    """Judge several values, of which there are at least 8 draws a chain.

    Args:
        values: Their draws.
    """
    count = max(_SLICE // values[0].size, 1)
    slices = [values[at : at + count] for at in range(0, len(values), count)]
    if len(slices) == 1:
        return _of_slice(values)
    with ThreadPoolExecutor(min(len(slices), os.cpu_count() or 1)) as pool:
        parts = zip(*pool.map(_of_slice, slices), strict=True)
    return ChainStatistics(*(np.concatenate(part) for part in parts))


def _of_slice(values: np.ndarray) -> ChainStatistics:
    values = values.astype(np.float64)
    is_finite = np.isfinite(values).all(axis=(1, 2))
    values = np.where(is_finite[:, None, None], values, 0.0)
    scores = _normal_scores(_halves(values))
    ordered = np.sort(values.reshape(len(values), -1), axis=1)  # NumPy sorts sooner than it parts
    limits = (_quantile(ordered, share)[:, None, None] for share in TAIL)
    low, high = (_ess(_halves((values <= limit).astype(np.float64))) for limit in limits)
    found = (
        values.mean((1, 2)),
        values.std((1, 2)),
        _r_hat(values, scores),
        _ess(scores),
        np.minimum(low, high),
    )
    return ChainStatistics(*(np.where(is_finite, one, np.nan) for one in found))


def _quantile(ordered: np.ndarray, share: float) -> np.ndarray:
    below, part = divmod(share * (ordered.shape[1] - 1), 1)
    low, high = ordered[:, int(below)], ordered[:, int(below) + (part > 0)]
    return low + part * (high - low)


def _halves(values: np.ndarray) -> np.ndarray:
    """Take the halves of each chain for chains of their own."""
    half = values.shape[-1] // 2
    return np.concatenate([values[..., :half], values[..., -half:]], axis=1)


def _normal_scores(values: np.ndarray) -> np.ndarray:
    """Replace numbers by the normal quantiles of their average ranks among all draws."""
    flat = values.reshape(len(values), -1)
    count = flat.shape[1]
    order = np.argsort(flat, axis=1)
    ordered = np.take_along_axis(flat, order, axis=1)
    begins = np.ones(flat.shape, bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    twice = np.broadcast_to(2 * np.arange(1, count + 1), flat.shape)
    if not begins.all():  # equal numbers share the mean of their ranks
        ends = np.ones(flat.shape, bool)
        ends[:, :-1] = begins[:, 1:]
        first = np.maximum.accumulate(np.where(begins, twice, 0), axis=1)
        last = np.minimum.accumulate(np.where(ends, twice, 2 * count)[:, ::-1], axis=1)[:, ::-1]
        twice = (first + last) // 2
    # Blom (1958), as in Vehtari et al. 2021, equation (14); a mean of ranks is a multiple of 1/2.
    quantiles = (np.arange(2 * count + 1) / 2 - 3 / 8) / (count + 1 / 4)
    scores = np.empty_like(flat)
    table = late_import("scipy.special").ndtri(quantiles.clip(0))
    np.put_along_axis(scores, order, table[twice], axis=1)
    return scores.reshape(values.shape)


def _r_hat(values: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return R-hat, from the scores of the split chains; a single chain's halves are compared."""
    split = _halves(values)
    if values.shape[1] == 1:
        split = _halves(split)
        scores = _normal_scores(split)
    ordered = np.sort(split.reshape(len(split), -1), axis=1)
    middle = (ordered[:, (ordered.shape[1] - 1) // 2] + ordered[:, ordered.shape[1] // 2]) / 2
    folded = abs(split - middle[:, None, None])
    bulk, tails = _variance_ratio(scores), _variance_ratio(_normal_scores(folded))
    # Values of two numbers have no tails.
    return np.where(np.isnan(bulk), np.nan, np.fmax(bulk, tails))


def _variance_ratio(chains: np.ndarray) -> np.ndarray:
    draws = chains.shape[-1]
    between = draws * chains.mean(axis=2).var(axis=1, ddof=1)
    within = chains.var(axis=2, ddof=1).mean(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt((between / within + draws - 1) / draws)


def _ess(chains: np.ndarray) -> np.ndarray:
    """Return the effective sample size of values, by Geyer's initial monotone sequence."""
    n_chains, draws = chains.shape[1:]
    means = chains.mean(axis=2)
    covariances = _mean_autocovariances(chains - means[..., None])
    variance = covariances[:, :1]
    with np.errstate(invalid="ignore", divide="ignore"):
        all_variance = variance + means.var(axis=1, ddof=1)[:, None]
        rho = 1 - (variance * draws / (draws - 1) - covariances) / all_variance
    rho[:, 0] = 1
    even = rho[:, : draws - draws % 2 : 2]
    pairs = even + rho[:, 1::2]
    # The pair after the last one that counts in full: the first that is not positive.
    at = np.where((pairs <= 0).any(axis=1), (pairs <= 0).argmax(axis=1), draws)
    at = np.minimum(at, (draws - 1) // 2 - 1)[:, None]
    beyond, after = (np.take_along_axis(each, at, axis=1)[:, 0] for each in (pairs, even))
    monotone = np.minimum.accumulate(pairs, axis=1)
    in_full = np.where(np.arange(pairs.shape[1]) < at, monotone, 0).sum(axis=1)
    tau = -1 + 2 * in_full + np.where((beyond >= 0) | (after > 0), after, 0)
    size = n_chains * draws
    found = size / np.maximum(tau, 1 / np.log10(size))
    return np.where(np.ptp(chains, axis=(1, 2)) < _CONSTANT, size, found)


def _mean_autocovariances(centred: np.ndarray) -> np.ndarray:
    """Return the mean over the chains of the autocovariance at each lag."""
    draws = centred.shape[-1]
    fft = late_import("scipy.fft")
    length = fft.next_fast_len(2 * draws, real=True)
    waves = fft.rfft(centred, n=length)
    power = (waves.real**2 + waves.imag**2).mean(axis=1)
    return fft.irfft(power, n=length)[:, :draws] / draws
