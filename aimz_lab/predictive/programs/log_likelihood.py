"""The log likelihood of observed sites, in nats, one value per draw and row."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from aimz_lab.errors import DataError, SiteError
from aimz_lab.predictive.programs.forward import Trace


def collect_log_likelihood(row_axes: Mapping[str, int | None]) -> Callable:
    """Collect log-densities of observed sites at their values, with the rows first.

    Args:
        row_axes: For each site, the axis of the rows in its batch shape; ``None`` for a site that
            is one event over all rows.

    Returns:
        A function of a trace. It raises :class:`DataError` where the data broadcast against the
        site instead of fitting it, as ``(n, 1)`` does against ``(n,)``.
    """

    def collect(trace: Trace) -> dict[str, jax.Array]:
        return {name: _log_density(trace, name, axis) for name, axis in row_axes.items()}

    return collect


def _log_density(trace: Trace, name: str, axis: int | None) -> jax.Array:
    site = trace.get(name)
    if site is None or site["type"] != "sample" or not site["is_observed"]:
        msg = f"The site {name!r} is not observed; pass its data to compute its log-likelihood."
        raise SiteError(msg)
    value, expected = site["value"], site["fn"].shape()
    if jnp.shape(value) != expected:
        msg = (
            f"The data of site {name!r} has shape {jnp.shape(value)} in a block of rows, but the "
            f"kernel gives the site shape {expected}; reshape the data so that both agree."
        )
        raise DataError(msg)
    density = site["fn"].log_prob(value)
    return density if axis is None else jnp.moveaxis(density, axis, 0)
