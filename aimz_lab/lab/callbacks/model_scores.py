"""Scores of a fitted model on rows: held-out bound and density, leave-one-out, k-hat, verdict."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, NamedTuple

import jax
import numpy as np

from aimz_lab.data.tables import is_table, native_table
from aimz_lab.errors import ArgumentError, DataError, PerformanceWarning
from aimz_lab.lab import formatting
from aimz_lab.predictive.other_rows import joined_output
from aimz_lab.predictive.reducers.scores import density_of_all
from aimz_lab.predictive.scored_density import AS_A_DISTRIBUTION
from aimz_lab.system.imports import late_import
from aimz_lab.system.lazy_modules import xr
from aimz_lab.trust.diagnosis import TrustReport
from aimz_lab.trust.examined_model import Examined, learned_by_row, likelihood_of, scored_density_of
from aimz_lab.trust.held_out import held_out_elbo
from aimz_lab.trust.predictive_checks import MOST_ROWS, LeaveOneOut
from aimz_lab.trust.scored_outcomes import (
    ScoredOutcomes,
    check_same_bounds,
    check_same_masks,
    check_same_outcomes,
    scored_outcomes,
)
from aimz_lab.trust.smoothing import smoothed, trusted_k
from aimz_lab.types import shown

_LEAST_DRAWS = 25  # of leave-one-out
_TOGETHER = "held_out_joint_lpd"

Data = Mapping[str, Any]
"""Arguments of ``log_likelihood`` by name."""


@dataclass
class Scores:
    """Scores of a model, and why some are missing.

    Attributes:
        facts: Numbers by name.
        notes: Sentences about what is missing.
        loo: Leave-one-out, if it can be compared, in the units of its outcomes.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    loo: LeaveOneOut | None = None


class ScoredModel(NamedTuple):
    """A model with the rows that it is scored on.

    Attributes:
        im: The model.
        rows: Arguments of ``log_likelihood`` by name.
        model: The parts of the model that scores read.
        outcomes: The outcomes of these rows.
        why_none: Why its density scores no prediction; empty if it does.
        order: Numbers of the rows in the order of the first model's; ``None`` as they are.
    """

    im: Any
    rows: Data
    model: Examined
    outcomes: ScoredOutcomes
    why_none: str = ""
    order: np.ndarray | None = None


def arguments_of_rows(name: str, given: Any, output: str) -> Data:
    """Return rows as arguments of ``log_likelihood``.

    Args:
        name: Whose rows they are, for messages.
        given: ``(X, y)``, arguments by name, or a data frame.
        output: Name of the output.

    Raises:
        ArgumentError: If they are none of these.
    """
    if isinstance(given, tuple) and len(given) == 2:
        return {"X": given[0], "y": given[1]}
    if isinstance(given, Mapping) and "X" in given:
        arguments = dict(given)
        return {("y" if key == output else key): value for key, value in arguments.items()}
    if is_table(native_table(given)):
        return {"X": given}
    msg = (
        f"{name}={shown(given)} is not allowed; use (X, y), arguments by name with 'X' among them, "
        "or a data frame for models with a table; or one of these for each run by its name."
    )
    raise ArgumentError(msg)


def scored_models(
    argument: str, models: Mapping[str, Any], rows: Mapping[str, Data], key: jax.Array
) -> dict[str, ScoredModel]:
    """Return models with the rows that they are scored on: those of one outcome.

    Args:
        argument: Name of the argument that gave the rows, for messages.
        models: The models by name.
        rows: Arguments of ``log_likelihood`` for each.
        key: A typed random key.

    Raises:
        DataError: If the models are scored on other rows, or on outcomes in other units.
    """
    found = {name: _scored_model(im, rows[name], key) for name, im in models.items()}
    if len(found) < 2:
        return found
    orders = check_same_outcomes(argument, {name: one.outcomes for name, one in found.items()})
    with_scores = {n: one for n, one in found.items() if not one.why_none}
    in_order = {n: one.outcomes.in_order(orders[n]) for n, one in with_scores.items()}
    check_same_masks(argument, in_order)
    check_same_bounds(argument, in_order)
    moved = [name for name, order in orders.items() if (np.diff(order) < 0).any()]
    n_rows = len(next(iter(orders.values())))
    if moved and argument == "trained" and n_rows > MOST_ROWS:
        msg = (
            f"{argument}= has the rows in another order for {moved[0]}. Of {n_rows:,} rows a "
            "sample is left out, which has to be the same: pass them in one order."
        )
        raise DataError(msg)
    return {
        name: one._replace(order=orders[name]) if name in moved else one
        for name, one in found.items()
    }


def _scored_model(im: Any, rows: Data, key: jax.Array) -> ScoredModel:
    options = {"rows": "auto", "batch_size": None, "allow_nonfinite": False}
    rest = {name: value for name, value in rows.items() if name not in ("X", "y")}
    moment = im._moment()
    moment.fitted("compare_runs", im._running)
    model = im._examined(
        moment, rows["X"], rows.get("y"), rest, None,
        key=key, by_row=(), shared=(), **options,
    )  # fmt: skip
    why_none = scored_density_of(model).why_no_score
    return ScoredModel(im, rows, model, scored_outcomes(model), why_none)


def notes_of_given_outcomes(found: Mapping[str, ScoredModel]) -> dict[str, str]:
    """Say of scores that they are given the data of an outcome that another model lacks.

    Args:
        found: The models with their rows.

    Returns:
        A sentence for each model that observes one besides the output, if not all models do.
    """
    given = {name: _given_outcomes(one) for name, one in found.items()}
    notes = {}
    for name, outcomes in given.items():
        others = [other for other, its in given.items() if not outcomes.keys() <= its.keys()]
        if not others:
            continue
        sites = [site for key, site in outcomes.items() if any(key not in given[o] for o in others)]
        notes[name] = (
            f"scores are log densities of {found[name].im.param_output} given the data of "
            f"{', '.join(map(repr, sites))}, which this model observes too and "
            f"{' and '.join(others)} not: they compare with scores given the same data alone"
        )
    return notes


def _given_outcomes(scored: ScoredModel) -> dict[str, str]:
    """Return the outcomes beside the output whose data are given: by argument, the site."""
    model = scored.model
    rows = model.request(model.fitted.posterior, "log_likelihood", None).rows
    sites = [model.spec.sites[name] for name in model.spec.other_outcomes]
    names = rows if isinstance(rows, Mapping) else {one.argument for one in sites}
    return {
        one.argument or one.name: one.name
        for one in sites
        if one.argument is None or one.argument in names
    }


def scores(
    n_obs: int | None,
    held_out: ScoredModel | None,
    trained: ScoredModel | None,
    key: jax.Array,
    num_draws: int,
) -> Scores:
    """Score a model, in the units of its outcomes.

    Args:
        n_obs: Rows of its training, if they are known.
        held_out: The model with rows that it was not trained on, or ``None``.
        trained: The model with the rows that it was trained on, or ``None``.
        key: A typed random key.
        num_draws: Draws of the guide.
    """
    found = Scores()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PerformanceWarning)  # how calls are cut is no concern here
        if held_out is not None:
            _score_held_out(found, held_out, n_obs, key, num_draws)
        if trained is not None:
            _score_trained(found, trained, key, num_draws)
    outcomes = (held_out or trained).outcomes
    if outcomes.formula and found.facts.keys() & {"held_out_lpd", "elpd_loo"}:
        found.notes.append(
            f"scores are log densities of {outcomes.units}; those of im.diagnose() are of "
            f"{outcomes.formula}"
        )
    return found


def _score_held_out(
    found: Scores, scored: ScoredModel, n_obs: int | None, key: jax.Array, num_draws: int
) -> None:
    _check_held_out(found, scored.model)
    posterior = scored.model.fitted.posterior
    if by_row := learned_by_row(scored.model, posterior):
        found.facts["held_out_lpd"] = np.nan
        found.notes.append(
            f"no held-out scores: the model has values of {by_row[0]!r} for trained rows alone"
        )
        return
    request = scored.model.request(posterior, "log_likelihood", None)
    if text := joined_output(request, scored.model.spec):
        found.facts["held_out_lpd"] = np.nan
        found.notes.append(f"no held-out scores: {text}")
        return
    if why := scored.why_none:
        found.facts |= {"held_out_lpd": np.nan, "held_out_elbo": np.nan}
        advice = AS_A_DISTRIBUTION.removesuffix(".")
        found.notes.append(f"no held-out scores: {why}. {advice}")
        return
    rows, n_rows = _scored_rows(scored), scored.outcomes.n_rows
    if not len(rows):
        found.facts |= {"held_out_lpd": np.nan, "held_out_elbo": np.nan}
        found.notes.append("no held-out scores: a mask leaves out all of the rows")
        return
    if len(rows) < n_rows:
        found.notes.append(
            f"held-out densities are of {len(rows):,} of {n_rows:,} rows, as a mask leaves out the "
            "others, which count as rows in held_out_elbo"
        )
    gained = float(scored.outcomes.log_jacobian[rows].mean())
    likelihood = likelihood_of(scored.model, posterior, n_rows)
    of_rows = likelihood.of_rows
    if of_rows is None:
        found.notes.append(
            f"no held_out_lpd: {density_of_all(scored.im.param_output)}, and none for each row; "
            f"{_TOGETHER} compares models by that"
        )
    found.facts["held_out_lpd"] = np.nan if of_rows is None else of_rows.lppd[rows].mean() + gained
    found.facts[_TOGETHER] = _joint_lpd(likelihood.total) / len(rows) + gained
    elbo = held_out_elbo(scored.model, n_obs, key, num_draws)
    found.facts["held_out_elbo"] = elbo.per_row + gained * len(rows) / n_rows
    found.facts["held_out_elbo_se"] = elbo.se
    if elbo.why_not:
        found.notes.append(f"no held-out ELBO: {elbo.why_not}")


def _scored_rows(scored: ScoredModel) -> np.ndarray:
    """Return the numbers of the rows that no mask leaves out."""
    rows = scored.outcomes.scored
    return np.arange(scored.outcomes.n_rows) if rows is None else rows


def _joint_lpd(total: np.ndarray) -> float:
    """Return the log of the mean density of all rows together; NaN if few draws make it up."""
    if not smoothed(total).is_trusted:
        return np.nan
    top = total.max()
    return float(np.log(np.exp(total - top).mean()) + top)


def score_together(found: Mapping[str, Scores]) -> None:
    """Keep the density of all held-out rows together only where some model has no other.

    It is another quantity than the density by row, and has to be compared with its like.

    Args:
        found: The scores by name.
    """
    scored = [one for one in found.values() if _TOGETHER in one.facts]
    if not any(np.isnan(one.facts["held_out_lpd"]) for one in scored):
        for one in scored:
            del one.facts[_TOGETHER]
        return
    for one in scored:
        if np.isnan(one.facts[_TOGETHER]):
            one.notes.append(
                f"no {_TOGETHER}: the mean density of these rows together hangs on few of the "
                "draws; hold out fewer rows, or compare by held_out_elbo"
            )


def _check_held_out(found: Scores, model: Examined) -> None:
    """Tell of held-out rows that the model was trained on.

    Raises:
        DataError: If most of them are.
    """
    rows = model.request(model.fitted.posterior, "log_likelihood", None).rows
    fingerprint = model.fitted.fingerprint
    if fingerprint is None or not isinstance(rows, Mapping):  # a stream is not read for this
        return
    n_rows = len(next(iter(rows.values())))
    count = fingerprint.count_of(rows)
    if not count:
        return
    said = f"{count:,} of {n_rows:,} held-out rows look like rows that the model was trained on"
    if 2 * count > n_rows:
        msg = (
            f"{said}, so that its scores would look better than they are. held_out= takes rows "
            "that no model was trained on; trained= scores models on the rows of their training, "
            "by leave-one-out."
        )
        raise DataError(msg)
    found.notes.append(f"{said}, and make its held-out scores look better")


def _score_trained(found: Scores, scored: ScoredModel, key: jax.Array, num_draws: int) -> None:
    report = scored.im.diagnose(**scored.rows, num_draws=num_draws, rng_key=key, progress=False)
    found.facts |= {"k_hat": np.nan if report.k_hat is None else report.k_hat}
    found.facts |= {"verdict": report.level}
    if report.level != "green":
        # That of leave-one-out is told below.
        reasons = [one.text for one in report if one.level == report.level and one.name != "LOO"]
        causes = [one.text for one in report if one.is_cause and one.level != report.level]
        why = f"; the reason may be that {' and '.join(causes)}" if causes else ""
        found.notes += [f"{report.level}, as {'; '.join(reasons)}{why}"] if reasons else []
    loo = report.loo
    if loo is None or not np.isfinite(loo.elpd):
        found.notes.append(f"{report['LOO'].text}; so the model has no rank and no weight")
        return
    if len(loo.weights) < _LEAST_DRAWS:
        found.notes.append(f"no leave-one-out: it takes {_LEAST_DRAWS} draws at least")
        return
    rows, n_rows = _scored_rows(scored), scored.outcomes.n_rows
    if len(rows) < n_rows:
        found.notes.append(
            f"leave-one-out is of {len(rows):,} of {n_rows:,} rows, as a mask leaves out the others"
        )
    loo = loo.gaining(scored.outcomes.log_jacobian[rows])
    if scored.order is not None:
        order = scored.order[np.isin(scored.order, rows)]
        loo = loo.in_order(np.searchsorted(rows, order))
    found.loo = loo
    found.facts |= {
        "elpd_loo": loo.elpd,
        "se": loo.se,
        "p_loo": loo.p_loo,
        "draws_se": loo.draws_se,
        "pareto_k": float(loo.k.max()),
        "bad_k": loo.bad_share,
    }
    if loo.bad_share > 0:
        found.notes.append(
            f"leave-one-out is not to be trusted for {formatting.share(loo.bad_share)} of the "
            "rows, whose k-hat is too large"
        )
    if report.k_hat is None and (why := _why_uncorrected(report)):
        found.notes.append(f"leave-one-out takes the draws for those of the posterior, but {why}")


def _why_uncorrected(report: TrustReport) -> str:
    """Return why draws that may not be those of the posterior were not corrected; or nothing."""
    found = [one for one in report if one.name in ("k-hat", "posterior")]
    return next((one.text for one in found if one.level in ("amber", "red")), "")


def compared_loo(found: Mapping[str, Scores]) -> dict[str, dict[str, Any]]:
    """Compare leave-one-out of several models by ArviZ, and return its numbers by name.

    Args:
        found: The scores by name, of the same rows in one order.
    """
    with_loo = {name: one for name, one in found.items() if one.loo is not None}
    if len(with_loo) < 2:
        return {}
    stats = late_import("arviz_stats")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of k-hat, which is in the table
        options = {"round_to": "none"} if "round_to" in signature(stats.compare).parameters else {}
        table = stats.compare({name: _elpd_data(one) for name, one in with_loo.items()}, **options)
    best = str(table.index[0])
    compared = {}
    for rank, (name, weight) in enumerate(zip(table.index, table["weight"], strict=True)):
        less, error = _difference(with_loo[name].loo, with_loo[best].loo)
        compared[str(name)] = {
            "loo_rank": rank, "elpd_diff": less, "dse": error, "weight": float(weight),
        }  # fmt: skip
        if rank and abs(less) < 2 * error:
            with_loo[name].notes.append(
                f"elpd is {formatting.number_beside(-less, error)} below that of {best}, with a "
                f"standard error of {formatting.number(error)}: these rows do not tell the two "
                "models apart, and a weight says little"
            )
        of_draws = float(np.hypot(with_loo[name].loo.draws_se, with_loo[best].loo.draws_se))
        if rank and abs(less) < 2 * of_draws:
            with_loo[name].notes.append(
                f"elpd is {formatting.number_beside(-less, of_draws)} below that of {best}, and "
                f"other draws of both would change this by about {formatting.number(of_draws)}: "
                "more draws may rank and weigh them otherwise"
            )
    return compared


def _difference(one: LeaveOneOut, best: LeaveOneOut) -> tuple[float, float]:
    """Return the difference of ``elpd``, and its standard error by the sampling of rows."""
    less = one.pointwise - best.pointwise
    n_rows, n_kept = len(less), len(one.kept)
    error = n_rows * less[one.kept].var(ddof=1)
    if n_kept < n_rows:
        # The log of the mean density is known of all rows: only what they lose is of a sample.
        gaps = (one.gap - best.gap).var(ddof=1)
        error += n_rows**2 * (1 - n_kept / n_rows) * gaps / n_kept
    return float(less.sum()), float(np.sqrt(error))


def _elpd_data(one: Scores) -> Any:
    """Return leave-one-out as ArviZ holds it."""
    loo = one.loo
    data_class = late_import("arviz_stats.utils").ELPDData
    values = {
        "kind": "loo", "elpd": loo.elpd, "se": loo.se, "p": loo.p_loo,
        "n_samples": len(loo.weights), "n_data_points": len(loo.pointwise),
        "scale": "log", "warning": False, "good_k": trusted_k(len(loo.weights)),
        "elpd_i": xr.DataArray(loo.pointwise, dims="row"),
        "pareto_k": xr.DataArray(loo.k, dims="kept_row"),
    }  # fmt: skip
    taken = signature(data_class.__init__).parameters
    return data_class(**{name: value for name, value in values.items() if name in taken})
