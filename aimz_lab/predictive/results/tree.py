"""Label the result of a call as a tree: its sites, the posterior, and the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from aimz_lab.inference.checkpoint.provenance import versions
from aimz_lab.kernel.checks.names import why_unusable
from aimz_lab.kernel.spec import variable_name
from aimz_lab.predictive.drawn_sites import DRAWN
from aimz_lab.predictive.level_sites import category_attrs
from aimz_lab.predictive.plan import Plan
from aimz_lab.predictive.programs.scenario import Scenario
from aimz_lab.predictive.reducers import Reducer
from aimz_lab.predictive.request import Request
from aimz_lab.predictive.results.datasets import (
    Variable,
    check_coords,
    in_known_type,
    labelled_draws,
    posterior_dataset,
    posterior_dims,
    row_coords,
    sample_dataset,
    site_dims,
    with_coords,
)
from aimz_lab.predictive.results.label_checks import check_dims, check_known
from aimz_lab.predictive.scenario_sites import OBSERVED
from aimz_lab.system.lazy_modules import xr
from aimz_lab.types import SAMPLE_DIMS


class Labels(NamedTuple):
    """Labels of the result of a call.

    Attributes:
        dims: For each site its dimensions without chain and draw, in the kernel's order.
        row_dims: For each site with rows, the name of their dimension.
        coords: The user's labels by dimension.
        attrs: Attributes of the group.
    """

    dims: dict[str, tuple[str, ...]]
    row_dims: dict[str, str]
    coords: dict[str, ArrayLike]
    attrs: dict[str, object]

    def rows_first(self, name: str) -> tuple[str, ...]:
        """A site's dimensions with the rows leading, as results are computed and stored."""
        rows = self.row_dims[name]
        return (rows, *[dim for dim in self.dims[name] if dim != rows])


def make_labels(scenario: Scenario) -> Labels:
    """Label the sites that a call returns.

    Raises:
        ArgumentError: If a dimension has a name that cannot stand in results, or one that
            something else has there; or if labels are given for a dimension that there is not.
        SiteError: If dimensions are named of a site that the kernel does not have.
    """
    request, plan = scenario.request, scenario.plan
    dims, row_dims = {}, {}
    for name, axis in plan.row_axes.items():
        site = plan.spec.sites[name]
        ndim = len(site.shape) if scenario.quantity == "values" else site.batch_ndim
        dims[name] = site_dims(plan.spec, name, ndim, row_axis=axis, named=request.dims)
        if axis is not None:
            row_dims[name] = dims[name][axis]
    check_known(
        request.dims, request.coords, plan.spec, request.trained_sites, _all_dims(scenario, dims)
    )
    check_dims(dims)
    if request.draws:
        check_dims(posterior_dims(request.draws, plan.spec, request.dims))
    coords = dict(request.coords)
    if request.row_coord is not None:
        for dim in dict.fromkeys(row_dims.values()):
            coords.update(row_coords(request.row_coord, dim))
    attrs = {**_describe_call(request, plan), "row_dims": sorted({*row_dims.values()})}
    labels = Labels(dims, row_dims, coords, {**attrs, **request.attrs})
    if not scenario.rows.streams:  # whose number of rows is not known yet
        check_coords(coords, _sizes(scenario, labels))
    return labels


def result_groups(
    scenario: Scenario, labels: Labels, arrays: Mapping[str, np.ndarray]
) -> dict[str, xr.Dataset]:
    """Label results, and add the posterior, the data and further groups.

    Args:
        scenario: The scenario that was computed.
        labels: Its labels.
        arrays: Results in the kernel's order, ``(S, ...)``, except those in a store; their
            dimensions are labelled too.

    Returns:
        Datasets by group.
    """
    sizes = _sizes(scenario, labels)
    result = sample_dataset(
        arrays, labels.dims, scenario.request.chains, labels.coords, labels.attrs, sizes
    )
    return {scenario.request.group: result, **_other_groups(scenario, labels)}


def reduced_groups(
    scenario: Scenario,
    labels: Labels,
    single: Mapping[str, np.ndarray],
    reducers: Mapping[str, Reducer],
    results: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, xr.Dataset]:
    """Label reduced results as ``{site}_{reducer}``, beside the draws of sites without rows.

    Args:
        scenario: The scenario that was computed.
        labels: Its labels.
        single: Draws of the sites without rows, ``(S, ...)``.
        reducers: The reducers, by name.
        results: Their results, by site and name, with the rows leading if there are any.

    Returns:
        Datasets by group.
    """
    sizes = _sizes(scenario, labels)
    variables: dict[str, Variable] = {
        variable_name(name): labelled_draws(values, labels.dims[name], scenario.request.chains)
        for name, values in single.items()
    }
    coords = dict(labels.coords)
    for site in (name for name in labels.dims if name in results):  # as draws are ordered
        for name, values in results[site].items():
            one = reducers[name]
            coords.update(one.coords)
            sizes.update({dim: len(entries) for dim, entries in one.coords.items()})
            variables[f"{variable_name(site)}_{name}"] = _labelled_reduction(
                scenario, labels, site, one, values
            )
    left = {dim for values in variables.values() for dim in xr.as_variable(values).dims}
    sizes = {dim: size for dim, size in sizes.items() if dim in left}
    attrs = dict(labels.attrs)
    if drawn := attrs.get(DRAWN):  # what keeps the draws keeps their noise
        over_rows = [name for name, one in reducers.items() if one.over == "row"]
        attrs[DRAWN] = [*drawn, *(f"{site}_{name}" for site in drawn for name in over_rows)]
    group = with_coords(variables, sizes, coords, attrs)
    return {scenario.request.group: group, **_other_groups(scenario, labels)}


def _labelled_reduction(
    scenario: Scenario, labels: Labels, site: str, reducer: Reducer, values: np.ndarray
) -> xr.Variable:
    rows_first = labels.rows_first(site)
    if reducer.over == "row":
        dims = (*reducer.coords, *rows_first[1:])
        return xr.Variable(*labelled_draws(values, dims, scenario.request.chains))
    return xr.Variable((*reducer.coords, *rows_first), in_known_type(values)).transpose(
        *reducer.coords, *labels.dims[site]
    )


def _all_dims(scenario: Scenario, dims: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Dimensions of the results, and of all else that the tree may have."""
    request, spec = scenario.request, scenario.plan.spec
    found = [dim for names in dims.values() for dim in names]
    for name, site in spec.sites.items():
        axis = spec.row_axis(name)
        found += site_dims(spec, name, len(site.shape), row_axis=axis, named=request.dims)
    draws = request.draws or request.kept_draws or {}
    for names in posterior_dims(draws, spec, request.dims).values():
        found += names
    for name, array in request.constant.items():
        found += [f"{name}_dim_{i}" for i in range(np.ndim(array) - 1)]
    reducers = (request.reduce or {}).values() if isinstance(request.reduce, Mapping) else ()
    return [*found, *(dim for one in reducers for dim in getattr(one, "coords", ())), *SAMPLE_DIMS]


def _sizes(scenario: Scenario, labels: Labels) -> dict[str, int]:
    """Sizes of the result's dimensions."""
    request = scenario.request
    sizes = dict(zip(SAMPLE_DIMS, (request.chains, request.n_draws // request.chains), strict=True))
    for name, dims in labels.dims.items():
        sizes.update(
            zip(dims, scenario.plan.spec.shape_at(name, scenario.rows.count), strict=False)
        )
    sizes.update(dict.fromkeys(labels.row_dims.values(), scenario.rows.count))
    return sizes


def other_sizes(scenario: Scenario, labels: Labels) -> dict[str, int]:
    """Return sizes of the dimensions that a reduction over rows leaves in the result."""
    sizes, rows = _sizes(scenario, labels), set(labels.row_dims.values())
    left = {dim for dims in labels.dims.values() for dim in dims} - rows
    return {dim: size for dim, size in sizes.items() if dim in left}


def _other_groups(scenario: Scenario, labels: Labels) -> dict[str, xr.Dataset]:
    request = scenario.request
    groups = {**_data_groups(scenario, labels), **request.groups}
    kept = request.draws or request.kept_draws
    if not kept:
        return groups
    posterior = posterior_dataset(
        kept,
        request.num_chains,
        spec=scenario.plan.spec,
        dims=request.dims,
        coords=request.coords if request.draws else {},
        rows=request.posterior_rows,
    )
    if not request.draws:  # of the prior's call, whose rows may be others than the fitted ones
        sizes, coords = posterior.sizes, request.coords
        fitting = {dim: each for dim, each in coords.items() if sizes.get(dim) == np.size(each)}
        posterior = posterior.assign_coords(fitting)
    return {"posterior": posterior, **groups}


def _data_groups(scenario: Scenario, labels: Labels) -> dict[str, xr.Dataset]:
    """Return the observed output and the inputs, in groups that ArviZ knows."""
    request, spec = scenario.request, scenario.plan.spec
    site, rows = spec.sites.get(request.output), labels.row_dims.get(request.output)
    groups = {}
    observed = request.observed
    if observed is not None and site is not None and np.ndim(observed) == len(site.shape):
        axis = spec.row_axis(site.name)
        dims = site_dims(spec, site.name, len(site.shape), row_axis=axis, named=request.dims)
        groups["observed_data"] = _plain_dataset({site.name: (dims, observed)}, labels)
    constant = {
        name: ((rows, *[f"{name}_dim_{i}" for i in range(np.ndim(array) - 1)]), array)
        for name, array in request.constant.items()
        # xarray takes a variable with the name of a dimension for its labels.
        if rows is not None and name != rows and why_unusable(name) is None
    }
    if constant:
        prefix = "predictions_" if request.group == "predictions" else ""
        # A matrix cannot have a dimension of its own name, which is that of its columns in draws.
        columns = {
            f"{name}_dim_0": request.coords[name]
            for name, (_, array) in constant.items()
            if np.ndim(array) == 2
            and name in request.coords
            and np.size(request.coords[name]) == np.shape(array)[1]
        }
        dataset = _plain_dataset(constant, labels)
        groups[f"{prefix}constant_data"] = dataset.assign_coords(columns)
    return groups


def _plain_dataset(
    variables: Mapping[str, tuple[tuple[str, ...], ArrayLike]], labels: Labels
) -> xr.Dataset:
    arrays = {
        name: (dims, in_known_type(np.asarray(array))) for name, (dims, array) in variables.items()
    }
    sizes: dict[str, int] = {}
    for dims, array in arrays.values():
        sizes.update(zip(dims, array.shape, strict=True))
    return with_coords(arrays, sizes, labels.coords, {})


def _describe_call(request: Request, plan: Plan) -> dict[str, object]:
    """Return the settings behind the draws, in types that files keep."""
    scale = request.output_scale
    observed = {*plan.spec.other_outcomes}.difference(request.intervention)
    return {
        **({} if scale is None else {"output_scale": str(scale)}),
        "output": request.output,
        **({DRAWN: sorted(map(variable_name, plan.noisy))} if plan.noisy else {}),
        **category_attrs(plan.spec, plan.row_axes),
        "rng_key": np.asarray(jax.random.key_data(request.key)).tolist(),
        "shard_axis": plan.axis,
        "n_draws": request.n_draws,
        "intervention": sorted(request.intervention),
        "condition": sorted(request.condition),
        **({OBSERVED: sorted(map(variable_name, observed))} if observed else {}),
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
