"""Refuse posterior draws that are NaN or infinite."""

from __future__ import annotations

from collections.abc import Container, Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Shaped

from aimz_lab.errors import SiteError
from aimz_lab.types import Array

OF_A_GUIDE = (
    "The guide is too wide there for its numbers. The parameters stay as they were trained, and "
    "the posterior as it was: train on with a lower learning rate, or give these sites priors with "
    "lighter tails."
)
OF_CHAINS = (
    "The posterior stays as it was; im.inference has the draws. Give these sites priors with "
    "lighter tails, or run the chains in double precision."
)
OF_THE_USER = (
    "Leave these draws out at every site: {name: values[keep] for name, values in ...}, with "
    "keep = numpy.isfinite(w).reshape(len(w), -1).all(1). Leave out sites that the kernel "
    "computes; predictions compute them."
)

_BLOCK_BYTES = 1 << 24
"""Draws are looked at in blocks of this size, which need no large temporary."""


def check_finite_draws(
    draws: Mapping[str, Shaped[Array, "draw ..."]], sites: Container[str] | None, advice: str
) -> None:
    """Check that draws are finite.

    Args:
        draws: Draws by site.
        sites: The sites to look at; ``None`` for all.
        advice: What to do, for the message.

    Raises:
        SiteError: With the number of bad draws of each site.

    Example:
        >>> check_finite_draws({"w": np.array([0.5, np.nan])}, None, "Drop them.")
        Traceback (most recent call last):
        ...
        aimz_lab.errors.SiteError: Posterior draws are NaN or infinite: 1 of 2 of 'w'. Drop them.
    """
    refuse_bad_draws(
        {
            name: np.concatenate([_bad(block) for block in _blocks(values)] or [np.zeros(0, bool)])
            for name, values in draws.items()
            if (sites is None or name in sites) and jnp.issubdtype(values.dtype, np.inexact)
        },
        advice,
    )


def refuse_bad_draws(bad: Mapping[str, Bool[np.ndarray, " draw"]], advice: str) -> None:
    """Raise if there are bad draws.

    Args:
        bad: Which draws are bad, by site.
        advice: What to do, for the message.

    Raises:
        SiteError: With the number of bad draws of each site.
    """
    listed = ", ".join(
        f"{int(of_site.sum()):,} of {len(of_site):,} of {name!r}"
        for name, of_site in bad.items()
        if of_site.any()
    )
    if listed:
        msg = f"Posterior draws are NaN or infinite: {listed}. {advice}"
        raise SiteError(msg)


def _bad(block: np.ndarray) -> Bool[np.ndarray, " draw"]:
    return ~np.isfinite(block).reshape(len(block), -1).all(axis=1)


def _blocks(values: Array) -> list[np.ndarray]:
    array = np.asarray(values)
    step = max(1, _BLOCK_BYTES * len(array) // max(1, array.nbytes))
    return [array[start : start + step] for start in range(0, len(array), step)]
