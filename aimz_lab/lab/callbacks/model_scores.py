"""Scores of a fitted model on rows: held-out bound and density, leave-one-out, k-hat, verdict."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import jax
import numpy as np

from aimz_lab.data.tables import is_table, native_table
from aimz_lab.errors import ArgumentError, DataError, PerformanceWarning
from aimz_lab.inference.run.events import Run
from aimz_lab.predictive import Loo
from aimz_lab.system.imports import late_import
from aimz_lab.system.lazy_modules import xr
from aimz_lab.trust.diagnosis import Examined
from aimz_lab.trust.held_out import held_out_elbo
from aimz_lab.trust.smoothing import trusted_k
from aimz_lab.types import shown

_LEAST_DRAWS = 25  # of leave-one-out

Data = Mapping[str, Any]
"""Arguments of ``log_likelihood`` by name."""


@dataclass
class Scores:
    """Scores of a model, and why some are missing.

    Attributes:
        facts: Numbers by name.
        notes: Sentences about what is missing.
        loo: Leave-one-out of each row, ``(elpd_loo | p_loo | pareto_k, row)``, or ``None``.
        n_draws: Number of the posterior's draws.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    loo: Any = None
    n_draws: int = 0


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


def scores(
    im: Any, run: Run, held_out: Data | None, trained: Data | None, key: jax.Array, num_draws: int
) -> Scores:
    """Score a model.

    Args:
        im: The model.
        run: Its run.
        held_out: Rows that it was not trained on, or ``None``.
        trained: The rows that it was trained on, or ``None``.
        key: A typed random key.
        num_draws: Draws of the guide.
    """
    found = Scores(n_draws=len(next(iter((im.posterior or {"": ()}).values()))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PerformanceWarning)  # how calls are cut is no concern here
        if held_out is not None:
            _score_held_out(found, im, run, held_out, key, num_draws)
        if trained is not None:
            _score_trained(found, im, trained, key, num_draws)
    return found


def _score_held_out(
    found: Scores, im: Any, run: Run, rows: Data, key: jax.Array, num_draws: int
) -> None:
    options = {"rows": "auto", "batch_size": None, "allow_nonfinite": False}
    rest = {name: value for name, value in rows.items() if name not in ("X", "y")}
    model = im._examined(
        im._moment(), rows["X"], rows.get("y"), rest, None,
        key=key, by_row=(), shared=(), **options,
    )  # fmt: skip
    _check_held_out(found, model)
    tree = im.log_likelihood(**rows, reduce="lppd", progress=False)
    lppd = np.asarray(next(iter(tree["log_likelihood"].to_dataset().data_vars.values())))
    found.facts["held_out_lpd"] = float(lppd.reshape(len(lppd), -1).sum(1).mean())
    elbo = held_out_elbo(model, run.info.n_obs, key, num_draws)
    found.facts["held_out_elbo"] = elbo.per_row
    if elbo.why_not:
        found.notes.append(f"no held-out ELBO: {elbo.why_not}")


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
    said = f"{count:,} of {n_rows:,} held-out rows are rows that the model was trained on"
    if 2 * count > n_rows:
        msg = (
            f"{said}, so that its scores would look better than they are. held_out= takes rows "
            "that no model was trained on; trained= scores models on the rows of their training, "
            "by leave-one-out."
        )
        raise DataError(msg)
    found.notes.append(f"{said}, and make its held-out scores look better")


def _score_trained(found: Scores, im: Any, rows: Data, key: jax.Array, num_draws: int) -> None:
    report = im.diagnose(**rows, num_draws=num_draws, rng_key=key, progress=False)
    found.facts |= {"k_hat": np.nan if report.k_hat is None else report.k_hat}
    found.facts |= {"verdict": report.level}
    if report.k_hat is not None and report.k_hat > trusted_k(num_draws):
        found.notes.append(
            f"k-hat {report.k_hat:.2f} is too large: the draws are those of the guide and not of "
            "the posterior, and so are its leave-one-out and weight"
        )
    posterior = im.posterior_tree
    if found.n_draws < _LEAST_DRAWS:
        found.notes.append(f"no leave-one-out: it takes {_LEAST_DRAWS} draws at least")
        return
    tree = im.log_likelihood(**rows, reduce=Loo(_r_eff(posterior)), progress=False)
    values = next(iter(tree["log_likelihood"].to_dataset().data_vars.values()))
    found.loo = np.asarray(values.transpose("loo", ...).values, float).reshape(3, -1)
    elpd, p, k = found.loo
    found.facts |= {
        "elpd_loo": float(elpd.sum()),
        "se": float(np.sqrt(elpd.size * elpd.var(ddof=1))),
        "p_loo": float(p.sum()),
        "pareto_k": float(k.max()),
        "bad_k": float((k > trusted_k(found.n_draws)).mean()),
    }
    if found.facts["bad_k"] > 0:
        found.notes.append(
            f"leave-one-out is not to be trusted for {found.facts['bad_k']:.1%} of the rows, whose "
            "k-hat is too large"
        )


def _r_eff(posterior: xr.DataTree) -> float:
    """Effective draws over draws, as ``arviz_stats.loo`` takes them: 1 of a single chain."""
    draws = posterior["posterior"].to_dataset()
    if draws.sizes["chain"] == 1:
        return 1.0
    ess = late_import("arviz_stats").ess(draws, method="mean")
    values = np.concatenate([np.ravel(each) for each in ess.data_vars.values()])
    return float(values.mean() / (draws.sizes["chain"] * draws.sizes["draw"]))


def compared_loo(found: Mapping[str, Scores]) -> dict[str, dict[str, Any]]:
    """Compare leave-one-out of several models by ArviZ, and return its numbers by name.

    Args:
        found: The scores by name.

    Raises:
        ArgumentError: If the models have other numbers of rows.
    """
    with_loo = {name: one for name, one in found.items() if one.loo is not None}
    if len(with_loo) < 2:
        return {}
    sizes = {name: one.loo.shape[1] for name, one in with_loo.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {n:,}" for name, n in sizes.items())
        msg = f"Leave-one-out compares models on the same rows; here they have {listed}."
        raise ArgumentError(msg)
    stats = late_import("arviz_stats")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of k-hat, which is in the table
        options = {"round_to": "none"} if "round_to" in signature(stats.compare).parameters else {}
        table = stats.compare({name: _elpd_data(one) for name, one in with_loo.items()}, **options)
    best = with_loo[str(table.index[0])].loo
    found = {}
    for rank, (name, weight) in enumerate(zip(table.index, table["weight"], strict=True)):
        less = with_loo[name].loo[0] - best[0]
        error = float(np.sqrt(less.size * less.var(ddof=1)))
        found[str(name)] = {
            "loo_rank": rank, "elpd_diff": float(less.sum()), "dse": error,
            "weight": float(weight),
        }  # fmt: skip
    return found


def _elpd_data(one: Scores) -> Any:
    """Return leave-one-out as ArviZ holds it."""
    elpd, _, k = one.loo
    data_class = late_import("arviz_stats.utils").ELPDData
    values = {
        "kind": "loo", "elpd": one.facts["elpd_loo"], "se": one.facts["se"],
        "p": one.facts["p_loo"], "n_samples": one.n_draws, "n_data_points": elpd.size,
        "scale": "log", "warning": False, "good_k": trusted_k(one.n_draws),
        "elpd_i": xr.DataArray(elpd, dims="row"), "pareto_k": xr.DataArray(k, dims="row"),
    }  # fmt: skip
    taken = signature(data_class.__init__).parameters
    return data_class(**{name: value for name, value in values.items() if name in taken})
