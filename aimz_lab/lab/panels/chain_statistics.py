"""R-hat and effective sample sizes of many values at once.

The numbers are those of ArviZ, which judges value by value: with hundreds of values that takes
longer than to draw them. Both follow Vehtari et al. 2021, https://doi.org/10.1214/20-BA1221.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from aimz_lab.predictive.results.summary_table import TAIL
from aimz_lab.system.cores import usable_cores
from aimz_lab.system.imports import late_import

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
    cores = usable_cores()
    count = -(-values.size // _SLICE)
    if count == 1:
        return _of_slice(values)
    even = -(-count // cores) * cores  # so that all cores end at the same time
    slices = np.array_split(values, min(even, len(values)))
    with ThreadPoolExecutor(min(len(slices), cores)) as pool:
        parts = zip(*pool.map(_of_slice, slices), strict=True)
    return ChainStatistics(*(np.concatenate(part) for part in parts))


def _of_slice(values: np.ndarray) -> ChainStatistics:
    values = values.astype(np.float64)
    is_finite = np.isfinite(values).all(axis=(1, 2))
    values = np.where(is_finite[:, None, None], values, 0.0)
    halves = _halves(values)
    scores, ordered = _ranked(halves)
    of_all = ordered
    if halves.size != values.size:  # the middle draw of an odd number is in no half
        of_all = np.sort(values.reshape(len(values), -1), axis=1)
    limits = (_quantile(of_all, share)[:, None, None] for share in TAIL)
    low, high = (_ess((halves <= limit).astype(np.float64)) for limit in limits)
    found = (
        values.mean((1, 2)),
        values.std((1, 2)),
        _r_hat(halves, scores, ordered),
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


def _ranked(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the normal quantiles of the numbers' average ranks, and the numbers in order."""
    flat = values.reshape(len(values), -1)
    count = flat.shape[1]
    order = np.argsort(flat, axis=1) + np.arange(0, flat.size, count)[:, None]
    ordered = flat.ravel()[order]
    is_equal = np.zeros(flat.shape, bool)  # to the number before
    is_equal[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    twice = np.tile(2 * np.arange(1, count + 1), len(flat))
    later = np.flatnonzero(is_equal)
    begins = np.flatnonzero(np.diff(later, prepend=-2) != 1)
    first, more = later[begins] - 1, np.diff(begins, append=later.size)
    twice[first] += more  # equal numbers share the mean of their ranks
    twice[later] = np.repeat(twice[first], more)
    scores = np.empty(flat.size)
    scores[order.ravel()] = _quantiles_of_ranks(count)[twice]
    return scores.reshape(values.shape), ordered


@lru_cache(maxsize=2)
def _quantiles_of_ranks(count: int) -> np.ndarray:
    """Return the normal quantiles of the ranks 0, 1/2, 1, ... of so many numbers."""
    # A mean of ranks is a multiple of 1/2. Blom (1958), as in Vehtari et al. 2021, equation (14).
    shares = (np.arange(2 * count + 1) / 2 - 3 / 8) / (count + 1 / 4)
    return late_import("scipy.special").ndtri(shares.clip(0))


def _r_hat(halves: np.ndarray, scores: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Return R-hat, from the scores of the split chains; a single chain's halves are compared."""
    if halves.shape[1] == 2:
        halves = _halves(halves)
        scores, ordered = _ranked(halves)
    middle = (ordered[:, (ordered.shape[1] - 1) // 2] + ordered[:, ordered.shape[1] // 2]) / 2
    folded, _ = _ranked(abs(halves - middle[:, None, None]))
    bulk, tails = _variance_ratio(scores), _variance_ratio(folded)
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
    parts = waves.view(np.float64)
    squares = np.einsum("vcp,vcp->vp", parts, parts) / parts.shape[1]
    return fft.irfft(squares[:, ::2] + squares[:, 1::2], n=length)[:, :draws] / draws
