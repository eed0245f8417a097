"""Results as labelled trees: dimensions named by plates, chain and draw first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import xarray as xr

from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.types import SAMPLE_DIMS

if TYPE_CHECKING:
    from aimz_lab.predictive.plan import Plan
    from aimz_lab.predictive.request import Request


def site_dims(
    spec: KernelSpec | None,
    name: str,
    ndim: int,
    *,
    row_axis: int | None = None,
    named: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[str, ...]:
    """Name the dimensions of a site, without chain and draw.

    Args:
        spec: The kernel's structure; ``None`` where it is not known.
        name: The site.
        ndim: Dimensions of its value; one that was computed from the site, such as its
            log-likelihood, has the site's batch dimensions.
        row_axis: Its axis of rows, if it has one.
        named: Names given by the user, by site; for all dimensions, or for all but the rows.

    Returns:
        For each dimension the name that the user gave; else the rows' name; else the name of its
        plate; else ``{site}_dim_{i}``, which is what ArviZ calls it.
    """
    dims: list[str | None] = [None] * ndim
    site = spec.sites.get(name) if spec else None
    taken = set(SAMPLE_DIMS) | (set(spec.sites) if spec else set())
    for plate in site.plates if site else ():
        axis = min(site.batch_ndim, ndim) + plate.dim
        if 0 <= axis < ndim and site.shape[axis] == plate.subsample_size:
            dims[axis] = plate.name if plate.name not in taken else None
    if row_axis is not None:
        dims[row_axis] = spec.row_dim if spec.row_dim not in taken else "obs"
    given = list((named or {}).get(name, ()))
    free = [axis for axis in range(ndim) if len(given) == ndim or axis != row_axis]
    dims = [*dims]
    for axis, label in zip(free, given, strict=False):
        dims[axis] = label
    return tuple(label or f"{name}_dim_{axis}" for axis, label in enumerate(dims))


def sample_dataset(
    arrays: Mapping[str, Any],
    dims: Mapping[str, tuple[str, ...]],
    num_chains: int,
    coords: Mapping[str, Any] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Label arrays whose leading axis is draws, chain by chain.

    Args:
        arrays: Arrays ``(S, ...)`` by variable; they are not copied.
        dims: Names of the dimensions after the draws, by variable.
        num_chains: Chains; divides ``S``.
        coords: Labels by dimension; others are counted from 0.
        attrs: Attributes.

    Returns:
        A dataset with dimensions ``chain``, ``draw`` and those named.
    """
    variables = {}
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        shape = (num_chains, len(array) // num_chains, *array.shape[1:])
        names = (*SAMPLE_DIMS, *dims[name])
        variables[name] = (names, array.reshape(shape))
        sizes.update(zip(names, shape, strict=True))
    labels = {dim: np.arange(size) for dim, size in sizes.items()}
    labels.update({dim: value for dim, value in (coords or {}).items() if dim in sizes})
    return xr.Dataset(variables, labels, dict(attrs or {}))


def posterior_dataset(
    draws: Mapping[str, Any],
    num_chains: int = 1,
    *,
    spec: KernelSpec | None = None,
    dims: Mapping[str, tuple[str, ...]] | None = None,
    coords: Mapping[str, Any] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Label posterior draws.

    Args:
        draws: Draws by site, ``(S, ...)``, chain by chain.
        num_chains: Chains that they consist of.
        spec: The kernel's structure, whose plates name dimensions.
        dims: Names given by the user, by site.
        coords: Labels by dimension.
        attrs: Attributes.

    Returns:
        The dataset, in host memory.

    Example:
        >>> dict(posterior_dataset({"b": np.zeros((8, 3))}, num_chains=2).sizes)
        {'chain': 2, 'draw': 4, 'b_dim_0': 3}
    """
    arrays = {name: np.asarray(values) for name, values in draws.items()}
    names = {}
    for name, array in arrays.items():
        site = spec.sites.get(name) if spec else None
        row_axis = site.row_axes[0] if site and len(site.row_axes) == 1 else None
        names[name] = site_dims(spec, name, array.ndim - 1, row_axis=row_axis, named=dims)
    return sample_dataset(arrays, names, num_chains, coords, attrs)


def posterior_tree(draws: Mapping[str, Any], num_chains: int = 1, **labels: Any) -> xr.DataTree:
    """Label posterior draws as a tree; see :func:`posterior_dataset` for the arguments."""
    return xr.DataTree.from_dict({"/posterior": posterior_dataset(draws, num_chains, **labels)})


def result_tree(request: Request, plan: Plan, arrays: Mapping[str, Any]) -> xr.DataTree:
    """Label what a call computed, and put it together with the posterior and further groups."""
    spec = plan.spec
    dims = {
        name: site_dims(
            spec, name, array.ndim - 1, row_axis=plan.row_axes[name], named=request.dims
        )
        for name, array in arrays.items()
    }
    coords = dict(request.coords)
    if request.row_coord is not None:
        row_dim = next((d[plan.row_axes[n]] for n, d in dims.items() if n in plan.row_sites), None)
        coords[row_dim] = request.row_coord
    attrs = {**describe_call(request, plan), **request.attrs}
    groups = {request.group: sample_dataset(arrays, dims, request.chains, coords, attrs)}
    if request.draws:
        groups["posterior"] = posterior_dataset(
            request.draws, request.num_chains, spec=spec, dims=request.dims, coords=request.coords
        )
    return xr.DataTree.from_dict({**groups, **request.groups})


def describe_call(request: Request, plan: Plan) -> dict[str, Any]:
    """What the draws of a call depend on, in types that files keep."""
    return {
        "rng_key": np.asarray(jax.random.key_data(request.key)).tolist(),
        "shard_axis": plan.axis,
        "n_draws": request.n_draws,
        "intervention": sorted(request.intervention),
        "condition": sorted(request.condition),
    }
