"""The log likelihood of observed sites, in nats, one value per draw and row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Num

from aimz_lab.errors import DataError, KernelError, SiteError
from aimz_lab.kernel.checks.bounds import log_prob_within
from aimz_lab.kernel.discrete import MOST_COMBINATIONS, SummedSite
from aimz_lab.predictive.programs.forward import Run, Trace


def collect_log_likelihood(
    row_axes: Mapping[str, int | None], summed_out: tuple[SummedSite, ...] = ()
) -> Callable:
    """Collect log-densities of observed sites at their values, with the rows first.

    Args:
        row_axes: For each site, the axis of the rows in its batch shape; ``None`` for a site that
            is one event over all rows.
        summed_out: Discrete latent sites to sum out.

    Returns:
        A function that runs the kernel. It raises :class:`DataError` where the data broadcast
        against the site instead of fitting it, as ``(n, 1)`` does against ``(n,)``.
    """

    def collect(run: Run) -> dict[str, jax.Array]:
        trace = run({})
        given = {name: _log_density(trace, name, axis) for name, axis in row_axes.items()}
        if not summed_out or not row_axes:
            return given
        values = _combinations(trace, summed_out)

        def add(
            total: dict[str, jax.Array], chosen: dict[str, jax.Array]
        ) -> tuple[dict[str, jax.Array], None]:
            trace = run(chosen)
            joint = {
                name: _joint_density(trace, name, axis, summed_out)
                for name, axis in row_axes.items()
            }
            return jax.tree.map(jnp.logaddexp, total, joint), None

        nothing = jax.tree.map(lambda density: jnp.full_like(density, -jnp.inf), given)
        return jax.lax.scan(add, nothing, values)[0]

    return collect


def _combinations(
    trace: Trace, summed_out: tuple[SummedSite, ...]
) -> dict[str, Num[jax.Array, "combination ..."]]:
    """All combinations of the values of the sites in a row, as values for all rows."""
    each = {site.name: site.values(trace[site.name]["fn"]) for site in summed_out}
    count = math.prod(len(values) for values in each.values())
    if count > MOST_COMBINATIONS:
        names = ", ".join(map(repr, each))
        msg = (
            f"The discrete latent sites {names} have {count:,} combinations of values in a row; at "
            f"most {MOST_COMBINATIONS:,} are summed out. Pass draws of some of them to "
            "set_posterior_sample."
        )
        raise KernelError(msg)
    places = np.unravel_index(np.arange(count), tuple(len(values) for values in each.values()))
    found = {}
    for (name, values), place in zip(each.items(), places, strict=True):
        like = jnp.asarray(trace[name]["value"])
        chosen = values[place]
        found[name] = jnp.broadcast_to(chosen, (count, *like.shape)).astype(like.dtype)
    return found


def _joint_density(
    trace: Trace, name: str, axis: int | None, summed_out: tuple[SummedSite, ...]
) -> jax.Array:
    density = _log_density(trace, name, axis)
    for site in summed_out:
        drawn = trace[site.name]
        density = density + site.log_prior(drawn["fn"], drawn["value"], density.ndim)
    return density


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
    density = log_prob_within(site["fn"], value)
    return density if axis is None else jnp.moveaxis(density, axis, 0)
