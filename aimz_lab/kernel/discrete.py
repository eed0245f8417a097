"""Discrete latent sites without draws: whether and how to sum them out, row by row.

Given all other sites, the density of a row of the output is the sum, over the values of its
discrete latent sites, of their probability times the density of the output. That takes sites with
finitely many values, each of which belongs to one row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.errors import JAXTypeError
from jaxtyping import Num, PyTree
from numpyro.distributions import Distribution, Independent, MaskedDistribution

from aimz_lab.errors import KernelError, SiteError
from aimz_lab.kernel.masks import unmasked
from aimz_lab.kernel.rows.jaxprs import needed_for
from aimz_lab.kernel.spec import KernelSpec, Site
from aimz_lab.types import Array

MOST_COMBINATIONS = 4096
"""Most combinations of values that are summed for a row; each runs the kernel once."""


@dataclass(frozen=True)
class SummedSite:
    """A discrete latent site to sum out.

    Attributes:
        name: Its name.
        row_dim: The dimension of rows in its batch shape; negative.
        paired: Dimensions of the plates that it shares with the output; along these, each entry of
            the output has its own entry of the site.
    """

    name: str
    row_dim: int
    paired: tuple[int, ...]

    def values(self, distribution: Distribution) -> Num[Array, "combination ..."]:
        """All combinations of the site's values in a row; they broadcast to the site's shape.

        Raises:
            KernelError: If the site has no known number of values, or there are too many.
        """
        support = _support(self.name, distribution)
        batch, event = distribution.batch_shape, distribution.event_shape
        one_each = {len(batch) + dim for dim in (self.row_dim, *self.paired)}
        shape = [1 if axis in one_each else size for axis, size in enumerate((*batch, *event))]
        count = int(np.prod(shape))
        if len(support) ** count > MOST_COMBINATIONS:
            msg = (
                f"A row has {count} entries of the discrete latent site {self.name!r} with "
                f"{len(support)} values each; at most {MOST_COMBINATIONS:,} combinations are "
                "summed out. Pass draws of the site, or write its sum into the distribution of "
                "the output."
            )
            raise KernelError(msg)
        combination = np.arange(len(support) ** count)[:, None]
        each = combination // len(support) ** np.arange(count) % len(support)
        return support[each].reshape(-1, *shape)

    def log_prior(self, distribution: Distribution, value: Array, ndim: int) -> jax.Array:
        """The log probability of a value in each row, rows first, to add to an output's density.

        Args:
            distribution: The site's.
            value: Its value.
            ndim: Number of dimensions of the output's density.
        """
        density = unmasked(distribution).log_prob(value)
        kept = {density.ndim + dim for dim in (self.row_dim, *self.paired)}
        summed = tuple(axis for axis in range(density.ndim) if axis not in kept)
        rows_first = jnp.moveaxis(density.sum(summed, keepdims=True), self.row_dim, 0)
        rest = rows_first.shape[1:]
        missing = ndim - 1 - len(rest)
        rest = (1,) * missing + rest if missing >= 0 else rest[-missing:]
        return rows_first.reshape(rows_first.shape[0], *rest)


def sites_to_sum_out(
    densities: Callable[..., Mapping[str, jax.Array]],
    arguments: tuple[PyTree, PyTree, Mapping[str, jax.ShapeDtypeStruct]],
    missing: Collection[str],
    spec: KernelSpec,
) -> tuple[SummedSite, ...]:
    """Find the sites to sum out of the output's density.

    Args:
        densities: Returns the log density of each site that has one.
        arguments: Its arguments: rows, shared values, and values of all latent sites; shapes and
            types are enough.
        missing: The latent sites without draws.
        spec: The kernel's structure.

    Raises:
        KernelError: If a site that the output depends on cannot be summed out.
        SiteError: If it is continuous.
    """
    parents = _parents(densities, arguments, missing)
    found: dict[str, None] = {}
    waiting = [spec.output]
    while waiting:
        for name in parents.get(waiting.pop(), ()):
            if name not in found:
                found[name] = None
                waiting.append(name)
    if not found:
        return ()
    output = spec.sites[spec.output]
    for name in found:
        _check_can_be_summed(spec.sites[name], output, spec)
    for name, of in parents.items():
        shared = [one for one in of if one in found]
        if shared and name != spec.output and name not in found and _is_data(spec, name):
            msg = (
                f"The discrete latent site {shared[0]!r} also has a part in {name!r}, so that the "
                f"density of {spec.output!r} alone, with {shared[0]!r} summed out, is not the "
                "row's. Put both into one distribution, or pass draws of "
                f"{shared[0]!r}."
            )
            raise KernelError(msg)
    return tuple(
        SummedSite(name, site.row_batch_axis, _paired(site, output))
        for name, site in spec.sites.items()
        if name in found
    )


def _is_data(spec: KernelSpec, name: str) -> bool:
    return name in spec.sites and spec.sites[name].kind in ("observed", "factor")


def _check_can_be_summed(site: Site, output: Site, spec: KernelSpec) -> None:
    name = site.name
    if not site.is_discrete:
        by_row = " Its values, one a row, would have to be integrated out." if site.row_axes else ""
        msg = (
            f"The density of {output.name!r} depends on the latent site {name!r}, of which the "
            f"posterior holds no draws.{by_row} Fit the site, pass its draws to "
            "set_posterior_sample, or write the integral into the distribution of the output."
        )
        raise SiteError(msg)
    if not site.row_axes:
        msg = (
            f"All rows share the discrete latent site {name!r}; once it is summed out, no row of "
            f"{output.name!r} has a density of its own. Pass draws of it to set_posterior_sample "
            "(numpyro.infer.Predictive(..., infer_discrete=True) makes them)."
        )
        raise KernelError(msg)
    rows = site.row_axes
    if output.row_batch_axis is None or site.row_batch_axis is None:
        whole = output if output.row_batch_axis is None else site
        msg = (
            f"The rows are parts of one event at {whole.name!r}, so that the discrete latent site "
            f"{name!r} cannot be summed out row by row. Give {whole.name!r} a plate of rows, or "
            f"pass draws of {name!r}."
        )
        raise KernelError(msg)
    if len(rows) > 1 or site.shape[rows[0]] != spec.n_rows:
        msg = (
            f"The discrete latent site {name!r} has shape {site.shape}, not one entry for each of "
            f"the {spec.n_rows} rows; it cannot be summed out row by row. Pass draws of it."
        )
        raise KernelError(msg)
    paired = _paired(site, output)
    sizes = output.shape[: output.batch_ndim]
    for axis, size in enumerate(sizes):
        dim = axis - output.batch_ndim
        if size > 1 and dim not in (output.row_batch_axis, *paired):
            msg = (
                f"The {size} entries of a row of {output.name!r} share the discrete latent site "
                f"{name!r}: once it is summed out, they have one density together. Make them one "
                "event with .to_event(1), or pass draws of the site."
            )
            raise KernelError(msg)


def _paired(site: Site, output: Site) -> tuple[int, ...]:
    """Dimensions of the plates around both sites, without that of the rows."""
    if site.row_batch_axis != output.row_batch_axis:
        return ()
    rows = site.row_batch_axis
    mine = {(plate.name, plate.dim) for plate in site.plates if plate.dim != rows}
    return tuple(plate.dim for plate in output.plates if (plate.name, plate.dim) in mine)


def _support(name: str, distribution: Distribution) -> Num[np.ndarray, " value"]:
    base = distribution
    while isinstance(base, Independent | MaskedDistribution):
        base = base.base_dist
    try:
        with jax.ensure_compile_time_eval():
            support = np.asarray(base.enumerate_support(expand=False))
    except (NotImplementedError, TypeError, JAXTypeError) as error:
        msg = (
            f"The discrete latent site {name!r} has a {type(base).__name__} distribution, whose "
            "values are not a finite set known in advance; it cannot be summed out. Pass draws of "
            "it, or write its sum into the distribution of the output."
        )
        raise KernelError(msg) from error
    return support.reshape(len(support))


def _parents(
    densities: Callable[..., Mapping[str, jax.Array]],
    arguments: tuple[PyTree, PyTree, Mapping[str, jax.ShapeDtypeStruct]],
    missing: Collection[str],
) -> dict[str, tuple[str, ...]]:
    """For each density, the missing sites that it depends on, its own site aside."""
    program, shapes = jax.make_jaxpr(densities, return_shape=True)(*arguments)
    names = sorted(arguments[2])  # as JAX orders a mapping
    variables = dict(zip(names, program.jaxpr.invars[-len(names) :], strict=True))
    found = {}
    for name, result in zip(sorted(shapes), program.jaxpr.outvars, strict=True):
        needed = needed_for(program.jaxpr, [result])
        found[name] = tuple(site for site in missing if site != name and variables[site] in needed)
    return found
