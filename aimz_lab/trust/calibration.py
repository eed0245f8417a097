"""Does the inference find what it was given: simulation-based calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Int
from numpyro import handlers
from numpyro.infer import MCMC, SVI
from numpyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal

from aimz_lab.data import canonical
from aimz_lab.data.checks import check_positive_int
from aimz_lab.errors import ArgumentError, DataTypeError, KernelError
from aimz_lab.inference.posterior import Posterior
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.censoring import is_censored
from aimz_lab.kernel.output_transform import output_transform, why_not_itself
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.site_graph import trace_site_graph
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import trace_spec, tracing_lock
from aimz_lab.predictive.request import Request
from aimz_lab.system.lazy_modules import pd, xr
from aimz_lab.system.random_streams import own_rng
from aimz_lab.trust.guide_advice import richer_guides
from aimz_lab.trust.posterior_checks import entries
from aimz_lab.trust.replications import Experiment, replicate
from aimz_lab.trust.report import Finding, Report
from aimz_lab.trust.uniformity import Uniformity, rank_uniformity
from aimz_lab.types import Rows

LEAST = 20
"""Replications and draws below which ranks say nothing."""

_MOST_ENTRIES = 200
_SENTENCES = {
    "green": "The inference finds what it was given",
    "amber": "The inference may miss what it was given",
    "red": "The inference does not find what it was given",
}
_LONGER = "Train longer (num_steps=), with a falling learning rate."
_ADVICE = {
    "too narrow": "Use a guide that follows correlations (AutoMultivariateNormal), or MCMC.",
    "too wide": "Train longer; check that no scale of the kernel lessens the likelihood.",
    "too low": _LONGER,
    "too high": _LONGER,
    "of another shape": "Use a richer guide (AutoBNAFNormal), or MCMC.",
}
_ADVICE_OF_CORRELATED = _ADVICE | {"too narrow": f"{_LONGER} If that does not help, use MCMC."}
_FACTORISED = (AutoNormal, AutoDiagonalNormal, AutoDelta)
_ADVICE_OF_CHAINS = (
    "Run longer chains (num_warmup=, num_samples=), and read R-hat and divergences of diagnose; "
    "centre or decentre hierarchies (numpyro.infer.reparam.LocScaleReparam)."
)


@dataclass(frozen=True)
class CalibrationOptions:
    """Options of a calibration, checked.

    Attributes:
        n: Replications.
        num_steps: SVI steps of each.
        num_draws: Posterior draws of each.

    Raises:
        ArgumentError: If one is not positive, or too small to say anything.
    """

    n: int
    num_steps: int
    num_draws: int

    def __post_init__(self) -> None:
        for name in ("n", "num_steps", "num_draws"):
            value = check_positive_int(name, getattr(self, name))
            if name != "num_steps" and value < LEAST:
                msg = f"{name}={value} says nothing of uniformity; use {LEAST} at least."
                raise ArgumentError(msg)
            object.__setattr__(self, name, value)


class CalibrationReport(Report):
    """Ranks of true values among posterior draws, over replications under the prior.

    Made by :meth:`aimz_lab.ImpactModel.calibrate`.

    Args:
        findings: What was found.
        table: A row for each entry.
        ranks: Ranks by entry.
        num_draws: Draws that a rank counts.
        curves: The ranks' distributions beside a uniform one, by entry.
        is_parallel: Whether replications ran side by side.

    Attributes:
        table: A row for each entry of each site: the p-value of uniformity, the mean of the ranks
            (0.5 if calibrated) and their standard deviation over that of uniform ranks (1 if
            calibrated, more if the posterior is too narrow).
        ranks: A column for each entry, a row for each replication: whole numbers from 0 to
            ``num_draws``.
        num_draws: Draws that a rank counts.
        curves: By entry, the empirical distribution function of its ranks with the band that holds
            it with 95%.
        is_parallel: Whether replications ran side by side.
    """

    def __init__(
        self,
        findings: tuple[Finding, ...],
        table: pd.DataFrame,
        ranks: pd.DataFrame,
        num_draws: int,
        curves: dict[str, Uniformity],
        *,
        is_parallel: bool,
    ) -> None:
        super().__init__("Simulation-based calibration", findings, _SENTENCES)
        self.table = table
        self.ranks = ranks
        self.num_draws = num_draws
        self.curves = curves
        self.is_parallel = is_parallel


def calibrate(
    request: Request,
    inference: SVI | MCMC,
    key: jax.Array,
    options: CalibrationOptions,
    labelled: Callable[[Posterior], xr.DataTree],
    trained_steps: int = 0,
) -> CalibrationReport:
    """Fit many data sets that the kernel itself has simulated, and rank what they were made with.

    Args:
        request: A call for the prior predictive distribution, which has the rows.
        inference: The inference object.
        key: A typed random key.
        options: Numbers of replications, steps and draws.
        labelled: Returns draws as a labelled tree.
        trained_steps: Steps of SVI that the model itself was trained for, as far as it is known.

    Raises:
        DataTypeError: If the rows come as a stream.
        KernelError: If the kernel has no latent site that all rows share; or if it observes another
            site than the output, or has a factor, that depends on latent sites; or if the
            distribution of the output is censored, or it observes a function of the output.
        GuideError: If the guide keeps the data of its set-up.
    """
    experiment = _experiment(request, options)
    found, is_parallel = replicate(experiment, inference, key, options.n)
    ranks = _ranks(found.below, found.equal, labelled)[np.asarray(found.ok)]
    failed = options.n - len(ranks)
    if failed:
        text = f"{failed:,} of {options.n:,} replications had draws that are not finite"
        advice = "Choose a prior that makes data which can be fitted, or a smaller learning rate."
        of_failed = (Finding("replications", "red", text, advice),)
    else:
        how = "side by side" if is_parallel else "one after the other"
        text = f"{options.n:,} replications ran {how}, with {options.num_draws:,} draws each"
        of_failed = (Finding("replications", "green", text),)
    if len(ranks) < LEAST:
        empty = pd.DataFrame()
        return CalibrationReport(
            of_failed, empty, ranks, options.num_draws, {}, is_parallel=is_parallel
        )
    curves = {
        str(name): rank_uniformity(ranks[name].to_numpy(), options.num_draws) for name in ranks
    }
    table = _table(ranks, curves, options.num_draws)
    of_ranks = _findings(table, len(ranks), _advice(inference))
    if isinstance(inference, SVI) and any(one.level != "green" for one in of_ranks):
        of_ranks += _of_steps(options.num_steps, trained_steps)
    findings = (*of_failed, *of_ranks)
    return CalibrationReport(
        findings, table, ranks, options.num_draws, curves, is_parallel=is_parallel
    )


def _experiment(request: Request, options: CalibrationOptions) -> Experiment:
    rows = request.rows
    if not isinstance(rows, Mapping):
        msg = "calibrate fits all rows at once, and a stream does not have them; pass arrays."
        raise DataTypeError(msg)
    rows = {name: canonical(a, name) for name, a in rows.items() if name != request.output}
    with tracing_lock:
        spec = trace_spec(
            request.kernel,
            rows=rows,
            shared=request.shared,
            static=request.static,
            output=request.output,
        )
    _refuse_given(request, rows, spec)
    if is_censored(request.kernel, request.output, {**rows, **request.shared}, **request.static):
        raise KernelError(_of_censored(request.output))
    _refuse_transform(request, rows)
    return Experiment(
        kernel=request.kernel,
        output=request.output,
        rows=rows,
        shared=jax.tree.map(canonical, dict(request.shared)),
        static=request.static,
        sites=_sites(spec),
        num_steps=options.num_steps,
        num_draws=options.num_draws,
    )


def _refuse_given(request: Request, rows: Rows, spec: KernelSpec) -> None:
    """Refuse what true values from the prior do not make, and the posterior follows.

    Even exact draws would fail: ranks are uniform if all that the inference is given was simulated
    from the true values.

    Raises:
        KernelError: If a site is observed, or there is a factor, that depends on latent sites.
    """
    given = spec.of_kind("observed", "factor")
    if not given:
        return
    graph = trace_site_graph(
        request.kernel,
        spec,
        KernelArguments(rows, request.shared, request.static),
        request.params,
    )
    latent = spec.of_kind("latent")
    below = set().union(*map(graph.reached_from, latent))
    for name in given:
        site = spec.sites[name]
        if site.kind == "factor":
            makes = graph.factors.get(name, frozenset()) if graph.is_proven else frozenset(latent)
            if makes & (below | {*latent}):
                raise KernelError(_of_factor(name))
        elif name in below:
            raise KernelError(_of_observed(name, request.output, site.argument))


def _refuse_transform(request: Request, rows: Rows) -> None:
    """Refuse a kernel that observes a function of the output: what it draws is no output.

    Raises:
        KernelError: If it does.
    """
    kernel, output = request.kernel, request.output
    shared, static = dict(request.shared), request.static
    drawn = seeded(handlers.substitute(kernel, data=dict(request.params)), jax.random.key(0))
    with tracing_lock:
        site = handlers.trace(drawn).get_trace(**rows, **shared, **static)[output]
        batch = KernelArguments({**rows, output: np.asarray(site["value"])}, shared, static)
        spec = trace_spec(kernel, rows=batch.rows, shared=shared, static=static, output=output)
    if transform := output_transform(kernel, spec, batch):
        msg = (
            f"calibrate simulates {output!r} and trains on it, and what this kernel draws as site "
            f"{output!r} would be passed as {output}. {why_not_itself(output, transform)}"
        )
        raise KernelError(msg)


def _of_factor(name: str) -> str:
    return (
        f"calibrate draws true values from the prior, and the factor {name!r} changes that prior, "
        "so that even exact draws would look wrong. Calibrate a kernel that has a distribution of "
        "a site in place of this factor."
    )


def _of_observed(name: str, output: str, argument: str | None) -> str:
    without = f"; if this one allows it, pass {argument}=None" if argument else ""
    return (
        f"calibrate draws true values from the prior and simulates {output!r} with them, but "
        f"{name!r} is observed too and keeps the values of the data, so that even exact draws "
        f"would look wrong. Calibrate a kernel that does not observe {name!r}{without}."
    )


def _of_censored(output: str) -> str:
    return (
        f"calibrate simulates {output!r} with true values from the prior, and its distribution "
        "draws values that are not censored, which the fit would take for bounds: even exact draws "
        "would look wrong. Calibrate the kernel with the distribution of the values themselves, "
        "base_dist, or with none of them censored."
    )


def _sites(spec: KernelSpec) -> tuple[str, ...]:
    """Latent sites that all rows share, up to a number of entries."""
    found, entries = [], 0
    for name in spec.latent_sites:
        site = spec.sites[name]
        size = int(np.prod(site.shape))
        if not site.row_axes and entries + size <= _MOST_ENTRIES:
            found.append(name)
            entries += size
    if not found:
        msg = (
            "calibrate ranks latent sites that all rows share, and the kernel has none, or only "
            f"sites of more than {_MOST_ENTRIES} entries."
        )
        raise KernelError(msg)
    return tuple(found)


def _ranks(
    below: dict[str, Int[np.ndarray, "replication ..."]],
    equal: dict[str, Int[np.ndarray, "replication ..."]],
    labelled: Callable[[Posterior], xr.DataTree],
) -> pd.DataFrame:
    """Return ranks as columns; ties, of discrete sites, at random (Säilynoja et al., sec. 2)."""
    rng = own_rng("calibration")
    found = {
        name: np.asarray(count) + rng.integers(0, np.asarray(equal[name]) + 1)
        for name, count in below.items()
    }
    names, columns = entries(labelled(Posterior(found)))
    return pd.DataFrame(columns[0].astype(int), columns=names)


def _table(ranks: pd.DataFrame, curves: dict[str, Uniformity], num_draws: int) -> pd.DataFrame:
    uniform_sd = np.sqrt(((num_draws + 1) ** 2 - 1) / 12)
    return pd.DataFrame(
        {
            "p_value": [curves[name].p_value for name in ranks],
            "mean_rank": ranks.mean().to_numpy() / num_draws,
            "sd_ratio": ranks.std().to_numpy() / uniform_sd,
        },
        index=list(ranks),
    )


def _advice(inference: SVI | MCMC) -> Mapping[str, str]:
    """What to do next, by what a departure means."""
    if isinstance(inference, MCMC):
        return dict.fromkeys(_ADVICE, _ADVICE_OF_CHAINS)
    if isinstance(inference.guide, _FACTORISED):
        return _ADVICE
    richer = richer_guides(inference.guide)
    shape = f"Use a richer guide ({richer}), or MCMC." if richer else "Use MCMC."
    return _ADVICE_OF_CORRELATED | {"of another shape": shape}


def _findings(
    table: pd.DataFrame, num_replications: int, advice: Mapping[str, str]
) -> list[Finding]:
    """Judge each entry, with p-values multiplied by the number of entries (Bonferroni)."""
    adjusted = np.minimum(table["p_value"] * len(table), 1)
    bad = adjusted[adjusted < 0.05].sort_values()
    if bad.empty:
        text = f"ranks of all {len(table):,} entries are uniform (p = {adjusted.min():.2g})"
        return [Finding("ranks", "green", text)]
    corrected = f", corrected for {len(table):,} entries" if len(table) > 1 else ""
    findings = []
    for name, p in bad.items():
        shape = _shape(table.loc[name], num_replications)
        text = f"the posterior of {name} is {shape} (ranks are not uniform, p = {p:.2g}{corrected})"
        level = "red" if p < 0.01 else "amber"
        findings.append(Finding(str(name), level, text, advice[shape]))
    return findings


def _of_steps(num_steps: int, trained_steps: int) -> list[Finding]:
    """Tell that the replications were trained for fewer steps than the model."""
    if num_steps >= trained_steps:
        return []
    text = (
        f"each replication was trained for {num_steps:,} steps, and the model for "
        f"{trained_steps:,}, so that it may do better"
    )
    advice = (
        f"Train the replications as long as the model: calibrate(..., num_steps={trained_steps})."
    )
    return [Finding("training", "amber", text, advice)]


def _shape(row: pd.Series, num_replications: int) -> str:
    """Name what a departure means; Talts et al. (2018), sec. 4.2.

    Means and widths are compared in their own standard errors, since the outermost ranks of a
    posterior that is too narrow make the mean rank noisy.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # ranks that are all the same
        error_of_mean = row["sd_ratio"] / np.sqrt(12 * num_replications)
        off = (row["mean_rank"] - 0.5) / error_of_mean
        # The log of the sd of n uniform ranks has the standard error (5 n)**-0.5.
        wide = np.log(row["sd_ratio"]) * np.sqrt(5 * num_replications)
    if max(abs(off), abs(wide)) < 2:
        return "of another shape"
    if abs(off) > abs(wide):
        return "too low" if off > 0 else "too high"
    return "too narrow" if wide > 0 else "too wide"
