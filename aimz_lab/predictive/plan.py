"""Plan a predictive call: its sites, and the axis along which to cut the work."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import jax
from jaxtyping import PyTree

from aimz_lab.errors import DataTypeError, OutputWarning, PerformanceWarning, SiteError
from aimz_lab.kernel.cache_keys import ById, shapes_of
from aimz_lab.kernel.rows.plates import pin_plates
from aimz_lab.kernel.shapes import check_shapes
from aimz_lab.kernel.spec import KernelSpec, Site
from aimz_lab.kernel.tracing import trace_spec
from aimz_lab.predictive.blocks import BLOCK_ROWS, Rows
from aimz_lab.predictive.call_labels import check_value_labels
from aimz_lab.predictive.named_sites import check_draws, check_named, row_wise_values, wanted_sites
from aimz_lab.predictive.request import Quantity, Request
from aimz_lab.types import ShardAxis

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """Plan of a predictive call.

    Attributes:
        spec: The kernel's structure.
        axis: The axis along which to cut the work.
        row_axes: For each site to return, its axis of rows; ``None`` for a site without rows.
        latents: Sites whose values are posterior draws.
        globals_drawn: Sites without rows that are neither in the posterior nor given; drawn once
            per draw, the same for all blocks.
        row_wise: Sites whose set value has one entry per row, with its axis of rows.
    """

    spec: KernelSpec
    axis: ShardAxis
    row_axes: Mapping[str, int | None]
    latents: tuple[str, ...]
    globals_drawn: tuple[str, ...]
    row_wise: Mapping[str, int]

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
        SiteError: If a named site does not exist, or a posterior draw or a set value does not have
            the shape of its site for these arguments; or if a site has the rows on two axes.
        DataTypeError: If the rows come from a source and cannot be cut.
    """
    if request.shard_axis == "draw" and rows.streams:
        msg = "shard_axis='draw' needs all rows at once; pass them as arrays, not as a loader."
        raise DataTypeError(msg)
    spec, uncuttable = remembered(_kind(request, rows), lambda: _checked_trace(request, rows))
    check_named(request, spec)
    wanted = wanted_sites(request, spec, quantity)
    check_draws(request, spec, rows.n_rows, quantity)
    row_wise = row_wise_values(request, spec, rows.n_rows)
    latents = tuple(
        name
        for name in request.draws or {}
        if name != request.output and name in spec.sites and spec.sites[name].kind == "latent"
    )
    check_value_labels(request.labels, spec, row_wise, latents)
    reason = uncuttable or _why_kept_together(request, spec, wanted, latents, quantity)
    axis = request.shard_axis
    if reason and axis == "obs":
        _warn_kept_together(rows, *reason)
        axis = "draw"
    given = {*latents, *request.condition}
    return Plan(
        spec=spec,
        axis=axis,
        row_axes={name: _row_axis(spec, name, quantity) for name in wanted},
        latents=latents,
        globals_drawn=tuple(
            name
            for name in spec.of_kind("latent")
            if name not in given and not spec.sites[name].row_axes
        ),
        row_wise=row_wise,
    )


def keep_rows_together(plan: Plan, rows: Rows, names: Iterable[str]) -> Plan:
    """Return the plan with all rows together, after a test found sites that cross rows.

    Raises:
        DataTypeError: If the rows come from a source, which cannot keep them together.

    Warns:
        PerformanceWarning: With the names of the sites.
    """
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
    if not shared:
        msg = (
            f"The scenarios share no site: {', '.join(str(list(plan.row_axes)) for plan in plans)}."
        )
        raise SiteError(msg)
    return [
        replace(plan, axis=axis, row_axes={name: plan.row_axes[name] for name in shared})
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
    warnings.warn(msg, category, stacklevel=2)


def _kind(request: Request, rows: Rows) -> Hashable:
    """A key that is equal for calls whose kernel has the same structure."""
    one = {name: array[:1] for name, array in rows.template.items()}
    shapes = shapes_of((one, dict(request.shared), dict(request.params)))
    kernel = ById(request.kernel), request.static_key, request.output
    return "structure", *kernel, request.shard_axis, rows.n_rows, shapes


def _checked_trace(
    request: Request, rows: Rows
) -> tuple[KernelSpec, tuple[str, type[Warning]] | None]:
    """Trace the kernel, and refuse shapes that multiply the rows; see :func:`_trace`."""
    spec, uncuttable = _trace(request, rows)
    check_shapes(spec, rows.template, pairs=True)
    return spec, uncuttable


def _trace(request: Request, rows: Rows) -> tuple[KernelSpec, tuple[str, type[Warning]] | None]:
    """Trace the kernel on one block, or on all rows if it needs their number."""
    row_argument = next(iter(rows.template))

    def pinned(**arguments: PyTree) -> object:
        kernel = pin_plates(request.kernel, arguments[row_argument].shape[0])
        return kernel(**arguments)

    def traced(n_rows: int) -> KernelSpec:
        return trace_spec(
            pinned,
            rows={
                name: jax.ShapeDtypeStruct((n_rows, *value.shape[1:]), value.dtype)
                for name, value in rows.template.items()
            },
            shared=request.shared,
            static=request.static,
            output=request.output,
            values=request.params,
        )

    if request.shard_axis == "draw":
        return traced(rows.n_rows), None
    try:
        if rows.n_rows == BLOCK_ROWS:  # a kernel tied to 256 rows would pass otherwise
            traced(2 * BLOCK_ROWS)
        return traced(BLOCK_ROWS), None
    except Exception:
        if rows.n_rows is None:
            raise
        spec = traced(rows.n_rows)
    return spec, ("The kernel does not run on another number of rows", PerformanceWarning)


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
    if crossing:
        return f"The kernel computes across rows at {_listed(crossing)}", PerformanceWarning
    if request.output in wanted and _row_axis(spec, request.output, quantity) is None:
        return f"The output site {request.output!r} has no axis of rows", OutputWarning
    return None


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
