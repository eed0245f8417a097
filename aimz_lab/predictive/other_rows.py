"""Rows beside which a kernel was not trained: what the kernel computes across rows is another.

A kernel that standardises by the rows of the call, or whose output is one draw over all of them,
gives a row other predictions among other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from aimz_lab.errors import ArgumentError, OutputWarning
from aimz_lab.kernel.rows.kernel_statistics import (
    COMPUTE_BEFORE,
    across_rows,
    statistics_in_sites,
)
from aimz_lab.kernel.rows.statistics import Statistics
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.predictive.blocks import Rows
from aimz_lab.predictive.plan import Plan
from aimz_lab.predictive.request import Request
from aimz_lab.predictive.structure import structure_key
from aimz_lab.tracebacks import warn

T = TypeVar("T")


def statistics_in_call(
    request: Request, rows: Rows, plan: Plan, remembered: Callable[..., T]
) -> dict[str, Statistics]:
    """Return the statistics over rows that enter the sites to return, by site.

    Those of an output that is one draw over all rows are left out: these rows are one unit.

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
    given = tuple(sorted(set_here))
    key = structure_key(plan.kernel, request, rows), asked, plan.latents, given
    return remembered(
        ("statistics", key),
        lambda: statistics_in_sites(
            request.kernel,
            plan.spec,
            asked,
            rows=rows.template,
            shared=request.shared,
            static=request.static,
            params=request.params,
            fixed=[name for name in plan.latents if name not in set_here],
            given=given,
        ),
    )


def warn_of_statistics(found: Mapping[str, Statistics], others: Collection[str]) -> None:
    """Warn of statistics of rows that are not those of the training.

    Args:
        found: The statistics, by site.
        others: The arguments and sites with other values than in training.

    Warns:
        OutputWarning: With the first site, and what enters it.
    """
    for site, each in found.items():
        if names := each.names.intersection(others):
            text = across_rows(site, names)
            msg = (
                f"{text[0].upper()}{text[1:]}. These are not known to be all the rows of the "
                f"training. {COMPUTE_BEFORE}"
            )
            warn(msg, OutputWarning)
            return


def check_contrasted(found: Sequence[Mapping[str, Statistics]], changed: Collection[str]) -> None:
    """Refuse scenarios that differ in what the kernel takes a statistic of over all rows.

    Args:
        found: For each scenario, the statistics by site.
        changed: The arguments and sites in which they differ.

    Raises:
        ArgumentError: If they do.
    """
    for site, each in [pair for one in found for pair in one.items()]:
        if names := sorted(each.of_all.intersection(changed)):
            listed = " and ".join(map(repr, names))
            msg = (
                f"The scenarios differ in {listed}, and the kernel takes a statistic of {listed} "
                f"over all rows of a call, such as a mean, on the way to {site!r}. Each scenario "
                "would be measured by its own rows, as if the scale had moved with them. "
                f"{COMPUTE_BEFORE} Give all scenarios the value of the training, unless you mean "
                "it to change too."
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
