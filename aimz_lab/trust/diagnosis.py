"""Can the posterior of a fitted model be trusted? One verdict from everything that can be known."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import jax
import numpy as np
from numpyro.infer import SVI

from aimz_lab.data.checks import check_positive_int
from aimz_lab.errors import ArgumentError, DataError, PerformanceWarning
from aimz_lab.inference.posterior import Posterior
from aimz_lab.kernel.signature import default_arguments
from aimz_lab.predictive.unknown_training import NOTHING_KNOWN
from aimz_lab.preparing import doing
from aimz_lab.trust.evidence import Evidence
from aimz_lab.trust.examined_model import Examined, likelihood_or_why_not
from aimz_lab.trust.judged_inference import (
    columns_in_doubt,
    judge_chains,
    judge_guide,
    refine_draws,
    run_findings,
    trend_of,
)
from aimz_lab.trust.judged_predictions import judge_left_out_rows, judge_predictions, kept_rows
from aimz_lab.trust.output_entries import observed_output, output_entries, without_uncounted
from aimz_lab.trust.posterior_checks import raw_table
from aimz_lab.trust.refinement import Refine
from aimz_lab.trust.report import Finding, Report, of_left_out
from aimz_lab.trust.rows_to_examine import ExaminedRows, examined_rows
from aimz_lab.trust.smoothing import LEAST_DRAWS, array_stats
from aimz_lab.types import RowDependence, check_choice

_SENTENCES = {
    "green": "Nothing speaks against this posterior",
    "amber": "Use this posterior with care",
    "red": "Do not trust this posterior",
}


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

    def __init__(self, findings: tuple[Finding, ...], evidence: Evidence) -> None:
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
    entries = output_entries(model.signature.kernel, output, model.fitted.params, rows)
    counted, sides = entries.counted, entries.censored
    model = replace(model, labelled=lambda one: without_uncounted(labelled(one), counted))
    evidence = Evidence(raw_table(model.labelled(posterior)))
    if isinstance(model.inference, SVI):
        doing("comparing the guide with the posterior")
        evidence.guide = model.guide(
            rows, key=options.key, num_draws=options.num_draws, row_dependence=options.rows
        )
        evidence.trend = trend_of(evidence, model.run)
    drawn = posterior
    if evidence.guide is not None and evidence.guide.has_all_of(posterior):
        drawn = Posterior(evidence.guide.drawn.draws)
        evidence.table = raw_table(model.labelled(drawn))
    doing("scoring the rows")
    outputs = observed_output(rows.outputs, output, counted)
    likelihood, why_not = likelihood_or_why_not(model, drawn, rows.n_rows, kept_rows(outputs))
    judge_guide(evidence, likelihood, drawn, model, rows, options.refine)
    judge_chains(evidence, model, rows)
    doing("holding predictions against the rows")
    judge_left_out_rows(evidence, model, drawn, outputs, likelihood, why_not)
    judge_predictions(evidence, model, drawn, outputs, sides, likelihood)
    if options.refine is not None:
        doing(f"making better draws, refine={options.refine!r}")
        refine_draws(evidence, model, rows, options.refine, options.key)
    findings = [*run_findings(evidence, model, rows), *evidence.findings]
    findings = [*of_left_out(model.left_out), *columns_in_doubt(findings, model, rows), *findings]
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
