"""Whether chains agree and how much their draws are worth: R-hat and ESS, while a run goes on.

Rank-normalized split R-hat, and effective sample sizes of bulk and tails (Vehtari et al. 2021,
https://doi.org/10.1214/20-BA1221, the defaults of ArviZ). All values of a look are computed at
once; unlike ArviZ, the halves of a single chain are compared too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aimz_lab.inference.run.chain_record import ChainRecord

FEWEST_DRAWS = 8
TAIL = (0.05, 0.95)


@dataclass(frozen=True)
class Judged:
    """How far the chains agree on one value.

    Attributes:
        name: The value, such as ``"theta[3]"``.
        mean: Mean of its draws.
        sd: Standard deviation of its draws.
        r_hat: Rank-normalized split R-hat; NaN where it is not defined.
        ess_bulk: Effective sample size of the bulk.
        ess_tail: The lower effective sample size of the 5% and the 95% quantile.
    """

    name: str
    mean: float
    sd: float
    r_hat: float
    ess_bulk: float
    ess_tail: float

    @property
    def ess(self) -> float:
        """The lower of both effective sample sizes."""
        return min(self.ess_bulk, self.ess_tail)


def judge(
    chains: ChainRecord, most: int, most_draws: int | None = None
) -> tuple[list[Judged], int]:
    """Judge the values of the latent sites, evenly chosen where there are many.

    Args:
        chains: What was drawn so far.
        most: Numbers to read at most: values, times draws of all chains.
        most_draws: Draws of a chain to read at most, evenly chosen; all by default. Effective
            sample sizes are then too small rather than too large.

    Returns:
        The judged values, those with the highest R-hat first, and how many there are in all. No
        value is judged before there are 8 draws of a chain.
    """
    sizes = {name: int(np.prod(shape, dtype=int)) for name, shape in chains.sites.items()}
    total, draws = sum(sizes.values()), chains.draws
    if draws < FEWEST_DRAWS or total == 0:
        return [], total
    every = 1 if most_draws is None else -(-draws // most_draws)
    room = max(most // (-(-draws // every) * chains.plan.chains), 1)
    judged = []
    for name, at in _chosen(sizes, room).items():
        values = chains.values(name, at, every=every)
        if np.issubdtype(values.dtype, np.number):
            labels = [_label(name, i, chains.sites[name]) for i in at.tolist()]
            judged += _judge(labels, np.moveaxis(values, -1, 0).astype(np.float64))
    return sorted(judged, key=lambda row: (-np.nan_to_num(row.r_hat, nan=np.inf), row.ess)), total


def _chosen(sizes: dict[str, int], room: int) -> dict[str, np.ndarray]:
    """Positions in each site: small sites in whole, the room that is left for the large ones."""
    chosen, left = {}, room
    ordered = sorted((name for name in sizes if sizes[name]), key=sizes.get)
    for n_done, name in enumerate(ordered):
        count = min(sizes[name], max(left // (len(ordered) - n_done), 1))
        chosen[name] = np.unique(np.linspace(0, sizes[name] - 1, count).round().astype(int))
        left -= count
    return chosen


def _label(name: str, at: int, shape: tuple[int, ...]) -> str:
    if not shape:
        return name
    return f"{name}[{', '.join(str(int(i)) for i in np.unravel_index(at, shape))}]"


def _judge(names: list[str], values: np.ndarray) -> list[Judged]:
    columns = (
        values.mean((1, 2)),
        values.std((1, 2)),
        r_hat(values),
        ess_bulk(values),
        ess_tail(values),
    )
    return [
        Judged(name, *(float(v) for v in row)) for name, *row in zip(names, *columns, strict=True)
    ]


def r_hat(values: np.ndarray) -> np.ndarray:
    """Rank-normalized split R-hat, the larger one of location and spread.

    Args:
        values: Draws of several values, shape ``(value, chain, draw)``.

    Returns:
        Shape ``(value,)``; NaN for values that are constant or not finite.
    """
    split = _split(values)
    middle = np.median(split, axis=(1, 2), keepdims=True)
    return np.maximum(_plain_r_hat(_normal(split)), _plain_r_hat(_normal(np.abs(split - middle))))


def ess_bulk(values: np.ndarray) -> np.ndarray:
    """Effective sample size of the bulk: of the rank-normalized draws.

    Args:
        values: Draws of several values, shape ``(value, chain, draw)``.

    Returns:
        Shape ``(value,)``.
    """
    return _ess(_normal(_split(values)))


def ess_tail(values: np.ndarray) -> np.ndarray:
    """Effective sample size of the tails: the lower one of the 5% and the 95% quantile.

    Args:
        values: Draws of several values, shape ``(value, chain, draw)``.

    Returns:
        Shape ``(value,)``.
    """
    ends = np.quantile(values, TAIL, axis=(1, 2), keepdims=True)
    return np.minimum(*(_ess(_split((values <= end).astype(np.float64))) for end in ends))


def _split(values: np.ndarray) -> np.ndarray:
    half = values.shape[-1] // 2
    return np.concatenate([values[..., :half], values[..., -half:]], axis=1)


def _normal(values: np.ndarray) -> np.ndarray:
    """Normal scores of the ranks, ties sharing theirs (Blom's plotting positions)."""
    from scipy.special import ndtri

    flat = values.reshape(len(values), -1)
    ordered = np.sort(flat, axis=1)
    ranks = np.stack(
        [
            (np.searchsorted(o, f, "left") + np.searchsorted(o, f, "right") + 1) / 2
            for o, f in zip(ordered, flat, strict=True)
        ]
    )
    scores = ndtri((ranks - 0.375) / (flat.shape[1] + 0.25))
    scores[~np.isfinite(flat).all(axis=1)] = np.nan
    return scores.reshape(values.shape)


def _plain_r_hat(values: np.ndarray) -> np.ndarray:
    count = values.shape[-1]
    between = count * values.mean(axis=2).var(axis=1, ddof=1)
    within = values.var(axis=2, ddof=1).mean(axis=1)
    ratio = np.divide(between, within, out=np.full(len(values), np.nan), where=within > 0)
    return np.sqrt((ratio + count - 1) / count)


def _ess(values: np.ndarray) -> np.ndarray:
    """Effective sample size by Geyer's initial monotone sequence; shape ``(value,)``."""
    _, chains, count = values.shape
    covariance = _autocovariance(values).mean(axis=1)
    within = covariance[:, 0] * count / (count - 1)
    variance = covariance[:, 0] + values.mean(axis=2).var(axis=1, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = 1 - (within[:, None] - covariance) / variance[:, None]
    correlation[:, 0] = 1.0
    return np.array(
        [
            chains * count / _correlation_time(rho, chains * count)
            if scale > 0
            else float(chains * count)
            if scale == 0
            else math.nan
            for rho, scale in zip(correlation, variance, strict=True)
        ]
    )


def _correlation_time(correlation: np.ndarray, total: int) -> float:
    n_pairs = (len(correlation) - 1) // 2
    even, odd = correlation[: 2 * n_pairs].reshape(n_pairs, 2).T
    pairs = even + odd
    negative = np.flatnonzero(pairs <= 0)
    end = int(negative[0]) if len(negative) else n_pairs - 1
    summed = 2 * float(np.minimum.accumulate(pairs[:end]).sum())
    rest = float(even[end]) if even[end] > 0 or pairs[end] >= 0 else 0.0
    return max(-1 + summed + rest, 1 / math.log10(total))


def _autocovariance(values: np.ndarray) -> np.ndarray:
    count = values.shape[-1]
    centred = values - values.mean(axis=-1, keepdims=True)
    length = 1 << (2 * count - 1).bit_length()
    spectrum = np.fft.rfft(centred, length, axis=-1)
    return np.fft.irfft(spectrum * spectrum.conj(), length, axis=-1)[..., :count] / count
