"""Which sites of chains have not mixed, by a quick look at all of them."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import Shaped
from numpyro.diagnostics import split_gelman_rubin

_WORST = 1.05
"""R-hat above which ``diagnose`` is red."""

_CHANCE = 10.0
"""Between halves of chains that have mixed, the ratio of variances is hardly ever as large."""

_MOST_ENTRIES = 1000
_LEAST_DRAWS = 8


def unmixed_sites(
    draws: Mapping[str, Shaped[jax.Array | np.ndarray, "draw ..."]], num_chains: int
) -> dict[str, float]:
    """Return the split R-hat of the sites whose chains, or halves of one, disagree beyond chance.

    It is that of Gelman et al. (2013), without ranks, of the first 1,000 entries of a site.

    Args:
        draws: Draws of chains by site, chain by chain.
        num_chains: Number of the chains.

    Example:
        >>> apart = np.repeat([0.0, 9.0], 100) + np.random.default_rng(0).normal(size=200)
        >>> list(unmixed_sites({"a": apart, "b": apart[:100].repeat(2)}, num_chains=2))
        ['a']
    """
    found = {}
    for name, values in draws.items():
        n_draws = len(values) // num_chains
        if n_draws < _LEAST_DRAWS or not values.size:
            continue
        entries = np.asarray(values.reshape(len(values), -1)[:, :_MOST_ENTRIES], np.float64)
        with np.errstate(all="ignore"):
            r_hat = split_gelman_rubin(entries.reshape(num_chains, n_draws, -1))
        r_hat = r_hat[np.isfinite(r_hat)]  # draws that never move have none
        worst = r_hat.max(initial=1.0)
        if worst > _WORST and n_draws // 2 * (worst**2 - 1) > _CHANCE:
            found[name] = float(worst)
    return found
