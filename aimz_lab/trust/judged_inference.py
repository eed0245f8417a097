"""Has the inference found the posterior? What the guide, chains and losses say."""

from __future__ import annotations

from dataclasses import replace

import jax

from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.run.run import Run
from aimz_lab.inference.run.spent_rate import is_spent
from aimz_lab.trust.chain_advice import ChainAdvice
from aimz_lab.trust.chain_checks import chain_findings, chain_table, worst_mixed
from aimz_lab.trust.columns import column_findings
from aimz_lab.trust.evidence import Evidence
from aimz_lab.trust.examined_model import Examined, Likelihood
from aimz_lab.trust.guide_advice import better_draws
from aimz_lab.trust.guide_checks import GIVEN, rows_finding
from aimz_lab.trust.loss_checks import LossTrend, has_settled, loss_finding, loss_trend
from aimz_lab.trust.posterior_checks import (
    beside,
    distance_finding,
    entries,
    k_hat_finding,
    moments,
    raw_table,
)
from aimz_lab.trust.refinement import Refine, nuts_from_guide, resampled
from aimz_lab.trust.report import Finding
from aimz_lab.trust.rows_to_examine import ExaminedRows
from aimz_lab.trust.shape import shape_finding, shape_of
from aimz_lab.trust.smoothing import smoothed

_USE_CHAINS = (
    "Use its draws: im.set_posterior_sample(report.refined, num_chains=report.refined_chains)."
)
_USE_RESAMPLED = "Use them: im.set_posterior_sample(report.refined)."

_OF_INFERENCE = frozenset(
    {"loss", "k-hat", "shape", "summaries", "NUTS", "R-hat", "ESS", "divergences"}
)
"""Checks of whether the inference found the posterior, whatever the model predicts."""


def judge_guide(
    evidence: Evidence,
    likelihood: Likelihood | None,
    drawn: Posterior,
    model: Examined,
    rows: ExaminedRows,
    refine: Refine | None,
) -> None:
    """Hold the draws of a guide against the posterior density.

    Args:
        evidence: What was found so far; this is added.
        likelihood: The log-likelihood of the rows, if it is known.
        drawn: The draws that are judged.
        model: The model.
        rows: Its rows.
        refine: How better draws will be made, or ``None``.
    """
    guide = evidence.guide
    if guide is None:
        if not drawn.are_chains:
            text = (
                "nothing is known of where the draws come from, so that only predictions are judged"
            )
            evidence.findings.append(Finding("posterior", "amber", text, GIVEN))
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
    advice = _advice(evidence, model, has_nuts=refine == "nuts")
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
        is_scaled=_is_scaled(model.run, rows.n_rows),
    )
    evidence.findings.append(found)


def _advice(evidence: Evidence, model: Examined, *, has_nuts: bool) -> str:
    """Say how to get better draws than those of the guide."""
    settled = has_settled(model.run, evidence.trend)
    spent = model.run is not None and is_spent(model.run)
    return better_draws(
        model.inference.guide, has_settled=settled, is_spent=spent, has_nuts=has_nuts
    )


def _is_scaled(run: Run | None, n_rows: int) -> bool:
    """Whether the batches of the last run are known to have stood for all rows."""
    if run is None or run.info.batch_size is None:
        return False
    is_whole = run.info.batch_size >= n_rows
    return is_whole or (bool(run.info.scaled) and run.info.n_obs == n_rows)


def judge_chains(evidence: Evidence, model: Examined, rows: ExaminedRows) -> None:
    """Judge whether chains have mixed; of other draws there is nothing to judge.

    Args:
        evidence: What was found so far; this is added.
        model: The model.
        rows: Its rows.
    """
    posterior = model.fitted.posterior
    if not posterior.are_chains:
        return
    draws = model.labelled(posterior)
    evidence.table = chain_table(evidence.table, draws)
    evidence.findings += chain_findings(evidence.table, posterior, _chain_advice(model, rows))
    evidence.mixed = worst_mixed(evidence.table, draws, posterior)


def _chain_advice(model: Examined, rows: ExaminedRows) -> ChainAdvice:
    data = rows.data
    names = (*data.rows, *data.shared, *data.static)
    return ChainAdvice(model.signature, model.inference, names, model.table is not None)


def trend_of(evidence: Evidence, run: Run | None) -> LossTrend | None:
    """Judge the losses of the training; ``None`` where there are none of the guide's.

    Args:
        evidence: What was found so far.
        run: The run that trained it, if it is known.
    """
    if evidence.guide is None or run is None or run.info.is_sampling or not run.step:
        return None
    return loss_trend(run)


def run_findings(evidence: Evidence, model: Examined, rows: ExaminedRows) -> list[Finding]:
    """Judge the training: its loss, and its batches; of chains there is nothing to judge.

    Args:
        evidence: What was found so far.
        model: The model.
        rows: Its rows.
    """
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


def columns_in_doubt(findings: list[Finding], model: Examined, rows: ExaminedRows) -> list[Finding]:
    """Name the columns that may be the cause of what was found; a sound inference needs none.

    Args:
        findings: What was found.
        model: The model.
        rows: Its rows.
    """
    doubted = any(one.name in _OF_INFERENCE and one.level in ("amber", "red") for one in findings)
    if not doubted or rows.source is not None:  # a fit of a stream does not note its columns
        return []
    columns = model.trained.schema.columns if model.trained.schema else {}
    output = model.signature.output
    found = column_findings({**rows.data.rows, output: rows.outputs}, columns, output)
    return [replace(one, is_cause=True) for one in found]


def refine_draws(
    evidence: Evidence, model: Examined, rows: ExaminedRows, refine: Refine, key: jax.Array
) -> None:
    """Make better draws than those of the guide, or say why there are none.

    Args:
        evidence: What was found so far; this is added.
        model: The model.
        rows: Its rows.
        refine: How.
        key: A typed random key.
    """
    guide = evidence.guide
    if guide is None or guide.drawn is None or guide.drawn.is_point:
        text = "there are no draws of a guide with known densities to refine"
        evidence.findings.append(Finding("refinement", "amber", text))
        return
    if refine == "importance":
        if not evidence.weights.is_trusted:
            text = "importance resampling is refused: with such a k-hat its draws would be wrong"
            advice = "Use diagnose(..., refine='nuts')."
            evidence.findings.append(Finding("refinement", "amber", text, advice))
            return
        evidence.refined = resampled(guide.drawn.draws, evidence.weights)
        text = "report.refined has draws that are resampled by their importance"
        evidence.findings.append(Finding("refinement", "green", text, _USE_RESAMPLED))
        return
    evidence.findings += _refined_by_nuts(evidence, model, rows, key)


def _refined_by_nuts(
    evidence: Evidence, model: Examined, rows: ExaminedRows, key: jax.Array
) -> list[Finding]:
    if rows.source is not None:
        text = "a NUTS run needs all rows in memory, and these come as a stream"
        return [Finding("refinement", "amber", text, "Pass arrays, or an ArrayLoader.")]
    data = rows.data
    arguments = {**data.rows, **data.shared, **data.static}
    guide = evidence.guide
    refined = nuts_from_guide(
        model.signature.kernel,
        arguments,
        model.fitted.params,
        guide.drawn.draws,
        jax.random.fold_in(key, 7),
    )
    tree = model.labelled(refined)
    judged = chain_table(raw_table(tree), tree)
    advice = _chain_advice(model, rows)
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
        _advice(evidence, model, has_nuts=True),
        is_scaled=_is_scaled(model.run, rows.n_rows),
    )
    if found.level == "red":
        found = replace(found, advice=_USE_CHAINS)
    return [found]
