"""Does the model predict its rows? Leave-one-out, calibration and p-values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Int, Shaped

from aimz_lab.errors import AimzLabError
from aimz_lab.inference.posterior import Posterior
from aimz_lab.kernel.censoring import INTERVAL
from aimz_lab.predictive.reducers.scores import ROWS_APART, density_of_all
from aimz_lab.predictive.scored_density import AS_A_DISTRIBUTION, ScoredDensity
from aimz_lab.system.lazy_modules import pd
from aimz_lab.system.random_streams import own_rng
from aimz_lab.trust.evidence import Evidence
from aimz_lab.trust.examined_model import Examined, Likelihood, learned_by_row, scored_density_of
from aimz_lab.trust.output_entries import CENSORED, NO_INTERVALS, NONE_COUNTS, scored_rows
from aimz_lab.trust.predictive_checks import (
    MOST_ROWS,
    calibration,
    calibration_finding,
    leave_one_out,
    loo_finding,
    p_value_finding,
    p_values,
)
from aimz_lab.trust.report import Finding, FindingLevel
from aimz_lab.trust.row_scores import PredictionsOfRows


def kept_rows(outputs: Shaped[np.ndarray, "row ..."]) -> Int[np.ndarray, " kept"]:
    """Return the numbers of the rows of which all draws are kept: those with a value, or a sample.

    Args:
        outputs: The output of all rows, NaN where a mask leaves it out.
    """
    rows = scored_rows(outputs)
    if len(rows) <= MOST_ROWS:
        return rows
    return np.sort(own_rng("rows of a diagnosis").choice(rows, MOST_ROWS, replace=False))


def judge_left_out_rows(
    evidence: Evidence,
    model: Examined,
    drawn: Posterior,
    outputs: Shaped[np.ndarray, "row ..."],
    likelihood: Likelihood | None,
    why_not: str,
) -> None:
    """Judge how well each row is predicted from the others.

    Args:
        evidence: What was found so far; this is added.
        model: The model.
        drawn: The draws that are judged.
        outputs: The output of all rows, NaN where a mask leaves it out.
        likelihood: The log-likelihood of the rows, or ``None``.
        why_not: Why there is none.
    """
    of_output, scored = scored_density_of(model), scored_rows(outputs)
    if likelihood is not None:
        why_not = _why_no_loo(evidence, model, drawn, likelihood, of_output, len(scored))
    if not why_not:
        kept = likelihood.of_rows.kept.astype(np.float64)
        kept = kept.reshape(*kept.shape[:2], -1).sum(-1)
        evidence.loo = leave_one_out(
            kept,
            likelihood.of_rows.lppd[scored],
            np.searchsorted(scored, kept_rows(outputs)),
            evidence.guide.drawn.log_ratios if evidence.weights is not None else None,
            _r_eff(evidence.table, drawn),
        )
    advice = AS_A_DISTRIBUTION if why_not and why_not == of_output.why_no_score else ""
    advice = ROWS_APART if _is_one_event(likelihood) else advice
    evidence.findings.append(loo_finding(evidence.loo, len(outputs), why_not, advice))


def _why_no_loo(
    evidence: Evidence,
    model: Examined,
    drawn: Posterior,
    likelihood: Likelihood,
    of_output: ScoredDensity,
    n_scored: int,
) -> str:
    """Say why no row can be left out of a known likelihood; empty if they can."""
    weights, guide, by_row = evidence.weights, evidence.guide, learned_by_row(model, drawn)
    fitted = [name for name in by_row if name not in drawn.draws]
    if _is_one_event(likelihood):
        return f"{density_of_all(model.signature.output)}, and none for each row"
    if fitted:
        return f"{fitted[0]!r} has a parameter for each row, which was fitted to that row"
    if by_row:
        return f"it would have to integrate out each row's own {', '.join(by_row)}"
    if len(evidence.table) and not evidence.table["sd"].any():
        return "all draws are the same point, so that no row left out can change them"
    if of_output.why_no_loo:
        return of_output.why_no_loo
    if weights is not None and not weights.is_trusted:
        return "k-hat says that the draws are not those of the posterior"
    if weights is not None and not guide.has_all_of(drawn):
        return "the guide has no draws of some sites of the posterior"
    return "" if n_scored else NONE_COUNTS


def _is_one_event(likelihood: Likelihood | None) -> bool:
    return likelihood is not None and likelihood.of_rows is None


def judge_predictions(
    evidence: Evidence,
    model: Examined,
    drawn: Posterior,
    outputs: Shaped[np.ndarray, "row ..."],
    sides: Int[np.ndarray, "row ..."] | None,
    likelihood: Likelihood | None,
) -> None:
    """Hold predictions against the rows, and say what they are not held against.

    Args:
        evidence: What was found so far; this is added.
        model: The model.
        drawn: The draws that are judged.
        outputs: The output of all rows, NaN where a mask leaves it out.
        sides: How each entry of it is censored, or ``None``.
        likelihood: The log-likelihood of the rows, or ``None``.
    """
    chosen = kept_rows(outputs)
    reader = PredictionsOfRows(outputs, chosen)
    if unjudged := _why_no_predictions(model, drawn, outputs, sides, reader):
        evidence.findings.append(unjudged)
    elif _is_one_event(likelihood):
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
    if unjudged is None and sides is not None:
        text = f"mean, sd and extremes of {model.signature.output} were not judged: {CENSORED}"
        evidence.findings.append(Finding("p-values", "unjudged", text))
    elif unjudged is None and reader.observed.any():
        evidence.findings.append(p_value_finding(p_values(reader.statistics())))
    evidence.findings += [*_of_other_outcomes(model), *_of_factors(model)]


def _why_no_predictions(
    model: Examined,
    drawn: Posterior,
    outputs: Shaped[np.ndarray, "row ..."],
    sides: Int[np.ndarray, "row ..."] | None,
    reader: PredictionsOfRows,
) -> Finding | None:
    """Predict the rows; return why the predictions cannot be held against them, if so."""
    if not reader.observed.any():
        return _unjudged(NONE_COUNTS)
    if sides is not None and (sides.shape != outputs.shape or (sides == INTERVAL).any()):
        return _unjudged(NO_INTERVALS)
    # A row's own latent values are drawn anew: with those of its posterior it would predict itself
    # (the mixed predictive check of Marshall and Spiegelhalter 2003).
    by_row = learned_by_row(model, drawn)
    left = {name: a for name, a in drawn.draws.items() if name not in by_row}
    own = replace(drawn, draws=left, count=drawn.num_draws)
    try:
        model.predictor.predict(model.request(own, "posterior_predictive", {"of_row": reader}))
    except AimzLabError as error:
        return _unjudged(str(error))
    if not reader.has_rows:
        return _unjudged(f"{model.signature.output} has no value for each row", "unjudged")
    return None


def _unjudged(why: str, level: FindingLevel = "amber") -> Finding:
    return Finding("predictions", level, f"predictions were not judged: {why}")


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


def _r_eff(table: pd.DataFrame, drawn: Posterior) -> float:
    """Effective draws over draws, of chains; 1 for independent draws."""
    if "ess_bulk" not in table or table["ess_bulk"].isna().all():
        return 1.0
    return float(np.clip(table["ess_bulk"].mean() / drawn.num_draws, 1e-3, 1.0))
