"""Can the posterior of a fitted model be trusted? One verdict from everything that can be known."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, Shaped
from numpyro.infer import SVI

from aimz_lab.data.checks import check_positive_int
from aimz_lab.errors import (
    AimzLabError,
    ArgumentError,
    DataError,
    OutputWarning,
    PerformanceWarning,
)
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.request import Learner
from aimz_lab.inference.run.run import Run
from aimz_lab.inference.trained import Fitted, Trained
from aimz_lab.kernel.censoring import INTERVAL
from aimz_lab.kernel.signature import KernelSignature, default_arguments
from aimz_lab.kernel.spec import KernelSpec, variable_name
from aimz_lab.predictive.predictor import Predictor
from aimz_lab.predictive.reducers.scores import ROWS_APART, density_of_all
from aimz_lab.predictive.request import Group, Request
from aimz_lab.predictive.scored_density import AS_A_DISTRIBUTION, ScoredDensity
from aimz_lab.predictive.unknown_training import NOTHING_KNOWN
from aimz_lab.preparing import doing
from aimz_lab.system.lazy_modules import pd, xr
from aimz_lab.system.random_streams import own_rng
from aimz_lab.trust.censored_entries import CENSORED, NO_INTERVALS, censored_entries
from aimz_lab.trust.chain_advice import ChainAdvice
from aimz_lab.trust.chain_checks import WorstMixed, chain_findings, chain_table, worst_mixed
from aimz_lab.trust.columns import column_findings
from aimz_lab.trust.guide_advice import better_draws
from aimz_lab.trust.guide_checks import GIVEN, GuideExamination, examine_guide, rows_finding
from aimz_lab.trust.loss_checks import LossTrend, has_settled, loss_finding, loss_trend
from aimz_lab.trust.masked_entries import (
    counted_entries,
    observed_output,
    scored_rows,
    without_uncounted,
)
from aimz_lab.trust.posterior_checks import (
    beside,
    distance_finding,
    entries,
    k_hat_finding,
    moments,
    raw_table,
)
from aimz_lab.trust.predictive_checks import (
    MOST_ROWS,
    Calibration,
    LeaveOneOut,
    calibration,
    calibration_finding,
    leave_one_out,
    loo_finding,
    p_value_finding,
    p_values,
)
from aimz_lab.trust.refinement import Refine, nuts_from_guide, resampled
from aimz_lab.trust.report import Finding, Report, of_left_out
from aimz_lab.trust.row_scores import LikelihoodOfRows, PredictionsOfRows
from aimz_lab.trust.rows_to_examine import ExaminedRows, examined_rows
from aimz_lab.trust.shape import shape_finding, shape_of
from aimz_lab.trust.smoothing import LEAST_DRAWS, Smoothed, array_stats, smoothed
from aimz_lab.types import RowDependence, check_choice

if TYPE_CHECKING:
    from aimz_lab.tables.model_table import ModelTable

_SENTENCES = {
    "green": "Nothing speaks against this posterior",
    "amber": "Use this posterior with care",
    "red": "Do not trust this posterior",
}

_OF_INFERENCE = frozenset(
    {"loss", "k-hat", "shape", "summaries", "NUTS", "R-hat", "ESS", "divergences"}
)
"""Checks of whether the inference found the posterior, whatever the model predicts."""

NONE = np.zeros(0, np.int64)
"""Numbers of no rows."""

NONE_COUNTS = "a mask leaves out all rows, or what the kernel observes depends on what it draws"
"""Why no row can be judged."""

_USE_CHAINS = (
    "Use its draws: im.set_posterior_sample(report.refined, num_chains=report.refined_chains)."
)
_USE_RESAMPLED = "Use them: im.set_posterior_sample(report.refined)."


@dataclass(frozen=True)
class Examined:
    """A fitted model, with the parts of it that a report reads.

    Attributes:
        signature: The kernel.
        learner: Its learner.
        inference: Its inference object.
        trained: What it has learned.
        fitted: Its posterior.
        run: Its last run, or ``None``.
        predictor: Computes predictions.
        request: Makes a call's request, for a posterior, a group and reducers.
        labelled: Returns draws as a labelled tree.
        table: How it reads tables, or ``None``.
        left_out: Which rows of a table were left out, as a phrase; empty for none.
    """

    signature: KernelSignature
    learner: Learner
    inference: object
    trained: Trained
    fitted: Fitted
    run: Run | None
    predictor: Predictor
    request: Callable[[Posterior, Group, Mapping[str, object] | None], Request]
    labelled: Callable[[Posterior], xr.DataTree]
    table: ModelTable | None = None
    left_out: str = ""

    @property
    def spec(self) -> KernelSpec:
        """The kernel's structure with its data, once it was trained or scored."""
        return self.trained.spec or self.predictor.spec

    def guide(
        self, rows: ExaminedRows, *, key: jax.Array, num_draws: int, row_dependence: RowDependence
    ) -> GuideExamination | None:
        """Draw from the guide, and compare its densities; see :func:`examine_guide`."""
        return examine_guide(
            self.signature,
            self.inference,
            self.learner,
            self.trained,
            rows,
            self.labelled,
            key=key,
            num_draws=num_draws,
            row_dependence=row_dependence,
        )


@dataclass(frozen=True)
class DiagnosisOptions:
    """Options of a report, checked.

    Attributes:
        num_draws: Draws to make from a guide.
        batch_size: Rows summed at a time; ``None`` chooses.
        rows: ``"independent"`` if the user says that rows may be cut.
        refine: How to make better draws, or ``None``.
        key: A typed random key.

    Raises:
        ArgumentError: If a value is not allowed.
    """

    num_draws: int
    batch_size: int | None
    rows: RowDependence
    refine: Refine | None
    key: jax.Array

    def __post_init__(self) -> None:
        count = check_positive_int("num_draws", self.num_draws)
        if count < LEAST_DRAWS:
            msg = f"num_draws={count} has no tail to judge; use {LEAST_DRAWS} draws at least."
            raise ArgumentError(msg)
        object.__setattr__(self, "num_draws", count)
        if self.batch_size is not None:
            size = check_positive_int("batch_size", self.batch_size)
            object.__setattr__(self, "batch_size", size)
        check_choice("rows", self.rows, RowDependence)
        if self.refine is not None:
            check_choice("refine", self.refine, Refine)


@dataclass
class _Evidence:
    """What the checks found so far."""

    table: pd.DataFrame
    findings: list[Finding] = field(default_factory=list)
    guide: GuideExamination | None = None
    weights: Smoothed | None = None
    mixed: WorstMixed | None = None
    trend: LossTrend | None = None
    loo: LeaveOneOut | None = None
    calibration: Calibration | None = None
    refined: Posterior | None = None


class TrustReport(Report):
    """Whether a posterior can be trusted, why, and what to do next.

    Made by :meth:`aimz_lab.ImpactModel.diagnose`. It shows itself as text or HTML;
    :func:`aimz_lab.lab.plot_trust` draws it.

    Args:
        findings: What was found.
        evidence: The numbers behind it.

    Attributes:
        table: A row for each entry of each site: mean and sd of the draws, beside those under
            smoothed importance weights (``psis_``, where k-hat allows) or of the NUTS run
            (``nuts_``), with the distance in posterior sds and the ratio of sds; for chains R-hat
            and effective draws.
        k_hat: Shape of the tail of the importance ratios, or ``None`` where they are not known.
        log_ratios: Log of joint density over the guide's at each draw, or ``None``.
        mixed: Of chains, the draws of the entry with the highest R-hat, and the energies; else
            ``None``.
        loo: Leave-one-out estimates, or ``None``.
        calibration: Probability integral transforms and coverage, or ``None``.
        loss: The losses, judged, or ``None``.
        refined: Draws by site that ``refine=`` made, for ``set_posterior_sample``; else ``None``.
        refined_chains: Number of chains that they are stacked of.
    """

    def __init__(self, findings: tuple[Finding, ...], evidence: _Evidence) -> None:
        super().__init__("Trust report", findings, _SENTENCES)
        self.table = evidence.table
        self.k_hat = evidence.weights.k if evidence.weights else None
        drawn = evidence.guide.drawn if evidence.guide else None
        self.log_ratios = drawn.log_ratios if drawn else None
        self.mixed = evidence.mixed
        self.loo = evidence.loo
        self.calibration = evidence.calibration
        self.loss = evidence.trend
        refined = evidence.refined
        self.refined = (
            {name: np.asarray(a) for name, a in refined.draws.items()} if refined else None
        )
        self.refined_chains = refined.num_chains if refined else 1


def diagnose(model: Examined, options: DiagnosisOptions) -> TrustReport:
    """Examine a fitted model on the rows that it was trained on.

    Args:
        model: The model.
        options: Options of the report.

    Raises:
        DataError: If the rows are not those of the training.
        OptionalDependencyError: If arviz-stats is missing.
    """
    array_stats()
    with warnings.catch_warnings():
        # How a prediction is cut is no concern of its report.
        warnings.simplefilter("ignore", PerformanceWarning)
        # The rows of a report are those of the draws.
        warnings.filterwarnings("ignore", message=NOTHING_KNOWN)
        return _diagnose(model, options)


def _diagnose(model: Examined, options: DiagnosisOptions) -> TrustReport:
    posterior, labelled = model.fitted.posterior, model.labelled
    request = model.request(posterior, "log_likelihood", None)
    rows = examined_rows(request, options.batch_size, model.signature.output)
    _check_rows(model, rows)
    rows = rows.as_observed(model.signature.kernel, model.trained.spec, model.fitted.params)
    output = model.signature.output
    counted = counted_entries(model.signature.kernel, output, model.fitted.params, rows)
    model = replace(model, labelled=lambda one: without_uncounted(labelled(one), counted))
    evidence = _Evidence(raw_table(model.labelled(posterior)))
    if isinstance(model.inference, SVI):
        doing("comparing the guide with the posterior")
        evidence.guide = model.guide(
            rows, key=options.key, num_draws=options.num_draws, row_dependence=options.rows
        )
        evidence.trend = _trend(evidence, model.run)
    drawn = posterior
    if evidence.guide is not None and evidence.guide.has_all_of(posterior):
        drawn = Posterior(evidence.guide.drawn.draws)
        evidence.table = raw_table(model.labelled(drawn))
    doing("scoring the rows")
    outputs = observed_output(rows.outputs, output, counted)
    chosen = _kept_rows(scored_rows(outputs))
    likelihood, why_not = likelihood_or_why_not(model, drawn, rows.n_rows, chosen)
    _judge_guide(evidence, likelihood, drawn, model, rows.n_rows, options.refine)
    if posterior.are_chains:
        evidence.table = chain_table(evidence.table, model.labelled(posterior))
        evidence.findings += chain_findings(evidence.table, posterior, _of_chains(model, rows))
        evidence.mixed = worst_mixed(evidence.table, model.labelled(posterior), posterior)
    doing("holding predictions against the rows")
    sides = censored_entries(model.signature.kernel, output, model.fitted.params, rows)
    _judge_predictions(evidence, model, drawn, outputs, sides, likelihood, why_not)
    evidence.findings += [*_of_other_outcomes(model), *_of_factors(model)]
    if options.refine is not None:
        doing(f"making better draws, refine={options.refine!r}")
        _refine(evidence, model, rows, options)
    findings = [*_of_run(evidence, model, rows), *evidence.findings]
    findings = [*of_left_out(model.left_out), *_of_columns(findings, model, rows), *findings]
    return TrustReport(tuple(findings), evidence)


def _check_rows(model: Examined, rows: ExaminedRows) -> None:
    """Refuse rows that are not those of the training, as far as that is known."""
    fingerprint, schema = model.fitted.fingerprint, model.fitted.schema
    if rows.source is not None:
        return
    output, found = model.signature.output, ""
    if fingerprint is not None:
        found = fingerprint.difference({**rows.data.rows, output: rows.outputs}, output)
    if not found and schema is not None:
        given = {**rows.data.shared, **rows.data.static}
        found = schema.difference(given, default_arguments(model.signature.kernel))
    if found:
        msg = (
            "A trust report compares the posterior with the data that it was trained on, row by "
            f"row, and {found}. Pass the data of the last fit, in its order. Predictions of new "
            "rows are judged by log_likelihood(X_new, y_new, reduce='lppd')."
        )
        raise DataError(msg)


def _kept_rows(rows: Int[np.ndarray, " row"]) -> Int[np.ndarray, " kept"]:
    """Return those of some rows of which all draws are kept, by their numbers."""
    if len(rows) <= MOST_ROWS:
        return rows
    return np.sort(own_rng("rows of a diagnosis").choice(rows, MOST_ROWS, replace=False))


class Likelihood(NamedTuple):
    """The log-likelihood of rows.

    Attributes:
        total: That of all rows for each draw, in nats.
        of_rows: That of each row; ``None`` of an output that is one event over all rows.
    """

    total: Float[np.ndarray, " draw"]
    of_rows: LikelihoodOfRows | None


def likelihood_of(
    model: Examined, drawn: Posterior, n_rows: int, kept: Int[np.ndarray, " kept"] = NONE
) -> Likelihood:
    """Return the log-likelihood of the rows of a model.

    Args:
        model: The model.
        drawn: Draws of its latent sites.
        n_rows: How many rows there are.
        kept: Numbers of the rows to keep all draws of.
    """
    reader = LikelihoodOfRows(n_rows, kept)
    request = model.request(drawn, "log_likelihood", {"of_row": reader})
    with warnings.catch_warnings():
        # The report has words of its own on factors.
        warnings.filterwarnings("ignore", message="The factor", category=OutputWarning)
        tree = model.predictor.log_likelihood(request)
    if reader.has_rows:
        return Likelihood(reader.total, reader)
    of_all = tree["log_likelihood"][variable_name(model.signature.output)].values
    return Likelihood(of_all.reshape(drawn.num_draws, -1).sum(1, dtype=np.float64), None)


def likelihood_or_why_not(
    model: Examined, drawn: Posterior, n_rows: int, kept: Int[np.ndarray, " kept"] = NONE
) -> tuple[Likelihood | None, str]:
    """Return the log-likelihood as :func:`likelihood_of`, or why there is none."""
    try:
        return likelihood_of(model, drawn, n_rows, kept), ""
    except AimzLabError as error:
        return None, str(error)


def _judge_guide(
    evidence: _Evidence,
    likelihood: Likelihood | None,
    drawn: Posterior,
    model: Examined,
    n_rows: int,
    refine: Refine | None,
) -> None:
    guide = evidence.guide
    if guide is None:
        if not drawn.are_chains:
            evidence.findings.append(_unknown_origin())
        return
    if guide.findings:
        evidence.findings += guide.findings
    if guide.drawn is None:
        return
    if guide.needs_likelihood:
        guide = evidence.guide = guide.with_likelihood(likelihood.total if likelihood else None)
        if guide.drawn is None:
            evidence.findings += guide.findings[-1:]
            return
    ratios, log_p = guide.drawn.log_ratios, guide.drawn.log_p
    evidence.weights = weights = smoothed(ratios)
    advice = better_draws(
        model.inference.guide,
        has_settled=has_settled(model.run, evidence.trend),
        has_nuts=refine == "nuts",
    )
    evidence.findings.append(k_hat_finding(weights, log_p, guide.n_row_latents, advice))
    if not guide.has_all_of(model.fitted.posterior):
        return
    _, draws = entries(model.labelled(drawn))
    draws = draws.reshape(-1, draws.shape[2])
    shape = None if guide.n_row_latents else shape_of(draws, log_p)
    if shape is not None:
        evidence.findings.append(shape_finding(shape, advice))
    if not weights.is_trusted or not draws.shape[1]:
        return
    better = moments(draws, weights.weights)
    evidence.table = beside(evidence.table, "psis", *better)
    what = "the draws reweighted by importance"
    found = distance_finding(
        evidence.table,
        "psis",
        "summaries",
        what,
        weights.ess,
        len(ratios),
        advice,
        is_scaled=_is_scaled(model.run, n_rows),
    )
    evidence.findings.append(found)


def _is_scaled(run: Run | None, n_rows: int) -> bool:
    """Whether the batches of the last run are known to have stood for all rows."""
    if run is None or run.info.batch_size is None:
        return False
    is_whole = run.info.batch_size >= n_rows
    return is_whole or (bool(run.info.scaled) and run.info.n_obs == n_rows)


def _of_chains(model: Examined, rows: ExaminedRows) -> ChainAdvice:
    data = rows.data
    names = (*data.rows, *data.shared, *data.static)
    return ChainAdvice(model.signature, model.inference, names, model.table is not None)


def _unknown_origin() -> Finding:
    text = "nothing is known of where the draws come from, so that only predictions are judged"
    return Finding("posterior", "amber", text, GIVEN)


def _judge_predictions(
    evidence: _Evidence,
    model: Examined,
    drawn: Posterior,
    outputs: Shaped[np.ndarray, "row ..."],
    sides: Int[np.ndarray, "row ..."] | None,
    likelihood: Likelihood | None,
    why_not: str,
) -> None:
    weights, guide = evidence.weights, evidence.guide
    by_row, of_rows = learned_by_row(model, drawn), likelihood and likelihood.of_rows
    fitted = [name for name in by_row if name not in drawn.draws]
    is_one_event = likelihood is not None and of_rows is None
    of_output = scored_density_of(model)
    scored = scored_rows(outputs)
    chosen = _kept_rows(scored)
    if is_one_event:
        why_not = f"{density_of_all(model.signature.output)}, and none for each row"
    elif likelihood is not None and fitted:
        why_not = f"{fitted[0]!r} has a parameter for each row, which was fitted to that row"
    elif likelihood is not None and by_row:
        why_not = f"it would have to integrate out each row's own {', '.join(by_row)}"
    elif likelihood is not None and len(evidence.table) and not evidence.table["sd"].any():
        why_not = "all draws are the same point, so that no row left out can change them"
    elif likelihood is not None and of_output.why_no_loo:
        why_not = of_output.why_no_loo
    elif likelihood is not None and weights is not None and not weights.is_trusted:
        why_not = "k-hat says that the draws are not those of the posterior"
    elif likelihood is not None and weights is not None and not guide.has_all_of(drawn):
        why_not = "the guide has no draws of some sites of the posterior"
    elif of_rows is not None and not len(scored):
        why_not = NONE_COUNTS
    elif of_rows is not None:
        kept = of_rows.kept.astype(np.float64)
        kept = kept.reshape(*kept.shape[:2], -1).sum(-1)
        evidence.loo = leave_one_out(
            kept,
            of_rows.lppd[scored],
            np.searchsorted(scored, chosen),
            guide.drawn.log_ratios if weights is not None else None,
            _r_eff(evidence.table, drawn),
        )
    advice = AS_A_DISTRIBUTION if why_not and why_not == of_output.why_no_score else ""
    advice = ROWS_APART if is_one_event else advice
    evidence.findings.append(loo_finding(evidence.loo, len(outputs), why_not, advice))
    if not len(scored):
        text = f"predictions were not judged: {NONE_COUNTS}"
        evidence.findings.append(Finding("predictions", "amber", text))
        return
    if sides is not None and (sides.shape != outputs.shape or (sides == INTERVAL).any()):
        text = f"predictions were not judged: {NO_INTERVALS}"
        evidence.findings.append(Finding("predictions", "amber", text))
        return
    reader = PredictionsOfRows(outputs, chosen)
    try:
        # A row's own latent values are drawn anew: with those of its posterior it would predict
        # itself (the mixed predictive check of Marshall and Spiegelhalter 2003).
        left = {name: a for name, a in drawn.draws.items() if name not in by_row}
        request = model.request(
            replace(drawn, draws=left, count=drawn.num_draws),
            "posterior_predictive",
            {"of_row": reader},
        )
        model.predictor.predict(request)
    except AimzLabError as error:
        text = f"predictions were not judged: {error}"
        evidence.findings.append(Finding("predictions", "amber", text))
        return
    if not reader.has_rows:
        text = f"predictions were not judged: {model.signature.output} has no value for each row"
        evidence.findings.append(Finding("predictions", "unjudged", text))
        return
    if is_one_event:
        evidence.findings.append(_of_dependent_rows(model.signature.output))
    else:
        evidence.calibration = calibration(
            reader.kept,
            np.asarray(outputs, np.float64)[chosen],
            reader.observed[chosen],
            evidence.loo.weights if evidence.loo else None,
            None if sides is None else sides[chosen],
        )
        is_censored = sides is not None
        found = calibration_finding(evidence.calibration, is_censored=is_censored)
        evidence.findings.append(found)
    if sides is not None:
        text = f"mean, sd and extremes of {model.signature.output} were not judged: {CENSORED}"
        evidence.findings.append(Finding("p-values", "unjudged", text))
    elif reader.observed.any():
        evidence.findings.append(p_value_finding(p_values(reader.statistics())))


def _of_other_outcomes(model: Examined) -> list[Finding]:
    """Say which outcomes this report does not hold against their data."""
    spec = model.spec
    others = [spec.sites[name] for name in spec.other_outcomes]
    names = [one.name for one in others if one.row_axes]
    if not names:
        return []
    sites = ", ".join(map(repr, names))
    text = (
        f"predictions of the output {spec.output!r} alone were judged, and the kernel observes "
        f"{sites} too: a wrong model of {'it' if len(names) == 1 else 'them'} would not be seen"
    )
    arguments = " and ".join(repr(one.argument or one.name) for one in others if one.row_axes)
    advice = (
        f"Hold other outcomes against their data too: im.predict(..., return_sites={names}), "
        f"without {arguments}, draws them."
    )
    return [Finding("other outcomes", "amber", text, advice)]


def _of_factors(model: Examined) -> list[Finding]:
    """Say which factors are computed from the rows: no prediction is held against these."""
    names = scored_density_of(model).factors
    if not names:
        return []
    sites = ", ".join(map(repr, names))
    text = (
        f"the factor{'s' * (len(names) > 1)} {sites} {'add' if len(names) > 1 else 'adds'} to the "
        "log density of the rows, and no predictions are drawn of what only a factor describes: "
        "a wrong model of it would not be seen"
    )
    advice = "Write a density of data as numpyro.sample(..., obs=...) to have it judged."
    return [Finding("factors", "amber", text, advice)]


def _of_dependent_rows(output: str) -> Finding:
    text = (
        f"calibration was not judged: the rows of {output} are one event and may depend on each "
        "other, so that intervals of a right model may hold more or fewer of them"
    )
    return Finding("calibration", "unjudged", text)


def learned_by_row(model: Examined, drawn: Posterior) -> list[str]:
    """Return the names of latent sites and parameters of which each row has a value.

    Args:
        model: The model.
        drawn: Draws of its latent sites.
    """
    spec = model.trained.spec
    if spec is None:
        return []
    known = {*drawn.draws, *spec.of_kind("param")}
    return [name for name in spec.learned_by_row if name in known]


def scored_density_of(model: Examined) -> ScoredDensity:
    """Return what a model adds to its log density beside that of its output.

    Args:
        model: The model, with a request for the rows.
    """
    request = model.request(model.fitted.posterior, "log_likelihood", None)
    try:
        return model.predictor.scored_density(request)
    except AimzLabError:  # there is no log-likelihood, and who asks for one is told why
        return ScoredDensity(model.signature.output)


def _r_eff(table: pd.DataFrame, drawn: Posterior) -> float:
    """Effective draws over draws, of chains; 1 for independent draws."""
    if "ess_bulk" not in table or table["ess_bulk"].isna().all():
        return 1.0
    return float(np.clip(table["ess_bulk"].mean() / drawn.num_draws, 1e-3, 1.0))


def _refine(
    evidence: _Evidence, model: Examined, rows: ExaminedRows, options: DiagnosisOptions
) -> None:
    guide = evidence.guide
    if guide is None or guide.drawn is None or guide.drawn.is_point:
        text = "there are no draws of a guide with known densities to refine"
        evidence.findings.append(Finding("refinement", "amber", text))
        return
    if options.refine == "importance":
        if not evidence.weights.is_trusted:
            text = "importance resampling is refused: with such a k-hat its draws would be wrong"
            advice = "Use diagnose(..., refine='nuts')."
            evidence.findings.append(Finding("refinement", "amber", text, advice))
            return
        evidence.refined = resampled(guide.drawn.draws, evidence.weights)
        text = "report.refined has draws that are resampled by their importance"
        evidence.findings.append(Finding("refinement", "green", text, _USE_RESAMPLED))
        return
    evidence.findings += _refined_by_nuts(evidence, model, rows, options)


def _refined_by_nuts(
    evidence: _Evidence, model: Examined, rows: ExaminedRows, options: DiagnosisOptions
) -> list[Finding]:
    if rows.source is not None:
        text = "a NUTS run needs all rows in memory, and these come as a stream"
        return [Finding("refinement", "amber", text, "Pass arrays, or an ArrayLoader.")]
    data = rows.data
    arguments = {**data.rows, **data.shared, **data.static}
    key = jax.random.fold_in(options.key, 7)
    guide = evidence.guide
    refined = nuts_from_guide(
        model.signature.kernel, arguments, model.fitted.params, guide.drawn.draws, key
    )
    tree = model.labelled(refined)
    judged = chain_table(raw_table(tree), tree)
    advice = _of_chains(model, rows)
    worst = [one for one in chain_findings(judged, refined, advice) if one.level == "red"]
    if worst:
        text = f"the short NUTS run did not arrive: {worst[0].text}"
        return [Finding("refinement", "amber", text, advice.several)]
    evidence.refined = refined
    judged = judged.loc[evidence.table.index]
    evidence.table = beside(evidence.table, "nuts", *judged[["mean", "sd"]].to_numpy().T)
    evidence.table = evidence.table.assign(nuts_r_hat=judged["r_hat"])
    ess = judged["ess_bulk"].to_numpy()
    n_draws = len(guide.drawn.log_p)
    found = distance_finding(
        evidence.table,
        "nuts",
        "NUTS",
        "a short NUTS run",
        ess,
        n_draws,
        better_draws(
            model.inference.guide,
            has_settled=has_settled(model.run, evidence.trend),
            has_nuts=True,
        ),
        is_scaled=_is_scaled(model.run, rows.n_rows),
    )
    if found.level == "red":
        found = replace(found, advice=_USE_CHAINS)
    return [found]


def _trend(evidence: _Evidence, run: Run | None) -> LossTrend | None:
    """Judge the losses of the training; ``None`` where there are none of the guide's."""
    if evidence.guide is None or run is None or run.info.is_sampling or not run.step:
        return None
    return loss_trend(run)


def _of_columns(findings: list[Finding], model: Examined, rows: ExaminedRows) -> list[Finding]:
    """Name the columns that may be the cause of what was found; a sound inference needs none."""
    doubted = any(one.name in _OF_INFERENCE and one.level in ("amber", "red") for one in findings)
    if not doubted or rows.source is not None:  # a fit of a stream does not note its columns
        return []
    columns = model.trained.schema.columns if model.trained.schema else {}
    output = model.signature.output
    found = column_findings({**rows.data.rows, output: rows.outputs}, columns, output)
    return [replace(one, is_cause=True) for one in found]


def _of_run(evidence: _Evidence, model: Examined, rows: ExaminedRows) -> list[Finding]:
    """Judge the training: its loss, and its batches; of chains there is nothing to judge."""
    run = model.run
    if evidence.guide is None or (run is not None and run.info.is_sampling):
        return []
    is_vouched = evidence.weights is not None and evidence.weights.is_trusted
    found = [loss_finding(run, evidence.trend, is_vouched=is_vouched)]
    if run is not None and run.info.batch_size is not None:
        of_rows = rows_finding(
            model.signature,
            model.inference,
            rows,
            run.info.batch_size,
            has_table=model.table is not None,
        )
        found += [of_rows] if of_rows is not None else []
    return found
