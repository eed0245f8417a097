"""Compute a planned call: into memory, into a store, or through reducers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace

import jax
import numpy as np

from aimz_lab.predictive.call_labels import check_reducer_labels
from aimz_lab.predictive.engine import Engine
from aimz_lab.predictive.forecast import check_call_fits
from aimz_lab.predictive.level_sites import check_means
from aimz_lab.predictive.programs.compiled_programs import Programs
from aimz_lab.predictive.programs.parts import Finish, Sink
from aimz_lab.predictive.programs.scenario import Scenario
from aimz_lab.predictive.reducers import Reducer, as_reducers
from aimz_lab.predictive.reducers.group_means import check_dims_apart, with_summaries
from aimz_lab.predictive.reducers.reduction import Reduction
from aimz_lab.predictive.reducers.row_means import RowMeans, contrasted
from aimz_lab.predictive.reducers.scores import check_by_row, check_scores
from aimz_lab.predictive.results.datasets import tree_of
from aimz_lab.predictive.results.draw_reduction import DrawReduction
from aimz_lab.predictive.results.label_checks import check_case, check_reduced
from aimz_lab.predictive.results.sinks import MemorySink, StoreSink, choose_sink
from aimz_lab.predictive.results.store import new_store
from aimz_lab.predictive.results.tree import make_labels, other_sizes, reduced_groups, result_groups
from aimz_lab.predictive.structure import check_plates
from aimz_lab.preparing import doing
from aimz_lab.system.lazy_modules import xr


def _run(
    programs: Programs, scenarios: tuple[Scenario, ...], sink: Sink | Finish
) -> dict[str, np.ndarray]:
    """Compute a call into a sink; return the sites without rows."""
    if not scenarios[0].plan.row_axes:
        return {}  # no site is asked for
    request = scenarios[-1].request
    combine = request.combine or (_difference if len(scenarios) > 1 else _alone)
    make = request.engine or Engine
    engine = make(programs, scenarios, combine)
    if scenarios[0].plan.axis == "draw":
        return engine.by_draws(sink)
    found = engine.by_rows(sink)
    for scenario in scenarios:
        if scenario.rows.streams:
            check_plates(scenario.request, scenario.rows)
    return found


def draws_in_memory(programs: Programs, scenarios: tuple[Scenario, ...]) -> dict[str, np.ndarray]:
    """Return the draws of each site, ``(S, ...)``.

    Args:
        programs: Keeps compiled programs.
        scenarios: The call's scenarios; labels, store and reducers are those of the last one.
    """
    scenario = scenarios[0]
    check_call_fits(scenario, in_memory=True)
    sink = MemorySink(scenario.request.n_draws, scenario.rows.n_rows)
    found = {**_run(programs, scenarios, sink), **sink.arrays()}
    return {
        name: found[name] if axis is None else np.moveaxis(found[name], 1, axis + 1)
        for name, axis in scenario.plan.row_axes.items()
    }


def tree_in_memory(programs: Programs, scenarios: tuple[Scenario, ...]) -> xr.DataTree:
    """Return the draws as a tree of arrays.

    Args:
        programs: Keeps compiled programs.
        scenarios: The call's scenarios; labels, store and reducers are those of the last one.
    """
    labels = make_labels(scenarios[-1])
    arrays = draws_in_memory(programs, scenarios)
    return tree_of(result_groups(scenarios[-1], labels, arrays))


def stored_tree(programs: Programs, scenarios: tuple[Scenario, ...]) -> xr.DataTree:
    """Write the draws into a new store, and return them as a tree that reads it.

    Args:
        programs: Keeps compiled programs.
        scenarios: The call's scenarios; labels, store and reducers are those of the last one.
    """
    scenario, labels = scenarios[-1], make_labels(scenarios[-1])
    check_call_fits(scenario, in_memory=False)
    with new_store(scenario.request.output_dir, scenario.request.group) as writer:
        if writer.folds_case:
            check_case(labels.dims, writer.path)
            check_case(scenario.request.draws or (), writer.path)
        n_rows, is_here = scenario.rows.n_rows, scenario.request.engine is None
        if n_rows and is_here and writer.takes_whole(n_rows * scenario.row_bytes):
            groups = result_groups(scenario, labels, draws_in_memory(programs, scenarios))
            for group, dataset in groups.items():
                writer.write_dataset(group, dataset)
            return writer.publish(groups)
        with closing(StoreSink(writer, scenario, labels)) as sink:
            single = _run(programs, scenarios, sink)
            sink.finish()
            for group, dataset in result_groups(scenario, labels, single).items():
                writer.write_dataset(group, dataset)
            return writer.publish()


def reduced_tree(programs: Programs, scenarios: tuple[Scenario, ...]) -> xr.DataTree:
    """Return what the reducers of a call make of the draws.

    Args:
        programs: Keeps compiled programs.
        scenarios: The call's scenarios; labels, store and reducers are those of the last one.
    """
    scenario = scenarios[-1]
    reducers = as_reducers(scenario.request.reduce)
    check_scores(reducers, scenario.request.group)
    check_reducer_labels(reducers, scenario.request.labels)
    labels, plan = make_labels(scenario), scenario.plan
    if scenario.quantity == "log_likelihood" and plan.global_sites:
        check_by_row(reducers, scenario.request.output)
    check_reduced(plan.global_sites, plan.row_sites, reducers, labels.dims)
    check_dims_apart(reducers, other_sizes(scenario, labels), labels.coords)
    check_means(reducers.values(), scenario.request.attrs, plan.spec, plan.row_sites)
    check_call_fits(scenario, in_memory=False)
    Reduction(reducers).check_rows(scenario.rows.n_rows)
    if len(scenarios) > 1 and _is_of_averages(scenarios, reducers):
        single, results = _apart(programs, scenarios, reducers)
    else:
        single, results = _results(programs, scenarios, reducers)
    single, results = contrasted(single, results, reducers)
    groups = reduced_groups(scenario, labels, single, reducers, results)
    return xr.DataTree.from_dict(with_summaries(groups, scenario.request.group, reducers))


def _results(
    programs: Programs, scenarios: tuple[Scenario, ...], reducers: Mapping[str, Reducer]
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
    """Return the draws of sites without rows, and the results by site and reducer."""
    reduction = Reduction(reducers)
    if scenarios[-1].plan.axis == "obs":
        single = _run(programs, scenarios, reduction)
        return single, reduction.results()
    if all(one.over == "row" for one in reducers.values()):
        by_draws = DrawReduction(reducers)
        return _run(programs, scenarios, by_draws), by_draws.results()
    with closing(choose_sink(scenarios[-1])) as sink:
        single = _run(programs, scenarios, sink)
        reduction.reduce_all(sink.arrays())
    return single, reduction.results()


def _apart(
    programs: Programs, scenarios: tuple[Scenario, ...], reducers: Mapping[str, Reducer]
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
    """Average each scenario by itself: bit for bit what a prediction of it alone gives.

    Returns:
        As :func:`_results`, with the scenarios on the last axis.
    """
    found = []
    for number, each in enumerate(scenarios):
        doing(f"averaging scenario {number + 1} of 2", (number, 2))
        each.request = replace(each.request, combine=None)
        found.append(_results(programs, (each,), reducers))
    (before, averages_before), (after, averages_after) = found
    return _stacked(before, after), {
        site: _stacked(averages_before[site], averages) for site, averages in averages_after.items()
    }


def _is_of_averages(scenarios: Sequence[Scenario], reducers: Mapping[str, Reducer]) -> bool:
    """Whether averages are contrasted, of rows that can be read more than once."""
    is_average = all(isinstance(one, RowMeans) for one in reducers.values())
    return is_average and not any(scenario.rows.streams for scenario in scenarios)


def _stacked(
    before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    return {name: np.stack([before[name], after[name]], axis=-1) for name in after}


def _alone(values: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return values


def _difference(
    before: Mapping[str, jax.Array], after: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Subtract site by site; flags and unsigned counts become signed first."""
    return {name: _signed(after[name]) - _signed(before[name]) for name in after}


def _signed(values: jax.Array) -> jax.Array:
    return values.astype(np.int32) if values.dtype.kind in "bu" else values
