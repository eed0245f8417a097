"""Rows beside which a kernel was not trained: what the kernel computes across rows is another.

A kernel that standardises by the rows of the call, or whose output is one draw over all of them,
gives a row other predictions among other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from aimz_lab.errors import ArgumentError, OutputWarning
from aimz_lab.inference.posterior_sites import as_values_of
from aimz_lab.kernel.cache_keys import shapes_of
from aimz_lab.kernel.rows.kernel_influence import exchanged_in_sites
from aimz_lab.kernel.rows.kernel_statistics import (
    COMPUTE_BEFORE,
    across_rows,
    statistics_in_sites,
)
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.predictive.blocks import Rows
from aimz_lab.predictive.plan import Plan
from aimz_lab.predictive.request import Request
from aimz_lab.predictive.structure import structure_key
from aimz_lab.tracebacks import warn

T = TypeVar("T")


def statistics_in_call(
    request: Request, rows: Rows, plan: Plan, remembered: Callable[..., T]
) -> dict[str, frozenset[str]]:
    """Return the statistics over rows that enter the sites to return, by site.

    Those of an output that is one draw over all rows are left out: these rows are one unit.

    The kernel's program shows most of them. The others show as the kernel runs on a sample of the
    rows of the first call.

    Args:
        request: The call.
        rows: Its rows.
        plan: Its plan.
        remembered: Returns the value kept under a key; calls a function for a new key.
    """
    set_here = {*request.intervention, *request.condition}
    sites = plan.spec.sites
    asked = tuple(
        name
        for name in plan.row_sites
        if name not in {*plan.latents, *set_here} and not sites[name].joins_rows
    )
    if not asked:
        return {}
    given = tuple(sorted(set_here))
    # A level that scenarios draw anew follows the rows of each on word.
    anew = {name for name in request.anew.intersection(request.draws) if not sites[name].row_axes}
    fixed = tuple(sorted({*plan.latents, *anew} - set_here))
    constants = {
        "shared": request.shared,
        "static": request.static,
        "params": request.params,
    }
    key = structure_key(plan.kernel, request, rows), asked, fixed, given
    shown = remembered(
        ("statistics", key),
        lambda: statistics_in_sites(
            request.kernel,
            plan.spec,
            asked,
            rows=rows.template,
            fixed=fixed,
            given=given,
            **constants,
        ),
    )
    names = {*rows.template, *plan.row_wise} - {request.output}
    names -= frozenset.intersection(*(shown.get(site, frozenset()) for site in asked))
    if not names:
        return shown
    one = {name: array[:1] for name, array in rows.template.items()}
    shapes = shapes_of((one, dict(request.shared), dict(request.params)))
    named = plan.kernel, request.static_key, request.output
    found = remembered(
        ("exchanged", *named, shapes, asked, fixed, given, frozenset(names)),
        lambda: exchanged_in_sites(
            request.kernel,
            plan.spec,
            asked,
            asked=names,
            rows=rows.template,
            draws=[
                {name: as_values_of(sites[name], request.draws[name][number]) for name in fixed}
                for number in (0, request.n_draws // 2)
            ],
            given={**request.condition, **request.intervention},
            **constants,
        ),
    )
    return {
        site: shown.get(site, frozenset()) | found.get(site, frozenset())
        for site in asked
        if site in shown or site in found
    }


def warn_of_statistics(found: Mapping[str, frozenset[str]], others: Collection[str]) -> None:
    """Warn of statistics of rows that are not those of the training.

    Args:
        found: The statistics, by site.
        others: The arguments and sites with other values than in training.

    Warns:
        OutputWarning: With the first site, and what enters it.
    """
    for site, each in found.items():
        if names := each.intersection(others):
            text, listed = across_rows(site, names), " and ".join(map(repr, sorted(names)))
            msg = (
                f"{text[0].upper()}{text[1:]}. The values of {listed} are not known to be those of "
                f"all rows of the training. {COMPUTE_BEFORE}"
            )
            warn(msg, OutputWarning)
            return


def check_contrasted(
    found: Sequence[Mapping[str, frozenset[str]]], changed: Collection[str]
) -> None:
    """Refuse scenarios that differ in what the kernel takes a statistic of over rows.

    Args:
        found: For each scenario, the statistics by site.
        changed: The arguments and sites in which they differ.

    Raises:
        ArgumentError: If they do.
    """
    for site, each in [pair for one in found for pair in one.items()]:
        if names := sorted(each.intersection(changed)):
            listed = " and ".join(map(repr, names))
            msg = (
                f"The scenarios differ in {listed}, and the kernel takes a statistic of {listed} "
                "over rows of a call, such as the mean of all or of a group, or the value of a "
                f"first row, on the way to {site!r}. Each scenario would be measured by its own "
                f"rows, as if the scale had moved with them. {COMPUTE_BEFORE} Give all scenarios "
                "the value of the training. Where the rows of a scenario belong together, as "
                "those of choice sets or of neighbours do, held='keep' in every scenario takes the "
                "statistic of its own rows."
            )
            raise ArgumentError(msg)


def joined_output(request: Request, spec: KernelSpec | None) -> str:
    """Say that an output is one draw over rows that are not those of the training; else empty.

    A call with arrays that the training had not may be told of the trained rows by them.

    Args:
        request: The call.
        spec: The kernel's structure.
    """
    site = spec.sites.get(request.output) if spec else None
    if not request.other_rows or request.draws is None or site is None or not site.joins_rows:
        return ""
    schema = request.trained
    if schema is not None and not {*request.shared} <= {*schema.rows, *schema.shared}:
        return ""
    return (
        f"{request.output!r} is one draw over all rows of a call, and these are not known to be "
        "all the rows of the training. What is computed of them follows from the draws of the "
        "other sites alone: the outcomes of the training are not used"
    )


ROWS_AS_ARGUMENTS = (
    "To use them, let the kernel take the trained rows and outcomes as further arguments, None in "
    "training, and sample the output given them."
)
"""What to do to predict such rows from the trained ones."""
