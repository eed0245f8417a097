"""Whether the density of the output by row is all that the rows add to a model's log density."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from aimz_lab.errors import ArgumentError, OutputWarning
from aimz_lab.kernel.site_graph import SiteGraph
from aimz_lab.kernel.spec import KernelSpec, observed_part
from aimz_lab.predictive.reducers.contract import OverDraws, Reducer
from aimz_lab.predictive.reducers.scores import OfLogLikelihood
from aimz_lab.tracebacks import warn

AS_A_DISTRIBUTION = (
    "Write all of it as the distribution of the output, in numpyro.sample(..., obs=...): "
    "dist.RightCensoredDistribution for censored times, for example."
)
"""What to do to have scores in place of a factor."""


NO_LOO = "no_loo"
"""Attribute of a log-likelihood: why leave-one-out cannot be computed from it."""


class ScoredDensity(NamedTuple):
    """What stands between the density of the output by row and the model's log density.

    Attributes:
        output: Name of the output.
        factors: Factors that are computed from the data of rows, which that density lacks.
        is_weighted: Whether the kernel weighs the rows of the output, other than for the size of a
            batch.
        own_values: Latent sites and parameters of which each row has a value of its own, and that
            the output may depend on.
    """

    output: str
    factors: tuple[str, ...] = ()
    is_weighted: bool = False
    own_values: tuple[str, ...] = ()

    @property
    def why_no_score(self) -> str:
        """Why it scores no prediction, as a clause; empty if it does."""
        if not self.factors:
            return ""
        names = ", ".join(map(repr, self.factors))
        verb, them = ("add", "them") if len(self.factors) > 1 else ("adds", "it")
        return (
            f"the factor{'s' * (len(self.factors) > 1)} {names} {verb} to the log density by the "
            f"data of the rows, and the density of {self.output!r} lacks {them}"
        )

    @property
    def why_no_loo(self) -> str:
        """Why it shows not what the posterior were without a row; empty if it does."""
        if self.why_no_score:
            return self.why_no_score
        if self.own_values:
            return f"it would have to integrate out each row's own {', '.join(self.own_values)}"
        if not self.is_weighted:
            return ""
        return "the kernel weighs its rows, so that leaving one out is not as its density says"

    def check(self, reducers: Mapping[str, Reducer]) -> None:
        """Refuse scores that would be those of another model, and warn of other results.

        Args:
            reducers: Reducers of a log-likelihood by name; none for its draws.

        Raises:
            ArgumentError: If one of them is a score that this density does not give.

        Warns:
            OutputWarning: If it lacks factors.
        """
        for name, one in reducers.items():
            leaves_out = isinstance(one, OverDraws) and one.estimates_loo
            if self.why_no_score and (leaves_out or isinstance(one, OfLogLikelihood)):
                msg = f"reduce={name!r} is refused: {self.why_no_score}. {AS_A_DISTRIBUTION}"
                raise ArgumentError(msg)
            if leaves_out and self.why_no_loo:
                msg = (
                    f"reduce={name!r} estimates leave-one-out, and {self.why_no_loo}. Compare such "
                    "models on rows that were held out, by log_likelihood(X_new, y_new, "
                    "reduce='lppd'); or repeat the rows of a count in place of a weight."
                )
                raise ArgumentError(msg)
        if self.why_no_score:
            said = self.why_no_score
            msg = f"{said[0].upper()}{said[1:]}. Scores of it would be those of another model."
            warn(f"{msg} {AS_A_DISTRIBUTION}", OutputWarning)


def scored_density(
    spec: KernelSpec,
    graph_of: Callable[[], SiteGraph],
    by_row: Collection[str],
    draws: Collection[str],
) -> ScoredDensity:
    """Find out what a kernel adds to its log density beside that of the output.

    Args:
        spec: Its structure, with the data of the output.
        graph_of: Returns which sites are computed from which.
        by_row: Its arguments by row.
        draws: Its sites of which there are draws.
    """
    known = {*draws, *spec.of_kind("param")}
    own_values = tuple(name for name in spec.learned_by_row if name in known)
    if own_values:
        graph = graph_of()
        own_values = tuple(name for name in own_values if _may_reach_output(name, spec, graph))
    # A factor in the place of the output is its density.
    factors = tuple(name for name in spec.of_kind("factor") if name != spec.output)
    if factors:
        graph = graph_of()
        factors = tuple(one for one in factors if _has_data(one, spec, graph, by_row))
    return ScoredDensity(spec.output, factors, weighs_rows(spec), own_values)


def _may_reach_output(name: str, spec: KernelSpec, graph: SiteGraph) -> bool:
    """Whether the density of the output may depend on a latent site or a parameter."""
    if not graph.is_proven or spec.sites[name].kind == "param":
        return True
    return not graph.reached_from(name).isdisjoint({spec.output, observed_part(spec.output)})


def _has_data(factor: str, spec: KernelSpec, graph: SiteGraph, by_row: Collection[str]) -> bool:
    """Whether a factor is computed from data of rows; parameters and their draws are none."""
    if not graph.is_proven:
        return True
    found, waiting = {factor}, [factor]
    while waiting:
        name = waiting.pop()
        parents = graph.factors[name] if name in graph.factors else graph.parents(name)
        if not graph.reads.get(name, frozenset()).isdisjoint(by_row):
            return True
        if any(spec.sites[one].kind == "observed" for one in parents):
            return True
        computed = {one for one in parents if spec.sites[one].kind == "deterministic"} - found
        found |= computed
        waiting += computed
    return False


def weighs_rows(spec: KernelSpec) -> bool:
    """Whether the output has a scale of the kernel's own, other than for the size of a batch."""
    site = spec.sites.get(spec.output)
    if site is None or site.scale is None:
        return False
    return site.scale == "array" or (site.scale_course != "inverse" and site.scale != 1)
