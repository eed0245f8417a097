"""Plan a predictive call: its sites, and the axis along which to cut the work."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from aimz_lab.errors import DataTypeError, OutputWarning, PerformanceWarning, SiteError
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.cache_keys import CodeKey
from aimz_lab.kernel.checks.names import check_names
from aimz_lab.kernel.checks.shapes import check_shapes
from aimz_lab.kernel.discrete import SummedSite
from aimz_lab.kernel.event_dims import warn_of_unnamed
from aimz_lab.kernel.observed_entries import as_observed_output
from aimz_lab.kernel.site_graph import SiteGraph, trace_site_graph
from aimz_lab.kernel.spec import KernelSpec, Site, imputed_part
from aimz_lab.predictive.blocks import Rows
from aimz_lab.predictive.call_labels import check_value_labels
from aimz_lab.predictive.changed_arguments import sites_of_changed
from aimz_lab.predictive.drawn_sites import drawn_by_row, expected_sites, noisy_sites
from aimz_lab.predictive.held_sites import check_reach, sites_to_redraw
from aimz_lab.predictive.latents_without_draws import find_summed_sites
from aimz_lab.predictive.mixed_latents import check_mixed
from aimz_lab.predictive.named_sites import check_draws, check_named, row_wise_values, wanted_sites
from aimz_lab.predictive.request import Quantity, Request
from aimz_lab.predictive.site_links import Compared
from aimz_lab.predictive.structure import Structure, structure_key, trace_structure
from aimz_lab.predictive.trained_shapes import check_row_axes, with_trained_shapes
from aimz_lab.predictive.uninformed_draws import check_informed
from aimz_lab.tracebacks import warn
from aimz_lab.types import ShardAxis

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """Plan of a predictive call.

    Attributes:
        kernel: The kernel and what it reads.
        spec: The kernel's structure.
        axis: The axis along which to cut the work.
        row_axes: For each site to return, its axis of rows; ``None`` for a site without rows.
        latents: Sites whose values are posterior draws.
        globals_drawn: Sites without rows that are neither in the posterior nor given; drawn once
            per draw, the same for all blocks.
        row_wise: Sites whose set value has one entry per row, with its axis of rows.
        summed_out: Discrete sites to sum out of the density of the output.
        replaced: Sites intervened on whose own value the set one replaces: computed sites, and
            those in loops. Others are drawn beside it.
        expected: The sites to return as the mean of their distribution, given the other sites.
        noisy: The sites to return that hold the noise of values drawn for each row.
        of_changed: Sites that are drawn anew, as they depend on arguments unlike the training's.
    """

    kernel: CodeKey
    spec: KernelSpec
    axis: ShardAxis
    row_axes: Mapping[str, int | None]
    latents: tuple[str, ...]
    globals_drawn: tuple[str, ...]
    row_wise: Mapping[str, int]
    summed_out: tuple[SummedSite, ...] = ()
    replaced: frozenset[str] = frozenset()
    expected: frozenset[str] = frozenset()
    noisy: frozenset[str] = frozenset()
    of_changed: frozenset[str] = frozenset()

    @property
    def row_sites(self) -> dict[str, int]:
        """The sites to return with rows, each with its axis of rows."""
        return {name: axis for name, axis in self.row_axes.items() if axis is not None}

    @property
    def global_sites(self) -> tuple[str, ...]:
        """The sites to return without rows."""
        return tuple(name for name, axis in self.row_axes.items() if axis is None)


def make_plan(
    request: Request,
    rows: Rows,
    quantity: Quantity,
    remembered: Callable[[Hashable, Callable[[], T]], T],
) -> Plan:
    """Check a request against the kernel, and plan it.

    Args:
        request: The call.
        rows: Its rows.
        quantity: Values of sites, or their log likelihood.
        remembered: Returns the value kept under a key; calls a function for a new key.

    Returns:
        The plan; its axis is ``"draw"`` where the rows cannot be cut, with a warning.

    Raises:
        SiteError: If a named site does not exist, a posterior draw or a set value does not have
            the shape of its site for these arguments, a site has the rows on two axes, a set value
            does not reach what it should, or a draw does not know a value or an argument that
            changes its site.
        DataTypeError: If the rows come from a source and cannot be cut.
        DataError: If there are more rows than a plate of a fixed size has entries.
        KernelError: If a name cannot stand in results, a plate takes others than the rows at
            random, or a discrete site of a log-likelihood has no draws and cannot be summed out.
    """
    if request.shard_axis == "draw" and rows.streams:
        msg = "shard_axis='draw' needs all rows at once; pass them as arrays, not as a loader."
        raise DataTypeError(msg)
    kernel = CodeKey(request.kernel)
    kind = structure_key(kernel, request, rows)
    check_row_axes(request, rows)
    spec, uncuttable = remembered(kind, lambda: _checked_structure(request, rows))
    request = _without_imputed_draws(request, spec)
    check_named(request, spec)
    wanted = wanted_sites(request, spec, quantity)
    row_wise = row_wise_values(request, spec, rows.n_rows)
    latents = _latents_with_draws(request, spec)
    replaced, below, redrawn = frozenset[str](), set[str](), set[str]()

    def graph_of() -> SiteGraph:
        return site_graph(request, rows, spec, remembered)

    if request.intervention or request.condition:
        graph = graph_of()
        check_reach(request, spec, wanted, graph)
        redrawn = sites_to_redraw(request, wanted, latents, graph)
        computed = {*graph.looped, *spec.of_kind("deterministic")}
        replaced = frozenset(computed.intersection(request.intervention))
        below = below.union(*map(graph.reached_from, request.intervention))
    of_changed = sites_of_changed(
        Compared(request, rows, spec), quantity, wanted, latents, graph_of, remembered
    )
    redrawn |= request.anew | of_changed
    latents = tuple(name for name in latents if name not in redrawn)
    check_draws(request, spec, rows.n_rows, quantity, below, redrawn)
    given = {*latents, *request.condition}
    missing = tuple(name for name in spec.of_kind("latent") if name not in given)
    summed_out = ()
    if quantity == "log_likelihood":
        summed_out = remembered(
            ("summed out", kind, missing, request.row_dependence),
            lambda: find_summed_sites(request, rows, spec, missing),
        )
    # The draws of a site that is intervened on come back, and nothing is computed from them.
    read = [name for name in latents if name not in request.intervention or name in wanted]
    check_mixed(Compared(request, rows, spec), wanted, read, remembered)
    can_redraw = quantity == "values"
    check_value_labels(request.labels, spec, row_wise, read, can_redraw=can_redraw)
    expected, noisy = frozenset[str](), frozenset[str]()
    if quantity == "values":
        if request.draws is not None:
            check_informed(spec, wanted, {*given, *request.intervention}, graph_of)
        given |= replaced.union(n for n in spec.sample_sites if not spec.sites[n].is_drawn)
        drawn = drawn_by_row(request, spec, given)
        expected = expected_sites(request, spec, wanted, drawn)
        noisy = noisy_sites(request, spec, wanted, drawn, expected, given, graph_of)
    axis = request.shard_axis
    reason = _why_kept_together(request, spec, wanted, latents, quantity)
    if uncuttable:
        reason = uncuttable, PerformanceWarning
    if axis == "obs" and reason:
        _warn_kept_together(rows, *reason)
        axis = "draw"
    return Plan(
        kernel=kernel,
        spec=spec,
        axis=axis,
        row_axes={name: _row_axis(spec, name, quantity) for name in wanted},
        latents=latents,
        globals_drawn=_without_rows(missing, spec),
        row_wise=row_wise,
        summed_out=summed_out,
        replaced=replaced,
        expected=expected,
        noisy=noisy,
        of_changed=frozenset(of_changed),
    )


def _without_imputed_draws(request: Request, spec: KernelSpec) -> Request:
    """Leave out draws of the output's missing entries: they are the output of the fitted rows."""
    name = imputed_part(spec.output)
    imputed = spec.is_imputed or name not in spec.sites
    if request.draws is None or name not in request.draws or not imputed:
        return request
    return replace(request, draws={n: v for n, v in request.draws.items() if n != name})


def observes_entries(request: Request, plan: Plan, remembered: Callable) -> Request:
    """Return a request of a log-likelihood whose output is a site with missing entries.

    Args:
        request: The call.
        plan: Its plan.
        remembered: As in :func:`make_plan`.
    """
    kernel = remembered(
        ("observed entries", plan.kernel, request.output),
        lambda: as_observed_output(request.kernel, request.output),
    )
    return replace(_without_imputed_draws(request, plan.spec), kernel=kernel)


def _latents_with_draws(request: Request, spec: KernelSpec) -> tuple[str, ...]:
    """Return the latent sites that the posterior has draws of."""
    return tuple(
        name
        for name in request.draws or {}
        if name != request.output
        and name in spec.sites
        and spec.sites[name].kind == "latent"
        and _has_values(spec.sites[name])
    )


def _without_rows(names: Iterable[str], spec: KernelSpec) -> tuple[str, ...]:
    """Return those of some sites that have values, but no rows."""
    sites = spec.sites
    return tuple(name for name in names if not sites[name].row_axes and _has_values(sites[name]))


def keep_rows_together(plan: Plan, rows: Rows, names: Iterable[str]) -> Plan:
    """Return the plan with all rows together, after a check found sites that cross rows.

    Raises:
        DataTypeError: If the rows come from a source, which cannot keep them together.

    Warns:
        PerformanceWarning: With the names of the sites.
    """
    if rows.streams:
        msg = (
            f"The kernel may compute across rows at {_listed(names)}, and the batches of a loader "
            "would split what it computes. Pass the rows as arrays; or pass rows='independent' if "
            "each row is computed from that row alone."
        )
        raise DataTypeError(msg)
    _warn_kept_together(rows, f"The kernel computes across rows at {_listed(names)}")
    return replace(plan, axis="draw")


def agreeing_plans(plans: Sequence[Plan]) -> list[Plan]:
    """Give the scenarios of an effect the same sites and the same axis.

    Raises:
        SiteError: If they have no site in common.
    """
    axis = "draw" if any(plan.axis == "draw" for plan in plans) else "obs"
    shared = [
        name
        for name, rows in plans[0].row_axes.items()
        if all(plan.row_axes.get(name, -1) == rows for plan in plans)
    ]
    if not shared and any(plan.row_axes for plan in plans):
        msg = (
            f"The scenarios share no site: {', '.join(str(list(plan.row_axes)) for plan in plans)}."
        )
        raise SiteError(msg)
    noisy = frozenset(name for name in shared if any(name in plan.noisy for plan in plans))
    return [
        replace(
            plan, axis=axis, row_axes={name: plan.row_axes[name] for name in shared}, noisy=noisy
        )
        for plan in plans
    ]


def _warn_kept_together(
    rows: Rows, reason: str, category: type[Warning] = PerformanceWarning
) -> None:
    if rows.streams:
        msg = f"{reason}; the batches of a loader would split it. Pass the rows as arrays."
        raise DataTypeError(msg)
    msg = (
        f"{reason}; shard_axis='obs' cannot split it, so the call runs under shard_axis='draw'. "
        "Pass shard_axis='draw' to silence this warning."
    )
    warn(msg, category)


def _checked_structure(request: Request, rows: Rows) -> Structure:
    """Trace the kernel, and refuse some names and shapes; see :func:`trace_structure`."""
    try:
        structure = trace_structure(request, rows)
    except Exception as error:
        named = with_trained_shapes(error, request, rows)
        if named is error:
            raise
        raise named from error
    check_names(structure.spec)
    check_shapes(structure.spec, rows.template, pairs=True)
    warn_of_unnamed(structure.spec)
    return structure


def site_graph(request: Request, rows: Rows, spec: KernelSpec, remembered: Callable) -> SiteGraph:
    """Return which sites are computed from which.

    Args:
        request: The call.
        rows: Its rows.
        spec: The kernel's structure in this call.
        remembered: As in :func:`make_plan`.
    """

    def traced() -> SiteGraph:
        arguments = KernelArguments(rows.template, request.shared, request.static)
        return trace_site_graph(request.kernel, spec, arguments, request.params)

    kind = structure_key(CodeKey(request.kernel), request, rows)
    return remembered(("graph", kind), traced)


def _row_axis(spec: KernelSpec, name: str, quantity: Quantity) -> int | None:
    if quantity == "values":
        return spec.row_axis(name)
    site = spec.sites[name]
    axis = site.row_batch_axis
    return None if axis is None else site.batch_ndim + axis


def _why_kept_together(
    request: Request,
    spec: KernelSpec,
    wanted: tuple[str, ...],
    latents: tuple[str, ...],
    quantity: Quantity,
) -> tuple[str, type[Warning]] | None:
    """Return why the rows cannot be cut, or ``None``."""
    by_row = [name for name in latents if spec.sites[name].row_axes]
    if by_row:
        return (
            f"The posterior holds one value a row of {_listed(by_row)}",
            PerformanceWarning,
        )
    crossing = [
        name
        for name, site in spec.sites.items()
        if site.kind != "param" and site.row_axes and not _has_one_row_axis(site, spec)
    ]
    without = request.output in wanted and _row_axis(spec, request.output, quantity) is None
    if crossing and not (without and quantity == "values"):
        return f"The kernel computes across rows at {_listed(crossing)}", PerformanceWarning
    if without:
        return f"The output site {request.output!r} does not have one value a row", OutputWarning
    return None


def _has_values(site: Site) -> bool:
    """Whether there is anything to draw; the value of a ``Unit`` is empty."""
    return 0 not in site.shape


def _has_one_row_axis(site: Site, spec: KernelSpec) -> bool:
    """Whether each row of the site is a row of the data, and no event spans several rows."""
    return (
        len(site.row_axes) == 1
        and site.shape[site.row_axes[0]] == spec.n_rows
        and (site.row_axes[0] < site.batch_ndim)
    )


def _listed(names: Iterable[str]) -> str:
    names = tuple(names)
    return f"site{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"
