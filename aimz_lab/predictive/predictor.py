"""Run predictive calls: plan, compute, and return a tree, arrays, or summaries."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from jaxtyping import Shaped

from aimz_lab.errors import OutputWarning
from aimz_lab.kernel.arguments import check_given_once
from aimz_lab.kernel.failures import explained
from aimz_lab.kernel.site_graph import SiteGraph
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.predictive.blocks import Rows, check_same_length
from aimz_lab.predictive.call_labels import check_same_rows
from aimz_lab.predictive.computation import (
    draws_in_memory,
    reduced_tree,
    stored_tree,
    tree_in_memory,
)
from aimz_lab.predictive.crossing import CrossingRowsError, are_proven_apart
from aimz_lab.predictive.other_rows import (
    ROWS_AS_ARGUMENTS,
    check_contrasted,
    joined_output,
    statistics_in_call,
    warn_of_statistics,
)
from aimz_lab.predictive.plan import (
    Plan,
    agreeing_plans,
    keep_rows_together,
    make_plan,
    observes_entries,
    site_graph,
)
from aimz_lab.predictive.programs.compiled_programs import Programs
from aimz_lab.predictive.programs.scenario import Scenario
from aimz_lab.predictive.reducers import as_reducers
from aimz_lab.predictive.request import Quantity, Request
from aimz_lab.predictive.scenario_sites import changed_between, sites_to_draw_anew
from aimz_lab.predictive.scored_density import NO_LOO, ScoredDensity, scored_density
from aimz_lab.predictive.site_links import Compared
from aimz_lab.predictive.uninformed_draws import warn_of_output_data
from aimz_lab.preparing import doing, preparing_line
from aimz_lab.system.lazy_modules import xr
from aimz_lab.tracebacks import warn
from aimz_lab.types import callable_name

T = TypeVar("T")


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
        return self._computed(draws_in_memory, "values", request)

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
            if not all(one.held == "keep" for one in requests):
                check_contrasted(found, changed)
            if not all(one.other_rows for one in requests):
                requests = [replace(one, other_rows=one.other_rows & changed) for one in requests]
        for one, plan, its in zip(requests, plans, found, strict=True):
            warn_of_statistics(its, {*one.other_rows, *one.intervention, *one.condition})
            if text := joined_output(one, plan.spec):
                warn(f"Site {text}. {ROWS_AS_ARGUMENTS}", OutputWarning)
        return [*requests]

    def _statistics(self, scenario: Scenario) -> Mapping[str, frozenset[str]]:
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
            return self._computed(reduced_tree, quantity, *requests)
        if requests[-1].store == "persistent":
            return self._computed(stored_tree, quantity, *requests)
        return self._computed(tree_in_memory, quantity, *requests)

    def _computed(
        self,
        compute: Callable[[Programs, tuple[Scenario, ...]], T],
        quantity: Quantity,
        *requests: Request,
    ) -> T:
        """Plan and compute a call, and explain errors of the kernel's code."""
        first = requests[0]
        telling = preparing_line(callable_name(first.kernel), enabled=requests[-1].progress)
        with telling, explained(first.kernel, output=first.output):
            return self._planned(compute, quantity, *requests)

    def _planned(
        self,
        compute: Callable[[Programs, tuple[Scenario, ...]], T],
        quantity: Quantity,
        *requests: Request,
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
                scenarios = _scenarios(requests, plans, rows, quantity)
                return self._seen(plans, compute(self._programs, scenarios))
            except CrossingRowsError as crossing:
                names = crossing.args
                # The rows of a source cannot stay together: this raises if any scenario has one.
                least = next((each for each in rows if each.streams), rows[0])
                plans = [keep_rows_together(plans[0], least, names), *plans[1:]]
        scenarios = _scenarios(requests, agreeing_plans(plans), rows, quantity)
        return self._seen(plans, compute(self._programs, scenarios))

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


def _can_be_read_again(request: Request) -> bool:
    return isinstance(request.rows, Mapping) or request.rows.reiterable


def _scenarios(
    requests: Sequence[Request], plans: Sequence[Plan], rows: Sequence[Rows], quantity: Quantity
) -> tuple[Scenario, ...]:
    scenarios = zip(requests, plans, rows, strict=True)
    return tuple(Scenario(request, plan, each, quantity) for request, plan, each in scenarios)
