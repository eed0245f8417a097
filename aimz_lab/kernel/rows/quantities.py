"""What is compared of a site when rows are cut: its log density, its value, its parameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution, Independent

from aimz_lab.kernel.masks import masks_of, unmasked
from aimz_lab.kernel.rows.compare import differ
from aimz_lab.kernel.spec import KernelSpec, Site
from aimz_lab.kernel.tracing import Message, site_kind

_NUMBERS = (jax.Array, np.ndarray, np.generic, int, float)
"""Types of the parameters of a distribution; its other attributes are not compared."""


class Quantities(NamedTuple):
    """Quantities of a site that must not change when rows are cut.

    Attributes:
        density: Its log density, if it has one.
        values: Its value, or the parameters of its distribution.
        weights: Numbers that scale its log density; they may follow the number of rows.
    """

    density: list[jax.Array]
    values: list[jax.Array]
    weights: list[jax.Array]


def quantities_of(
    trace: Mapping[str, Message], spec: KernelSpec, wanted: Collection[str], *, in_training: bool
) -> dict[str, Quantities]:
    """Quantities that must not change when rows are cut, by site.

    Of a computed site they are its value; of a drawn one and of a factor its log density and the
    parameters of its distribution. A density alone is not enough: that of a uniform distribution is
    the same wherever the distribution lies. A site that the structure lacks is one that only some
    numbers of rows have.

    Args:
        trace: NumPyro's trace of the kernel.
        spec: Its structure.
        wanted: Names of the computed sites and factors to compare; sample sites with rows are
            always among the results.
        in_training: Whether log densities are taken with their masks and scales.
    """
    found: dict[str, Quantities] = {}
    for name, message in trace.items():
        kind = site_kind(message)
        site = spec.sites.get(name)
        is_wanted = site is None or name in wanted
        if kind == "deterministic" and is_wanted:
            found[name] = Quantities([], [jnp.asarray(message["value"])], [])
        with_rows = kind in ("latent", "observed") and not is_wanted and bool(site.row_axes)
        if with_rows or (kind in ("latent", "observed", "factor") and is_wanted):
            found[name] = _of_site(site, message, trace, in_training=in_training)
    return found


def differences(
    cut: Mapping[str, Quantities],
    whole: Mapping[str, Quantities],
    numbers: jax.Array,
    n_rows: int,
) -> dict[str, jax.Array]:
    """For each site whether its quantities on a piece are others than on all rows."""

    def crosses(name: str) -> jax.Array:
        one, other = cut.get(name), whole.get(name)
        if one is None or other is None or jax.tree.structure(one) != jax.tree.structure(other):
            return jnp.array(True)
        flags = [
            differ(*pair, numbers, n_rows, is_density=is_density)
            for is_density, pairs in (
                (True, (one.density, other.density)),
                (False, (one.values, other.values)),
            )
            for pair in zip(*pairs, strict=True)
        ]
        share = n_rows / len(numbers)
        flags += [
            ~jnp.isclose(mine / its, jnp.array([1.0, share]), rtol=1e-3).any()
            for mine, its in zip(one.weights, other.weights, strict=True)
        ]
        return jnp.stack(flags).any()

    return {name: crosses(name) for name in dict.fromkeys((*whole, *cut))}


def _of_site(
    site: Site | None, message: Message, trace: Mapping[str, Message], *, in_training: bool
) -> Quantities:
    distribution, value = message["fn"], message["value"]
    parameters = _parameters(distribution)
    if not in_training:
        return Quantities([unmasked(distribution).log_prob(value)], parameters, [])
    scales, weights = _scales(message, trace)
    density = distribution.log_prob(value)
    if site is not None and site.row_axes and site.row_batch_axis is None:
        density = _by_row(unmasked(distribution), value)
    return Quantities([density], [*parameters, *masks_of(distribution), *scales], weights)


def _parameters(distribution: Distribution) -> list[jax.Array]:
    leaves = jax.tree.leaves(distribution)
    return [jnp.asarray(leaf) for leaf in leaves if isinstance(leaf, _NUMBERS)]


def _by_row(distribution: Distribution, value: jax.Array) -> jax.Array:
    """The log density of an event of independent entries, by entry."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution.log_prob(value)


def _scales(
    message: Message, trace: Mapping[str, Message]
) -> tuple[list[jax.Array], list[jax.Array]]:
    """What scales a site's log density: arrays, and numbers that are computed.

    An array is without the share of the plates' rows in it. A plain number is none of these:
    whether it follows the rows is another question.
    """
    scale = message.get("scale")
    if scale is None or isinstance(scale, (int, float, np.number)):
        return [], []
    if jnp.ndim(scale) == 0:
        return [], [jnp.asarray(scale)]
    for frame in message["cond_indep_stack"]:
        if frame.name in trace:
            scale = scale * (frame.size / trace[frame.name]["args"][0])
    return [scale], []
