"""Results as labelled trees: dimensions named by plates, chain and draw first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from aimz_lab.inference.provenance import versions
from aimz_lab.kernel.spec import KernelSpec, variable_name
from aimz_lab.types import SAMPLE_DIMS

if TYPE_CHECKING:
    from aimz_lab.predictive.arm import Arm
    from aimz_lab.predictive.plan import Plan
    from aimz_lab.predictive.reducers import Reducer
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
    return tuple(label or f"{variable_name(name)}_dim_{axis}" for axis, label in enumerate(dims))


def sample_dataset(
    arrays: Mapping[str, Any],
    dims: Mapping[str, tuple[str, ...]],
    num_chains: int,
    coords: Mapping[str, Any] | None = None,
    attrs: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> xr.Dataset:
    """Label arrays whose leading axis is draws, chain by chain.

    Args:
        arrays: Arrays ``(S, ...)`` by variable; they are not copied.
        dims: Names of the dimensions after the draws, by variable.
        num_chains: Chains; divides ``S``.
        coords: Labels by dimension; others are counted from 0.
        attrs: Attributes.
        sizes: Sizes of further dimensions to label.

    Returns:
        A dataset with dimensions ``chain``, ``draw`` and those named.
    """
    variables = {
        variable_name(name): _labelled_draws(array, dims[name], num_chains)
        for name, array in arrays.items()
    }
    sizes = dict(sizes or {})
    for names, values in variables.values():
        sizes.update(zip(names, values.shape, strict=True))
    return _with_coords(variables, sizes, coords or {}, attrs or {})


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
        row_axis = spec.row_axis(name) if site else None
        names[name] = site_dims(spec, name, array.ndim - 1, row_axis=row_axis, named=dims)
    return sample_dataset(arrays, names, num_chains, coords, attrs)


def posterior_tree(
    draws: Mapping[str, Any],
    num_chains: int = 1,
    *,
    stats: Mapping[str, Any] | None = None,
    **labels: Any,
) -> xr.DataTree:
    """Label posterior draws as a tree, with what a sampler says of them.

    Args:
        draws: As for :func:`posterior_dataset`.
        num_chains: Likewise.
        stats: Values of each draw by name; the group ``sample_stats``.
        **labels: As for :func:`posterior_dataset`.
    """
    groups = {"posterior": posterior_dataset(draws, num_chains, **labels)}
    return xr.DataTree.from_dict({**groups, **stats_group(stats or {}, num_chains)})


def stats_group(stats: Mapping[str, Any], num_chains: int) -> dict[str, xr.Dataset]:
    """Label what a sampler says of each draw; no group if it says nothing."""
    if not stats:
        return {}
    arrays = {name: np.asarray(values) for name, values in stats.items()}
    return {"sample_stats": sample_dataset(arrays, dict.fromkeys(arrays, ()), num_chains)}


class Labels(NamedTuple):
    """How the result of a call is labelled.

    Attributes:
        dims: For each site its dimensions without chain and draw, in the kernel's order.
        row_dims: For each site with rows, the name of their dimension.
        coords: Labels by dimension, as far as they are given.
        attrs: Attributes of the group.
    """

    dims: dict[str, tuple[str, ...]]
    row_dims: dict[str, str]
    coords: dict[str, Any]
    attrs: dict[str, Any]

    def rows_first(self, name: str) -> tuple[str, ...]:
        """A site's dimensions with the rows leading, as results are computed and stored."""
        rows = self.row_dims[name]
        return (rows, *[dim for dim in self.dims[name] if dim != rows])


def make_labels(arm: Arm) -> Labels:
    """Label the sites that a call returns."""
    request, plan = arm.request, arm.plan
    dims, row_dims = {}, {}
    for name, axis in plan.row_axes.items():
        site = plan.spec.sites[name]
        ndim = len(site.shape) if arm.quantity == "values" else site.batch_ndim
        dims[name] = site_dims(plan.spec, name, ndim, row_axis=axis, named=request.dims)
        if axis is not None:
            row_dims[name] = dims[name][axis]
    coords = dict(request.coords)
    if request.row_coord is not None:
        coords.update(dict.fromkeys(row_dims.values(), request.row_coord.labels))
    return Labels(dims, row_dims, coords, {**describe_call(request, plan), **request.attrs})


def result_groups(arm: Arm, labels: Labels, arrays: Mapping[str, Any]) -> dict[str, xr.Dataset]:
    """Label results, and put them together with the posterior and further groups.

    Args:
        arm: The scenario that was computed.
        labels: Its labels.
        arrays: Results in the kernel's order, ``(S, ...)``; those kept elsewhere are missing, but
            their dimensions are labelled.

    Returns:
        Datasets by group.
    """
    sizes = _sizes(arm, labels)
    result = sample_dataset(
        arrays, labels.dims, arm.request.chains, labels.coords, labels.attrs, sizes
    )
    return {arm.request.group: result, **_other_groups(arm, labels)}


def reduced_groups(
    arm: Arm,
    labels: Labels,
    single: Mapping[str, np.ndarray],
    reducers: Mapping[str, Reducer],
    results: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, xr.Dataset]:
    """Label reduced results as ``{site}_{reducer}``, beside the draws of sites without rows.

    Args:
        arm: The scenario that was computed.
        labels: Its labels.
        single: Draws of the sites without rows, ``(S, ...)``.
        reducers: The reducers, by name.
        results: What they gave, by site and name, with the rows leading if there are any.

    Returns:
        Datasets by group.
    """
    sizes = _sizes(arm, labels)
    variables: dict[str, Any] = {
        variable_name(name): _labelled_draws(values, labels.dims[name], arm.request.chains)
        for name, values in single.items()
    }
    coords = dict(labels.coords)
    for site, by_name in results.items():
        for name, values in by_name.items():
            one = reducers[name]
            coords.update(one.coords)
            sizes.update(dict(zip(one.coords, np.shape(values), strict=False)))
            variables[f"{variable_name(site)}_{name}"] = _labelled_reduction(
                arm, labels, site, one, values
            )
    left = {dim for values in variables.values() for dim in xr.as_variable(values).dims}
    sizes = {dim: size for dim, size in sizes.items() if dim in left}
    group = _with_coords(variables, sizes, coords, labels.attrs)
    return {arm.request.group: group, **_other_groups(arm, labels)}


def _labelled_reduction(
    arm: Arm, labels: Labels, site: str, reducer: Reducer, values: np.ndarray
) -> xr.Variable:
    rows_first = labels.rows_first(site)
    if reducer.over == "row":
        dims = (*reducer.coords, *rows_first[1:])
        return xr.Variable(*_labelled_draws(values, dims, arm.request.chains))
    return xr.Variable((*reducer.coords, *rows_first), values).transpose(
        *reducer.coords, *labels.dims[site]
    )


def _labelled_draws(
    values: np.ndarray, dims: tuple[str, ...], num_chains: int
) -> tuple[tuple[str, ...], np.ndarray]:
    shape = (num_chains, len(values) // num_chains, *values.shape[1:])
    return (*SAMPLE_DIMS, *dims), values.reshape(shape)


def _with_coords(
    variables: Mapping[str, Any],
    sizes: Mapping[str, int],
    coords: Mapping[str, Any],
    attrs: Mapping[str, Any],
) -> xr.Dataset:
    labels = {dim: np.arange(size) for dim, size in sizes.items()}
    labels.update({dim: value for dim, value in coords.items() if dim in sizes})
    return xr.Dataset(variables, labels, dict(attrs))


def _sizes(arm: Arm, labels: Labels) -> dict[str, int]:
    """Sizes of the result's dimensions."""
    request = arm.request
    sizes = dict(zip(SAMPLE_DIMS, (request.chains, request.n_draws // request.chains), strict=True))
    for name, dims in labels.dims.items():
        sizes.update(zip(dims, arm.plan.spec.shape_at(name, arm.rows.count), strict=False))
    sizes.update(dict.fromkeys(labels.row_dims.values(), arm.rows.count))
    return sizes


def _other_groups(arm: Arm, labels: Labels) -> dict[str, xr.Dataset]:
    request = arm.request
    groups = {**_data_groups(arm, labels), **request.groups}
    if not request.draws:
        return groups
    posterior = posterior_dataset(
        request.draws,
        request.num_chains,
        spec=arm.plan.spec,
        dims=request.dims,
        coords=request.coords,
    )
    return {"posterior": posterior, **groups}


def _data_groups(arm: Arm, labels: Labels) -> dict[str, xr.Dataset]:
    """The observed output, and the inputs, in groups that ArviZ knows."""
    request, spec = arm.request, arm.plan.spec
    site, rows = spec.sites[request.output], labels.row_dims.get(request.output)
    groups = {}
    observed = request.observed
    if observed is not None and np.ndim(observed) == len(site.shape):
        axis = spec.row_axis(site.name)
        dims = site_dims(spec, site.name, len(site.shape), row_axis=axis, named=request.dims)
        groups["observed_data"] = _plain_dataset({site.name: (dims, observed)}, labels)
    constant = {
        name: ((rows, *[f"{name}_dim_{i}" for i in range(np.ndim(array) - 1)]), array)
        for name, array in request.constant.items()
        # A variable with the name of a dimension would be taken for its labels.
        if rows is not None and name not in {rows, *SAMPLE_DIMS}
    }
    if constant:
        prefix = "predictions_" if request.group == "predictions" else ""
        groups[f"{prefix}constant_data"] = _plain_dataset(constant, labels)
    return groups


def _plain_dataset(
    variables: Mapping[str, tuple[tuple[str, ...], Any]], labels: Labels
) -> xr.Dataset:
    arrays = {name: (dims, np.asarray(array)) for name, (dims, array) in variables.items()}
    sizes: dict[str, int] = {}
    for dims, array in arrays.values():
        sizes.update(zip(dims, array.shape, strict=True))
    return _with_coords(arrays, sizes, labels.coords, {})


def describe_call(request: Request, plan: Plan) -> dict[str, Any]:
    """What the draws of a call depend on, in types that files keep."""
    return {
        "rng_key": np.asarray(jax.random.key_data(request.key)).tolist(),
        "shard_axis": plan.axis,
        "n_draws": request.n_draws,
        "intervention": sorted(request.intervention),
        "condition": sorted(request.condition),
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
