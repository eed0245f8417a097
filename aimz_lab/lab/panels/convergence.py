"""Which values of chains to judge so far, and their names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aimz_lab.inference.run.chain_record import ChainRecord
from aimz_lab.inference.run.run import AxisLabels
from aimz_lab.lab.panels.chain_statistics import chain_statistics
from aimz_lab.lab.panels.site_labels import entry_name

FEWEST_DRAWS = 8
_ENOUGH_DRAWS = 200  # of a chain, to judge a value by


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
    chains: ChainRecord,
    most: int,
    most_draws: int | None = None,
    labels: AxisLabels | None = None,
) -> tuple[list[Judged], int]:
    """Judge the values of the latent sites, evenly chosen where there are many.

    Args:
        chains: What was drawn so far.
        most: Numbers to read at most: values, times draws of all chains.
        most_draws: Draws of a chain to read at most, evenly chosen; all by default. Effective
            sample sizes are then too small rather than too large.
        labels: Labels along the axes of sites, by site, to name values by.

    Returns:
        The judged values, those with the highest R-hat first, and how many there are in all. No
        value is judged before there are 8 draws of a chain.
    """
    sizes = _sizes(chains)
    total, draws = sum(sizes.values()), chains.draws
    if draws < FEWEST_DRAWS or total == 0:
        return [], total
    every = thinning(total * chains.plan.chains, draws, most, most_draws)
    names, read = [], []
    for name, at in _chosen(sizes, _room(chains, most, every)).items():
        values = chains.values(name, at, every=every)
        if np.issubdtype(values.dtype, np.number):
            shape = chains.sites[name]
            positions = [tuple(map(int, np.unravel_index(i, shape))) for i in at.tolist()]
            names += [entry_name(name, position, shape, labels) for position in positions]
            read.append(np.moveaxis(values, -1, 0).astype(np.float64))
    draws = min((values.shape[-1] for values in read), default=0)  # the run may have gone on
    read = [values[..., :draws] for values in read]
    columns = chain_statistics(np.concatenate(read)) if read else ()
    rows = zip(*(column.tolist() for column in columns), strict=True)
    judged = [Judged(name, *row) for name, row in zip(names, rows, strict=True)]
    return sorted(judged, key=lambda row: (-np.nan_to_num(row.r_hat, nan=np.inf), row.ess)), total


def left_out(chains: ChainRecord, most: int, labels: AxisLabels | None = None) -> Iterator[str]:
    """Name the values that :func:`judge` leaves out, where it reads all draws of the others.

    Args:
        chains: What was drawn.
        most: Numbers to read at most.
        labels: Labels along the axes of sites, by site, to name values by.
    """
    sizes = _sizes(chains)
    for name, at in _chosen(sizes, _room(chains, most, every=1)).items():
        shape = chains.sites[name]
        for i in np.setdiff1d(np.arange(sizes[name]), at):
            position = tuple(map(int, np.unravel_index(i, shape)))
            yield entry_name(name, position, shape, labels)


def _sizes(chains: ChainRecord) -> dict[str, int]:
    return {name: int(np.prod(shape, dtype=int)) for name, shape in chains.sites.items()}


def _room(chains: ChainRecord, most: int, every: int) -> int:
    """Return how many values may be judged."""
    return max(most // (-(-chains.draws // every) * chains.plan.chains), 1)


def thinning(n_values: int, draws: int, most: int, most_draws: int | None) -> int:
    """Return of how many draws one is read, so that no value need be left out.

    Args:
        n_values: Values of all chains.
        draws: Draws of a chain.
        most: Numbers to read at most. Rather than fewer than 200 draws, fewer values are read.
        most_draws: Draws of a chain to read at most; ``None`` to read all of them.

    Example:
        >>> thinning(64, 500, 40_000, 1_000), thinning(64, 1_000, 40_000, 1_000)
        (1, 2)
    """
    if most_draws is None:
        return 1
    for_all = -(-n_values * draws // most)
    return max(-(-draws // most_draws), min(for_all, draws // _ENOUGH_DRAWS), 1)


def _chosen(sizes: dict[str, int], room: int) -> dict[str, np.ndarray]:
    """Positions in each site: small sites in whole, the room that is left for the large ones."""
    chosen, left = {}, room
    ordered = sorted((name for name in sizes if sizes[name]), key=sizes.get)
    for n_done, name in enumerate(ordered):
        count = min(sizes[name], max(left // (len(ordered) - n_done), 1))
        chosen[name] = np.unique(np.linspace(0, sizes[name] - 1, count).round().astype(int))
        left -= count
    return chosen
