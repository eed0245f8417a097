"""Run predictive calls: plan, compute, and return a tree, arrays, or summaries."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Shaped

from aimz_lab.errors import OutputWarning
from aimz_lab.kernel.arguments import check_given_once
from aimz_lab.kernel.failures import explained
from aimz_lab.kernel.rows.statistics import Statistics
from aimz_lab.kernel.site_graph import SiteGraph
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.predictive.blocks import BLOCK_ROWS, Rows, check_same_length
from aimz_lab.predictive.call_labels import check_reducer_labels, check_same_rows
from aimz_lab.predictive.crossing import CrossingRowsError, are_proven_apart
from aimz_lab.predictive.engine import Engine
from aimz_lab.predictive.forecast import check_call_fits
from aimz_lab.predictive.level_sites import check_means
from aimz_lab.predictive.other_rows import (
    ROWS_AS_ARGUMENTS,
    check_contrasted,
    joined_output,
    statistics_in_call,
    warn_of_statistics,
)
from aimz_lab.predictive.pipeline import calls_at_once
from aimz_lab.predictive.plan import (
    Plan,
    agreeing_plans,
    keep_rows_together,
    make_plan,
    observes_entries,
    site_graph,
)
from aimz_lab.predictive.programs.compiled_programs import Programs
from aimz_lab.predictive.programs.parts import Finish, Sink
from aimz_lab.predictive.programs.scenario import Scenario
from aimz_lab.predictive.programs.sizes import blocks_per_call
from aimz_lab.predictive.reducers import Reducer, as_reducers
from aimz_lab.predictive.reducers.group_means import check_dims_apart, with_summaries
from aimz_lab.predictive.reducers.reduction import Reduction
from aimz_lab.predictive.reducers.row_means import RowMeans, contrasted
from aimz_lab.predictive.reducers.scores import check_by_row, check_scores
from aimz_lab.predictive.request import Quantity, Request
from aimz_lab.predictive.results.datasets import tree_of
from aimz_lab.predictive.results.draw_reduction import DrawReduction
from aimz_lab.predictive.results.label_checks import check_case, check_reduced
from aimz_lab.predictive.results.sinks import WRITERS, MemorySink, StoreSink, choose_sink
from aimz_lab.predictive.results.store import new_store
from aimz_lab.predictive.results.tree import (
    make_labels,
    other_sizes,
    reduced_groups,
    result_groups,
)
from aimz_lab.predictive.scenario_sites import changed_between, sites_to_draw_anew
from aimz_lab.predictive.scored_density import NO_LOO, ScoredDensity, scored_density
from aimz_lab.predictive.site_links import Compared
from aimz_lab.predictive.structure import check_plates
from aimz_lab.predictive.uninformed_draws import warn_of_output_data
from aimz_lab.preparing import doing, preparing_line
from aimz_lab.system.lazy_modules import xr
from aimz_lab.tracebacks import warn
from aimz_lab.types import callable_name

T = TypeVar("T")


def bytes_in_flight(
    row_bytes: int,
    batch_size: int | None = None,
    devices: tuple[jax.Device, ...] | None = None,
    *,
    input_bytes: int = 0,
) -> int:
    """Upper bound on the bytes of a call, beside posterior draws and what it keeps of all rows.

    The result is computed in parts: blocks of 256 rows with all draws, as many as fit into
    ``batch_size`` or 16 MiB, and at least one for each device. A CPU computes one part per core at
    once (at most 8, and 256 MiB), a GPU three of them, and several devices one. As many parts wait,
    and each writer has one. Each part may exist twice, in two layouts.

    Rows of a source take their part of the 16 MiB too. Those of the parts under way, of the next
    one, and of the one that is read are in memory, in two copies.

    What a call keeps is a result in memory; of a mean, its values; and the labels of the rows.

    Args:
        row_bytes: Number of draws times bytes of a row of the sites.
        batch_size: Rows per part, as in ``predict``.
        devices: The devices to use; by default all.
        input_bytes: Bytes of a row that is read from a source.

    Example:
        >>> bytes_in_flight(row_bytes=1000 * 4, batch_size=256) < 40 * 2**20
        True
        >>> bytes_in_flight(8, input_bytes=80) < bytes_in_flight(80, input_bytes=80)
        True
    """
    devices = devices or tuple(jax.local_devices())
    largest = max(row_bytes, input_bytes)
    rows = blocks_per_call(None, largest, batch_size, len(devices)) * BLOCK_ROWS
    at_once = calls_at_once(devices, rows * row_bytes)
    return 2 * rows * (row_bytes * (2 * at_once + WRITERS) + input_bytes * (at_once + 2))


class Predictor:
    """Runs predictive calls, and keeps their compiled programs.

    It holds no results. A copy or a pickle of it has no programs.

    Attributes:
        spec: The kernel's sites in all calls so far; ``None`` before the first.
    """

    def __init__(self, spec: KernelSpec | None = None) -> None:
        self.spec = spec
        self._programs = Programs()

    def __reduce__(self) -> tuple[type[Predictor], tuple[KernelSpec | None]]:
        return Predictor, (self.spec,)

    def predict(self, request: Request) -> xr.DataTree:
        """Draw from the predictive distribution.

        Args:
            request: The call.

        Returns:
            A tree with the group of the request, and the posterior if there is one.

        Raises:
            SiteError: If a named site does not exist or does not fit.
            DataTypeError: If the rows come from a source and depend on one another.

        Warns:
            PerformanceWarning: If rows depend on one another, so that they stay together.
        """
        return self._tree("values", request)

    def predict_arrays(self, request: Request) -> dict[str, Shaped[np.ndarray, "draw ..."]]:
        """Draw from the predictive distribution; return arrays ``(S, ...)`` by site."""
        return self._computed(self._arrays, "values", request)

    def log_likelihood(self, request: Request) -> xr.DataTree:
        """Compute the log-likelihood of the output for each draw and row.

        Args:
            request: The call; its rows include the observed output.

        Returns:
            A tree with the group ``log_likelihood``, and the posterior if there is one.

        Raises:
            SiteError: If the output is not observed, or a site does not fit.
            DataError: If the output's shape is not the site's.
            ArgumentError: If a score is asked of a density that is not all that rows add to the
                model's; or leave-one-out of rows with weights.

        Warns:
            OutputWarning: If factors add to the log density of the rows.
        """
        return self._tree("log_likelihood", request)

    def scored_density(self, request: Request) -> ScoredDensity:
        """Return what a kernel adds to its log density beside that of the output.

        Args:
            request: A call of :meth:`log_likelihood`.
        """
        rows = Rows(request.rows, request.fields)
        with explained(request.kernel, output=request.output), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come when it is computed
            plan = self._plans([request], [rows], "log_likelihood")[0]
        return self._scored_density(request, rows, plan)

    def _scored_density(self, request: Request, rows: Rows, plan: Plan) -> ScoredDensity:
        def graph_of() -> SiteGraph:
            return site_graph(request, rows, plan.spec, self._programs.remembered)

        return scored_density(plan.spec, graph_of, rows.template, request.draws or ())

    def effect(self, baseline: Request, intervention: Request) -> xr.DataTree:
        """Draw from both scenarios with the same noise, and keep their contrast alone.

        Args:
            baseline: The scenario to compare with; its draws, key, axis and devices hold for both.
            intervention: The other scenario; its labels, store and reducers hold for both.

        Returns:
            A tree like that of :meth:`predict` with what the intervention's ``combine`` makes of
            both, the difference by default, draw by draw, for the sites that both return.

        Raises:
            DataError: If the scenarios have different numbers of rows, or label them differently.
        """
        named = {
            "intervention_baseline": sorted(baseline.intervention),
            "condition_baseline": sorted(baseline.condition),
        }
        named = replace(intervention, attrs={**intervention.attrs, **named})
        return self._tree("values", baseline, named)

    def comparable(self, requests: Sequence[Request]) -> list[Request]:
        """Check scenarios that are computed one after the other, as :meth:`effect` does.

        Args:
            requests: The scenarios; rows that can be read only once are not looked at.

        Returns:
            The scenarios; under ``held="redraw"`` they draw sites anew of which the posterior's
            draws do not know what they differ in.

        Raises:
            ArgumentError: If they hold an observed site that they change, or differ in what the
                kernel takes a statistic of over all rows.
            SiteError: If the posterior holds draws of a site that they change.
        """
        if len(requests) < 2 or not all(map(_can_be_read_again, requests)):
            return [*requests]
        rows = [Rows(one.rows, one.fields) for one in requests]
        with explained(requests[0].kernel, output=requests[0].output), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come when each is computed
            plans = self._plans(requests, rows, "values")
            names = self._to_draw_anew(requests, rows, plans)
            requests = self._among_rows(requests, rows, plans, "values")
        return [replace(one, anew=frozenset(names)) for one in requests]

    def sites_read(self, request: Request) -> set[str]:
        """Return the sites with posterior draws that change what a call returns.

        Args:
            request: The call.
        """
        if not _can_be_read_again(request):
            return {*(request.draws or ())}
        rows = Rows(request.rows, request.fields)
        with explained(request.kernel, output=request.output), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come when it is computed
            plan = self._plans([request], [rows], "values")[0]
            graph = site_graph(request, rows, plan.spec, self._programs.remembered)
        wanted = plan.row_axes.keys()
        return {
            name
            for name in plan.latents
            if name in wanted or not wanted.isdisjoint(graph.reached_from(name))
        }

    def _to_draw_anew(
        self, requests: Sequence[Request], rows: Sequence[Rows], plans: Sequence[Plan]
    ) -> set[str]:
        of_changed = {name for plan in plans for name in plan.of_changed}
        specs = [plan.spec for plan in plans]
        scenarios = [*map(Compared, requests, rows, specs)]
        wanted = {name for plan in plans for name in plan.row_axes}

        def graph_of(one: Compared) -> SiteGraph:
            return site_graph(one.request, one.rows, one.spec, self._programs.remembered)

        return of_changed | sites_to_draw_anew(scenarios, wanted, graph_of)

    def _among_rows(
        self,
        requests: Sequence[Request],
        rows: Sequence[Rows],
        plans: Sequence[Plan],
        quantity: Quantity,
    ) -> list[Request]:
        """Warn of rows that the kernel computes otherwise than those of the training.

        Returns:
            The requests; beside a scenario of all training rows, those of the others name only
            the arguments in which they differ.
        """
        set_here = any(one.intervention or one.condition for one in requests)
        is_told = any(one.other_rows for one in requests) or set_here or len(requests) > 1
        if requests[0].draws is None or not is_told:
            return [*requests]
        scenarios = _scenarios(requests, plans, rows, quantity)
        found = [self._statistics(one) for one in scenarios]
        if len(requests) > 1:
            specs = [plan.spec for plan in plans]
            changed = changed_between([*map(Compared, requests, rows, specs)])
            check_contrasted(found, changed)
            if not all(one.other_rows for one in requests):
                requests = [replace(one, other_rows=one.other_rows & changed) for one in requests]
        for one, plan, its in zip(requests, plans, found, strict=True):
            warn_of_statistics(its, {*one.other_rows, *one.intervention, *one.condition})
            if text := joined_output(one, plan.spec):
                warn(f"Site {text}. {ROWS_AS_ARGUMENTS}", OutputWarning)
        return [*requests]

    def _statistics(self, scenario: Scenario) -> Mapping[str, Statistics]:
        """The statistics over rows that enter the sites to return; none of rows that are apart."""
        request, plan, rows = scenario.request, scenario.plan, scenario.rows
        if rows.streams:
            return {}
        if plan.axis == "obs" and (
            request.row_dependence == "independent"
            or are_proven_apart(self._programs, scenario, rows.n_rows)
        ):
            return {}
        return statistics_in_call(request, rows, plan, self._programs.remembered)

    def _tree(self, quantity: Quantity, *requests: Request) -> xr.DataTree:
        if requests[-1].reduce is not None:
            return self._computed(self._reduced, quantity, *requests)
        if requests[-1].store == "persistent":
            return self._computed(self._stored, quantity, *requests)
        return self._computed(self._in_memory, quantity, *requests)

    def _computed(
        self, compute: Callable[[tuple[Scenario, ...]], T], quantity: Quantity, *requests: Request
    ) -> T:
        """Plan and compute a call, and explain errors of the kernel's code."""
        first = requests[0]
        telling = preparing_line(callable_name(first.kernel), enabled=requests[-1].progress)
        with telling, explained(first.kernel, output=first.output):
            return self._planned(compute, quantity, *requests)

    def _planned(
        self, compute: Callable[[tuple[Scenario, ...]], T], quantity: Quantity, *requests: Request
    ) -> T:
        """Plan and compute a call; repeat it with all rows together if the kernel crosses rows."""
        rows = [Rows(request.rows, request.fields) for request in requests]
        check_same_length(rows)
        for request, each in zip(requests, rows, strict=True):
            check_given_once(each.template, {**request.shared, **request.static})
        check_same_rows(requests[0].labels, requests[-1].labels)
        plans = self._plans(requests, rows, quantity)
        if quantity == "values" and len(requests) == 1:
            self._tell_of_output_data(requests[0], rows[0], plans[0])
        if quantity == "log_likelihood":
            of_output = self._scored_density(requests[0], rows[0], plans[0])
            reduce = requests[0].reduce
            of_output.check({} if reduce is None else as_reducers(reduce))
            if why := of_output.why_no_loo:
                attrs = {**requests[0].attrs, NO_LOO: why}
                requests = (replace(requests[0], attrs=attrs),)
        if quantity == "log_likelihood" and plans[0].spec.is_imputed:
            requests = (observes_entries(requests[0], plans[0], self._programs.remembered),)
            plans = self._plans(requests, rows, quantity)
        if len(requests) > 1 and (anew := self._to_draw_anew(requests, rows, plans)):
            requests = tuple(replace(one, anew=frozenset(anew)) for one in requests)
            plans = self._plans(requests, rows, quantity)
        plans = agreeing_plans(plans)
        requests = tuple(self._among_rows(requests, rows, plans, quantity))
        if plans[0].axis == "obs":
            try:
                return self._seen(plans, compute(_scenarios(requests, plans, rows, quantity)))
            except CrossingRowsError as crossing:
                names = crossing.args
                # The rows of a source cannot stay together: this raises if any scenario has one.
                least = next((each for each in rows if each.streams), rows[0])
                plans = [keep_rows_together(plans[0], least, names), *plans[1:]]
        return self._seen(
            plans, compute(_scenarios(requests, agreeing_plans(plans), rows, quantity))
        )

    def _tell_of_output_data(self, request: Request, rows: Rows, plan: Plan) -> None:
        def graph_of() -> SiteGraph:
            return site_graph(request, rows, plan.spec, self._programs.remembered)

        warn_of_output_data(request, plan.spec, plan.row_axes, graph_of)

    def _seen(self, plans: Sequence[Plan], result: T) -> T:
        """Take in the sites of a call that succeeded, and return its result."""
        for plan in plans:
            self.spec = self.spec.joined(plan.spec) if self.spec else plan.spec
        return result

    def _plans(
        self, requests: Sequence[Request], rows: Sequence[Rows], quantity: Quantity
    ) -> list[Plan]:
        doing("tracing the model")
        both = zip(requests, rows, strict=True)
        return [make_plan(*each, quantity, self._programs.remembered) for each in both]

    def _run(self, scenarios: tuple[Scenario, ...], sink: Sink | Finish) -> dict[str, np.ndarray]:
        if not scenarios[0].plan.row_axes:
            return {}  # no site is asked for
        request = scenarios[-1].request
        combine = request.combine or (_difference if len(scenarios) > 1 else _alone)
        make = request.engine or Engine
        engine = make(self._programs, scenarios, combine)
        if scenarios[0].plan.axis == "draw":
            return engine.by_draws(sink)
        found = engine.by_rows(sink)
        for scenario in scenarios:
            if scenario.rows.streams:
                check_plates(scenario.request, scenario.rows)
        return found

    def _arrays(self, scenarios: tuple[Scenario, ...]) -> dict[str, np.ndarray]:
        scenario = scenarios[0]
        check_call_fits(scenario, in_memory=True)
        sink = MemorySink(scenario.request.n_draws, scenario.rows.n_rows)
        found = {**self._run(scenarios, sink), **sink.arrays()}
        return {
            name: found[name] if axis is None else np.moveaxis(found[name], 1, axis + 1)
            for name, axis in scenario.plan.row_axes.items()
        }

    def _in_memory(self, scenarios: tuple[Scenario, ...]) -> xr.DataTree:
        labels = make_labels(scenarios[-1])
        arrays = self._arrays(scenarios)
        return tree_of(result_groups(scenarios[-1], labels, arrays))

    def _stored(self, scenarios: tuple[Scenario, ...]) -> xr.DataTree:
        scenario, labels = scenarios[-1], make_labels(scenarios[-1])
        check_call_fits(scenario, in_memory=False)
        with new_store(scenario.request.output_dir, scenario.request.group) as writer:
            if writer.folds_case:
                check_case(labels.dims, writer.path)
                check_case(scenario.request.draws or (), writer.path)
            n_rows, is_here = scenario.rows.n_rows, scenario.request.engine is None
            if n_rows and is_here and writer.takes_whole(n_rows * scenario.row_bytes):
                groups = result_groups(scenario, labels, self._arrays(scenarios))
                for group, dataset in groups.items():
                    writer.write_dataset(group, dataset)
                return writer.publish(groups)
            with closing(StoreSink(writer, scenario, labels)) as sink:
                single = self._run(scenarios, sink)
                sink.finish()
                for group, dataset in result_groups(scenario, labels, single).items():
                    writer.write_dataset(group, dataset)
                return writer.publish()

    def _reduced(self, scenarios: tuple[Scenario, ...]) -> xr.DataTree:
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
            single, results = self._apart(scenarios, reducers)
        else:
            single, results = self._results(scenarios, reducers)
        single, results = contrasted(single, results, reducers)
        groups = reduced_groups(scenario, labels, single, reducers, results)
        return xr.DataTree.from_dict(with_summaries(groups, scenario.request.group, reducers))

    def _results(
        self, scenarios: tuple[Scenario, ...], reducers: Mapping[str, Reducer]
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
        """Return the draws of sites without rows, and the results by site and reducer."""
        reduction = Reduction(reducers)
        if scenarios[-1].plan.axis == "obs":
            single = self._run(scenarios, reduction)
            return single, reduction.results()
        if all(one.over == "row" for one in reducers.values()):
            by_draws = DrawReduction(reducers)
            return self._run(scenarios, by_draws), by_draws.results()
        with closing(choose_sink(scenarios[-1])) as sink:
            single = self._run(scenarios, sink)
            reduction.reduce_all(sink.arrays())
        return single, reduction.results()

    def _apart(
        self, scenarios: tuple[Scenario, ...], reducers: Mapping[str, Reducer]
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
        """Average each scenario by itself: bit for bit what a prediction of it alone gives.

        Returns:
            As :meth:`_results`, with the scenarios on the last axis.
        """
        found = []
        for number, each in enumerate(scenarios):
            doing(f"averaging scenario {number + 1} of 2", (number, 2))
            each.request = replace(each.request, combine=None)
            found.append(self._results((each,), reducers))
        (before, averages_before), (after, averages_after) = found
        return _stacked(before, after), {
            site: _stacked(averages_before[site], averages)
            for site, averages in averages_after.items()
        }


def _can_be_read_again(request: Request) -> bool:
    return isinstance(request.rows, Mapping) or request.rows.reiterable


def _is_of_averages(scenarios: Sequence[Scenario], reducers: Mapping[str, Reducer]) -> bool:
    """Whether averages are contrasted, of rows that can be read more than once."""
    is_average = all(isinstance(one, RowMeans) for one in reducers.values())
    return is_average and not any(scenario.rows.streams for scenario in scenarios)


def _stacked(
    before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    return {name: np.stack([before[name], after[name]], axis=-1) for name in after}


def _scenarios(
    requests: Sequence[Request], plans: Sequence[Plan], rows: Sequence[Rows], quantity: Quantity
) -> tuple[Scenario, ...]:
    scenarios = zip(requests, plans, rows, strict=True)
    return tuple(Scenario(request, plan, each, quantity) for request, plan, each in scenarios)


def _alone(values: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return values


def _difference(
    before: Mapping[str, jax.Array], after: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Subtract site by site; flags and unsigned counts become signed first."""
    return {name: _signed(after[name]) - _signed(before[name]) for name in after}


def _signed(values: jax.Array) -> jax.Array:
    return values.astype(np.int32) if values.dtype.kind in "bu" else values
