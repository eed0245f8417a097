"""Check a predictive call and put it into a request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from aimz_lab.data import (
    BatchSource,
    LoaderSource,
    RowCoord,
    StreamSource,
    as_coord,
    check_fits,
)
from aimz_lab.data.checks import check_positive_int
from aimz_lab.data.options import check_flag, check_mapping, check_names
from aimz_lab.errors import ArgumentError, CallError
from aimz_lab.inference.feeds.columns import check_columns, check_order, shared_labels
from aimz_lab.inference.feeds.inputs import table_columns
from aimz_lab.inference.feeds.ranges import ColumnScales, WatchedSource, ranges_of, warn_if_far
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.posterior import Posterior, Sites, site_names
from aimz_lab.kernel.arguments import ArgumentRoles, KernelArguments
from aimz_lab.kernel.output_transform import observed_values
from aimz_lab.kernel.signature import merge_arguments
from aimz_lab.predictive.call_labels import (
    DRAWS,
    CallLabels,
    check_set_finite,
    set_values,
    value_labels,
)
from aimz_lab.predictive.fitted_kernel import FittedKernel
from aimz_lab.predictive.inputs import PredictiveData, predictive_data
from aimz_lab.predictive.reducers import ReduceSpec, as_reducers
from aimz_lab.predictive.request import Group, Request, ScaleOfOutput
from aimz_lab.predictive.results.datasets import posterior_rows, stats_group
from aimz_lab.predictive.results.locations import location
from aimz_lab.predictive.results.observed_data import ObservedData
from aimz_lab.predictive.unlike_training import (
    changed_arguments,
    how_rows_differ,
    known_data,
    other_rows,
)
from aimz_lab.tables.table_call import Observed
from aimz_lab.types import (
    Arguments,
    Columns,
    Coords,
    Held,
    RowDependence,
    Rows,
    ShardAxis,
    Store,
    check_choice,
    shown,
)


def predict_request(
    fitted: FittedKernel,
    inputs: Any,
    kwargs: Arguments,
    kernel_kwargs: Arguments | None,
    *,
    key: jax.Array,
    group: Group | None,
    allow_nonfinite: bool,
    by_row: Iterable[str] = (),
    shared: Iterable[str] = (),
    outputs: ArrayLike | None = None,
    observed: Observed | None = None,
    output_scale: ScaleOfOutput | None = None,
    intervention: Mapping[str, ArrayLike] | None = None,
    condition: Mapping[str, ArrayLike] | None = None,
    held: Held = "refuse",
    num_draws: int = 1000,
    beside: Posterior | None = None,
    return_sites: Sites = None,
    batch_size: int | None = None,
    store: Store = "memory",
    shard_axis: ShardAxis = "obs",
    rows: RowDependence = "auto",
    output_dir: str | PathLike[str] | None = None,
    reduce: ReduceSpec | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Coords | None = None,
    progress: bool = False,
    engine: Callable | None = None,
) -> Request:
    """Check the arguments of a predictive call and put them into a request.

    Args:
        fitted: The kernel and its draws.
        inputs: The input array, arrays by field, a dataset, a loader, or any source of batches.
        kwargs: Further kernel arguments, passed by keyword.
        kernel_kwargs: Kernel arguments whose names collide with a method's own.
        key: A typed random key.
        group: Name of the tree's group; ``None`` for ``posterior_predictive`` if the rows are those
            of the training, else ``predictions``.
        allow_nonfinite: Accept NaN and infinite values in the data.
        by_row: Further arguments with one entry per row.
        shared: Further arguments that are passed whole.
        outputs: The output array, for a log-likelihood of arrays.
        observed: The output that a table has for these rows; ``None`` if it has no such column.
        output_scale: Takes the output to the scale on which it is returned.
        intervention: Values by site.
        condition: Values by site.
        held: What becomes of posterior draws that a set value would change.
        num_draws: Draws from the prior, where there is no posterior.
        beside: The model's posterior, to keep beside draws from the prior.
        return_sites: As in :meth:`aimz_lab.ImpactModel.predict`, like all that follow.
        batch_size: Rows or draws at a time.
        store: Location of the result.
        shard_axis: The axis to cut.
        rows: Whether rows are known to be independent.
        output_dir: Directory or URL of a persistent result.
        reduce: Reducers.
        dims: Names of dimensions, by site.
        coords: Labels, by dimension.
        progress: Whether to show progress.
        engine: Makes what carries out the call; ``None`` for this process.

    Raises:
        ArgumentError: If an option is not allowed.
        CallError: If arguments are missing, unknown or doubled.
        DataError: If the data does not fit together, or an index is out of bounds.
        DataTypeError: If values are not numeric.
    """
    check_choice("held", held, Held)
    _check_options(store, shard_axis, rows, output_dir, reduce)
    if batch_size is not None:
        batch_size = check_positive_int("batch_size", batch_size)
    allow_nonfinite = check_flag("allow_nonfinite", allow_nonfinite)
    progress = check_flag("progress", progress)
    reduce = None if reduce is None else as_reducers(reduce)
    return_sites, dims = site_names(return_sites), _checked_dims(dims)
    coords = _checked_coords(coords)
    extra = merge_arguments(fitted.signature, kwargs, kernel_kwargs)
    roles = _roles(fitted, by_row, shared)
    values = {
        "intervention": set_values("intervention", intervention),
        "condition": set_values("condition", condition),
    }
    for argument, given in values.items():
        check_set_finite(argument, given, allow_nonfinite)
    data = _read(fitted, inputs, outputs, extra, roles, group, allow_nonfinite, **values)
    labels = _labels(
        fitted, data, inputs, extra, coords, intervention=intervention, condition=condition
    )
    known, note = known_data(fitted, inputs, data, observed), ""
    labels = replace(labels, differ=how_rows_differ(fitted, data, known))
    changed = changed_arguments(fitted, data, known, labels.differ)
    if group is None:
        if isinstance(data.rows, Mapping):
            note = known.why_predictions(len(next(iter(data.rows.values()))))
        group = "posterior_predictive" if known.are_trained else "predictions"
    # Nothing was observed under an intervention or out of sample.
    in_sample = group in ("posterior_predictive", "log_likelihood")
    factual = in_sample and not intervention and not condition
    shown_output = _observed_output(fitted, data, known) if factual else None
    if shown_output is not None and output_scale is not None and group != "log_likelihood":
        shown_output = np.asarray(output_scale(np.asarray(shown_output)))
    return Request(
        kernel=fitted.signature.kernel,
        output=fitted.signature.output,
        output_scale=output_scale,
        observed=shown_output,
        constant=known.constant,
        params=fitted.params,
        devices=fitted.devices,
        engine=engine,
        key=key,
        held=held,
        changed=changed,
        other_rows=other_rows(fitted, data, known),
        labels=labels,
        trained=fitted.schema,
        trained_sites=tuple(fitted.spec.sites) if fitted.spec else (),
        return_sites=return_sites,
        group=group,
        group_note=note,
        batch_size=batch_size,
        store=store,
        shard_axis=shard_axis,
        row_dependence=rows,
        output_dir=output_dir,
        reduce=reduce,
        dims=dims,
        coords=coords,
        posterior_rows=_posterior_rows(fitted, data, known),
        progress=progress,
        **values,
        **_data(data),
        **_draws(fitted.posterior, num_draws, beside),
    )


def predictive_group(in_sample: bool | None, *, of_table: bool = False) -> Group | None:
    """Return the name of the group of predictions; ``None`` if the rows of a table decide.

    Raises:
        ArgumentError: If ``in_sample`` is no ``bool``.
    """
    if in_sample is None:
        return None if of_table else "posterior_predictive"
    return "posterior_predictive" if check_flag("in_sample", in_sample) else "predictions"


def _checked_dims(dims: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
    named = check_mapping("dims", dims, "names of dimensions by site")
    return {site: check_names(f"dims[{site!r}]", names) for site, names in named.items()}


def _checked_coords(coords: Coords | None) -> dict[str, ArrayLike]:
    """Return the labels by dimension.

    Raises:
        CallError: If this is no mapping, or labels are no list.
    """
    given = check_mapping("coords", coords, "labels by dimension")
    for dim, labels in given.items():
        listed = not isinstance(labels, str | bytes | Mapping | set) and _axes(labels) == 1
        if not listed:
            msg = f"coords[{dim!r}]={shown(labels)} is not allowed; use a list of labels."
            raise CallError(msg)
    return dict(given)


def _axes(labels: object) -> int | None:
    try:
        return np.ndim(labels)
    except ValueError:  # a ragged list
        return None


def _roles(fitted: FittedKernel, by_row: Iterable[str], shared: Iterable[str]) -> ArgumentRoles:
    """Return which arguments have one entry per row: as the call says, else as in training."""
    roles = ArgumentRoles.said(fitted.signature, by_row, shared)
    if fitted.schema is None:
        return roles
    return roles.after_training(fitted.schema.rows, fitted.schema.shared)


def _data(data: PredictiveData) -> dict[str, object]:
    """Return the fields of a request about the arguments of its kernel."""
    return {
        "rows": data.rows,
        "fields": data.fields,
        "shared": data.shared,
        "static": data.static,
        "row_coord": as_coord(data.row_labels),
    }


def _posterior_rows(
    fitted: FittedKernel, data: PredictiveData, known: ObservedData
) -> RowCoord | None:
    """Return labels for the rows of the draws; none beside other rows, which may have the same."""
    labels = fitted.row_labels
    is_same = known.are_in_order and labels is not None and labels.same_as(data.row_labels)
    return posterior_rows(labels) if is_same else None


def _observed_output(
    fitted: FittedKernel, data: PredictiveData, known: ObservedData
) -> ArrayLike | None:
    """Return what the output site observes of a call's rows; ``None`` where that is not known."""
    spec, outputs = fitted.spec, known.observed
    if outputs is None or spec is None or not spec.output_transform:
        return outputs
    if not isinstance(data.rows, Mapping):
        return None
    rows = {**data.rows, spec.output: outputs}
    arguments = KernelArguments(rows, data.shared, data.static)
    return observed_values(fitted.signature.kernel, spec, fitted.params, arguments)


def _labels(
    fitted: FittedKernel,
    data: PredictiveData,
    inputs: Any,
    extra: Arguments,
    coords: Coords,
    **values: Mapping[str, ArrayLike] | None,
) -> CallLabels:
    """Return the labels of a call: of its rows, columns and set values."""
    posterior = fitted.posterior
    found = value_labels(**values)
    found |= {(DRAWS, site): axes for site, axes in (posterior.labels if posterior else {}).items()}
    trained = posterior.row_labels if posterior else None
    if not found:
        return CallLabels(data.row_labels, shuffled=data.shuffled, trained=trained)
    columns = dict(table_columns(fitted.signature, inputs, extra))
    columns |= {name: tuple(map(str, np.ravel(each))) for name, each in coords.items()}
    return CallLabels(data.row_labels, columns, data.shuffled, trained, found)


def _draws(
    posterior: Posterior | None, num_draws: int, beside: Posterior | None
) -> dict[str, object]:
    """Return the fields of a request about its draws: a posterior, or the prior."""
    kept = posterior or beside
    if kept is None:
        return {"num_draws": num_draws}
    found = {
        "num_chains": kept.num_chains,
        "groups": stats_group(kept.stats, kept.num_chains),
    }
    if posterior is None:
        return {**found, "kept_draws": kept.draws, "num_draws": num_draws}
    return {**found, "draws": posterior.draws, "num_draws": posterior.num_draws}


def _read(
    fitted: FittedKernel,
    inputs: Any,
    outputs: ArrayLike | None,
    extra: Arguments,
    roles: ArgumentRoles,
    group: Group | None,
    allow_nonfinite: bool,
    intervention: Mapping[str, ArrayLike],
    condition: Mapping[str, ArrayLike],
) -> PredictiveData:
    """Read the data of a call; check its columns and indices."""
    signature = fitted.signature
    trained = fitted.schema.columns if fitted.schema else {}
    columns = table_columns(signature, inputs, {**extra, signature.output: outputs})
    check_columns(trained, columns, {signature.input: inputs, **extra})
    data = predictive_data(
        signature,
        inputs,
        outputs,
        extra,
        with_output=group == "log_likelihood",
        allow_nonfinite=allow_nonfinite,
        roles=roles,
    )
    for name, labels in shared_labels(extra, data.shared).items():
        what = f"argument {name.removesuffix('.index')!r}"
        check_order(what, labels, {**columns, **trained})
    if fitted.schema is not None and group != "prior_predictive":
        rows = _within_range(fitted.schema, data.rows, columns, fitted.column_scales)
        data = replace(data, rows=rows)
    given = {"intervention": intervention, "condition": condition}
    return _with_checked_indices(fitted, data, given)


def _with_checked_indices(
    fitted: FittedKernel, data: PredictiveData, values: Mapping[str, Mapping[str, ArrayLike]]
) -> PredictiveData:
    """Check the indices that the kernel makes of its arguments and of the values set by hand."""
    others = {"shared": data.shared, "static": data.static, "values": fitted.params}
    if fitted.posterior is not None:
        others["draws"] = fitted.posterior.draws
    given = {
        role: {name: np.asarray(value) for name, value in each.items()}
        for role, each in values.items()
    }
    for name, array in [pair for each in given.values() for pair in each.items()]:
        check_fits(array, name)
    if isinstance(data.rows, Mapping):
        fitted.indices.rows(data.rows, **others, **given)
        return data
    for role, each in given.items():  # those with one entry per row belong to no single batch
        others[role] = {name: value for name, value in each.items() if value.size == 1}
    return replace(data, rows=fitted.indices.source(data.rows, fields=data.fields, **others))


def _within_range(
    schema: InputSchema,
    rows: Rows | BatchSource,
    columns: Columns,
    scales: ColumnScales | None,
) -> Rows | BatchSource:
    """Warn of rows far outside of the training data; of a stream's, as they are read."""
    columns = {**schema.columns, **columns}
    if isinstance(rows, StreamSource):
        return WatchedSource(rows, schema.ranges, columns, scales)
    arrays = rows.loader.dataset.arrays if isinstance(rows, LoaderSource) else rows
    known = {name: arrays[name] for name in schema.ranges if name in arrays}
    warn_if_far(schema.ranges, ranges_of(known), columns, scales)
    return rows


def _check_options(
    store: Store,
    shard_axis: ShardAxis,
    rows: RowDependence,
    output_dir: str | PathLike[str] | None,
    reduce: ReduceSpec | None,
) -> None:
    check_choice("store", store, Store)
    check_choice("shard_axis", shard_axis, ShardAxis)
    check_choice("rows", rows, RowDependence)
    location("output_dir", output_dir)
    if output_dir is not None and store == "memory":
        msg = "output_dir= is where a persistent result goes; leave it out, or store= as it is."
        raise ArgumentError(msg)
    if output_dir is not None and reduce is not None:
        msg = (
            "output_dir= is where draws go, and reduce= keeps none; leave one of them out. "
            "The summaries are a tree in memory: tree.to_zarr(path) writes it."
        )
        raise ArgumentError(msg)
