"""Put runs side by side: how they ended, the settings that differ, and scores of their models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from aimz_lab.calls import public
from aimz_lab.data import as_typed_key
from aimz_lab.data.checks import check_positive_int
from aimz_lab.data.options import check_flag
from aimz_lab.errors import ArgumentError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.handle import RunHandle
from aimz_lab.inference.run.loss_words import best_not_kept, shown_best, total_loss
from aimz_lab.inference.run.run_words import method_words, of_outcomes, outcome_of, status_then
from aimz_lab.lab import formatting
from aimz_lab.lab.callbacks.model_scores import (
    ScoredModel,
    Scores,
    arguments_of_rows,
    compared_loo,
    notes_of_given_outcomes,
    score_together,
    scored_models,
    scores,
)
from aimz_lab.lab.panels.chains import judged_at_the_end
from aimz_lab.lab.record import RunSource, name_at, named_sources, padded_share, run_of
from aimz_lab.preparing import doing, preparing_line
from aimz_lab.system.imports import late_import
from aimz_lab.types import callable_name

if TYPE_CHECKING:
    from aimz_lab.lab.callbacks.comparison import Comparison

_ENDED_WELL = ("completed", "stopped", "early_stopped", "interrupted")
_SETTINGS = (
    "kernel",
    "outcome",
    "n_obs",
    "learning_rate",
    "last_learning_rate",
    "scaled",
    "posterior_draws",
)


@public
def compare(*sources: RunSource | Sequence[RunSource] | Mapping[str, RunSource]) -> Comparison:
    """Put runs side by side, in a table below a picture of their losses.

    It is :func:`compare_runs` without scores, and takes the runs as separate arguments.

    Args:
        *sources: Runs, or what has one: handles, histories, models, dashboards, watched loops; one
            by one, in lists, or in dicts by name, in any mix.

    Returns:
        A data frame that shows the picture too, with a column for each run, in the order given: how
        it ended, steps, time, rates, and losses, per row if the number of rows is known. ``loss``
        is smoothed; ``best`` is the loss of the best state, see :attr:`Run.best_so_far`;
        ``total_loss`` is the loss of all rows. A run without a name is called as on its page, with
        its number, or else by its kernel and its place. If different formulas of a table make the
        outcomes of the runs, ``outcome`` and a sentence say so: their losses do not compare.

    Raises:
        ArgumentError: If none is given, or two are one run or have the same name.
        DataTypeError: If one has no run.

    Example:
        >>> runs = [im.fit(X, y, epochs=n, progress=False).last_run for n in (5, 10)]
        >>> compare(*runs).loc["steps"].tolist()
        [5, 10]
        >>> compare({"short": runs[0], "long": im}).columns.tolist()
        ['short', 'long']
    """
    if not named_sources(sources):
        msg = "compare() puts runs side by side; pass at least one."
        raise ArgumentError(msg)
    return compare_runs(sources)


@public
def compare_runs(
    sources: Sequence[RunSource] | Mapping[str, RunSource],
    *,
    held_out: Any = None,
    trained: Any = None,
    num_draws: int = 1000,
    progress: bool = True,
    rng_key: jax.Array | None = None,
) -> Comparison:
    """Compare runs and their models: losses, settings that differ, time, and scores on rows.

    Args:
        sources: Runs, or what has one, in a list or a dict by name, as :func:`compare` takes them.
            Models, and handles of runs that have ended, can be scored on rows; so can a model that
            was loaded, which has no run.
        held_out: Rows that no model was trained on: ``(X, y)``, arguments of ``log_likelihood`` by
            name, or a data frame for models with a table; or one of these for each run by name.
        trained: The rows that the models were trained on, likewise, for leave-one-out and k-hat.
        num_draws: Draws of a guide, for its k-hat and the held-out ELBO.
        progress: Whether a line says which model is scored, if that takes long.
        rng_key: Key of these draws; ``jax.random.key(0)`` by default. The models' own keys do not
            change.

    Returns:
        The table of :func:`compare`, with further rows.

        The settings that differ: ``kernel``, ``outcome``, ``n_obs``, ``learning_rate`` (at the
        first step), ``last_learning_rate``, ``scaled``, ``posterior_draws`` (of models).

        With ``held_out``, in nats per row: ``held_out_elbo``, the ELBO by ``num_draws`` draws;
        ``held_out_elbo_se``, its standard error over these draws; and ``held_out_lpd``, the mean
        log predictive density of a row. The loss of ``fit(validation=...)`` is the negative of this
        ELBO by a single draw, unless the loss of the SVI has more particles, so it differs by about
        ``sqrt(num_draws)`` times this error. If the output of a model is one event over all rows,
        ``held_out_joint_lpd`` is the log predictive density of all held-out rows together, divided
        by their number; it does not compare with ``held_out_lpd``. One draw over rows that depend
        on one another, as of a Gaussian process, has no held-out scores, which would not use the
        trained outcomes; unless ``held_out`` has arguments with them, as in ``predict``.

        With ``trained``: ``k_hat``, the ``verdict`` and the leave-one-out of
        :meth:`aimz_lab.ImpactModel.diagnose`, which corrects the draws of a guide: ``elpd_loo``,
        ``se``, ``p_loo``, ``draws_se`` (how far other draws would move ``elpd_loo``), the largest
        ``pareto_k`` of a row, and ``bad_k``, the share of rows where it is too large; then
        ``loo_rank``, ``elpd_diff`` to the best, its standard error ``dse``, and ``weight``, as
        ``arviz_stats.compare`` gives them. If leave-one-out cannot be computed, a sentence says
        why. Beyond 1,000 rows, it takes a sample of them, which ``dse`` allows for. The picture
        then has the differences too.

        Rows that a mask leaves out are left out, and a sentence says how many are scored. A model
        whose kernel adds to the log density by the data of the rows in a ``numpyro.factor`` has no
        scores, as the density of its output lacks what the factor adds.

        Log densities of different outcomes do not compare. Those of a model that observes a
        mediator besides are given its data; a sentence says so if another model does not. If a
        table's formula makes the outcome, such as ``log(sales)``, and its inverse is known, all
        these scores are densities of the column, ``sales``: the log of the formula's slope is
        added. Losses, and the numbers of ``diagnose``, are those of the formula.

    Raises:
        ArgumentError: If there is no run, two are one run or have the same name, rows are given and
            no model is there to be scored, or a value is not allowed.
        DataTypeError: If one has no run and is no model to be scored, or rows come from a
            generator, which is read only once.
        NotFittedError: If a model has no posterior. A model whose training diverged without a good
            state has no scores, and a note says so.
        DataError: If rows do not fit a model, ``trained`` are not those of its training, most of
            ``held_out`` are, or the models would be compared on different rows, or with different
            masks, or in different units. Rows may be in another order, if their labels or distinct
            outcomes tell it.
        OptionalDependencyError: If arviz-stats is missing and ``trained`` is given.

    Example:
        >>> import copy
        >>> long = copy.deepcopy(im).fit(X, y, epochs=20, progress=False)
        >>> new = X[:9] + 0.1, y[:9] + 0.2
        >>> table = compare_runs({"as it was": im, "longer": long}, held_out=new)
        >>> table.loc["held_out_elbo"].notna().all()
        np.True_
    """
    has_rows = held_out is not None or trained is not None
    named = named_sources([sources], _name_at if has_rows else name_at)
    progress = check_flag("progress", progress)
    if not named:
        raise ArgumentError("compare_runs() puts runs side by side; pass at least one.")
    runs = {name: run_of(one) for name, one in named.items() if not _is_without_run(one)}
    models = {name: found for name, one in named.items() if (found := _model_of(one)) is not None}
    known = {name: _facts(run) for name, run in runs.items()}
    of_a_run = next(iter(known.values()), {})
    facts = {name: known.get(name) or _without_run(models[name], of_a_run) for name in named}
    settings = {name: _settings(runs.get(name), models.get(name)) for name in named}
    _add_settings(facts, settings)
    for name, run in runs.items():
        if "outcome" in facts[name]:  # else the formula is one for all
            facts[name]["outcome"] = outcome_of(run) or None
    notes = _of_losses(runs)
    for name, run in runs.items():
        if words := best_not_kept(run):
            notes[name] = [*notes.get(name, []), f"best: {words}"]
    if has_rows:
        if not models:
            msg = (
                "held_out= and trained= score models, and these are records of runs. Pass the "
                "models, or handles of runs that have ended."
            )
            raise ArgumentError(msg)
        num_draws = check_positive_int("num_draws", num_draws)
        key = jax.random.key(0) if rng_key is None else as_typed_key(rng_key)
        why_not = {name: im._trained.why_not for name, im in models.items()}
        models = {name: im for name, im in models.items() if not why_not[name]}
        for name, why in why_not.items():
            if why:
                notes[name] = [*notes.get(name, []), f"no scores, as the training {why}"]
        found = {}
        with preparing_line("compare_runs", enabled=progress, stage="scores"):
            names = list(named)
            new = _scored("held_out", held_out, models, names, key)
            old = _scored("trained", trained, models, names, key)
            for number, name in enumerate(models):
                doing(f"scoring {name}", (number, len(models)))
                n_obs = settings[name]["n_obs"] or models[name].n_obs
                found[name] = scores(n_obs, new.get(name), old.get(name), key, num_draws)
        for name, note in notes_of_given_outcomes(new or old).items():
            found[name].notes.insert(0, note)
        score_together(found)
        _add_scores(facts, found)
        for name, one in found.items():
            notes[name] = notes.get(name, []) + one.notes
    return late_import("aimz_lab.lab.callbacks.comparison").Comparison(
        facts, runs, {name: said for name, said in notes.items() if said}
    )


def _model_of(source: object) -> Any:
    """Return the model behind a source, as the source's run left it; else ``None``."""
    if isinstance(source, RunHandle):
        model = source.result() if source.done and source.status in _ENDED_WELL else None
        source = model if model is not None and model.last_run is source.run else None
    return source if isinstance(source, ImpactModel) else None


def _is_without_run(source: object) -> bool:
    """Whether a source is a model that has no run, as one that was loaded has not."""
    return isinstance(source, ImpactModel) and source.last_run is None


def _name_at(source: object, place: int) -> str:
    if _is_without_run(source):
        return f"{callable_name(source.kernel)} {place}"
    return name_at(source, place)


def _scored(
    argument: str, given: Any, models: Mapping[str, Any], names: Sequence[str], key: jax.Array
) -> dict[str, ScoredModel]:
    """Return the models with the rows of an argument; none without rows."""
    if given is None:
        return {}
    is_by_name = isinstance(given, Mapping) and set(given) == set(names)
    rows = {
        name: arguments_of_rows(argument, given[name] if is_by_name else given, im.param_output)
        for name, im in models.items()
    }
    return scored_models(argument, models, rows, key)


def _of_losses(runs: Mapping[str, Run]) -> dict[str, list[str]]:
    """Say whose losses are densities of another outcome than those of the first run."""
    with_loss = {name: run for name, run in runs.items() if not run.info.is_sampling}
    which = [of.removeprefix(", ") for of in of_outcomes(list(with_loss.values()))]
    return {
        name: [f"losses are {one}, and do not compare with those {which[0]}"]
        for name, one in zip(with_loss, which, strict=True)
        if one != which[0]
    }


def _settings(run: Run | None, model: ImpactModel | None) -> dict[str, Any]:
    """Return the settings of a run; of a model without one, those that it knows itself."""
    draws = 0 if model is None else model.describe()["num_samples"]
    of_model = {} if model is None else {"posterior_draws": draws or None}
    if run is None:
        table = model._table
        return {
            "kernel": callable_name(model.kernel),
            "outcome": (table and table.output_formula) or None,
            "n_obs": (model.describe()["trained_on"] or {}).get("n_obs"),
            **of_model,
        }
    rates = [float(rate) if np.isfinite(rate) else None for rate in run.column("learning_rate")]
    return {
        "kernel": run.info.model,
        "outcome": run.info.outcome or None,
        "n_obs": run.info.n_obs,
        "learning_rate": rates[0] if len(rates) else None,
        "last_learning_rate": rates[-1] if len(rates) else None,
        "scaled": run.info.scaled or None,
        **of_model,
    }


def _add_settings(
    facts: Mapping[str, dict[str, Any]], found: Mapping[str, Mapping[str, Any]]
) -> None:
    """Add the settings in which runs differ."""
    for setting in _SETTINGS:
        if len({each[setting] for each in found.values() if setting in each}) > 1:
            for name, each in found.items():
                facts[name][setting] = each.get(setting)


def _add_scores(facts: Mapping[str, dict[str, Any]], found: Mapping[str, Scores]) -> None:
    compared = compared_loo(found)
    wanted: dict[str, None] = {}
    for name, one in found.items():
        facts[name].update({**one.facts, **compared.get(name, {})})
        wanted |= dict.fromkeys([*one.facts, *compared.get(name, {})])
    for each in facts.values():
        for score in wanted:
            each.setdefault(score, None)


def _facts(run: Run) -> dict[str, Any]:
    rows = run.info.n_obs or 1
    loss = None if run.info.is_sampling else total_loss(run)
    divergences, best = None if run.chains is None else run.chains.divergences, shown_best(run)
    return {
        "method": method_words(run.info.method),
        "status": status_then(run),
        "epochs": None if run.info.is_sampling else run.epoch,
        "steps": run.step,
        "batch_size": None if run.info.is_sampling else run.info.batch_size,
        "trained_s": run.trained_s,
        "prepared_s": run.prepared_s or None,
        "compiling_s": run.compiling_s or None,
        "waited_s": run.waited_s or None,
        "paused_s": run.paused_s or None,
        "steps_per_s": formatting.mean_rates(run)[0] or np.nan,
        "padded_share": None if run.info.is_sampling else padded_share(run),
        "loss": np.nan if loss is None else loss / rows,
        "total_loss": np.nan if loss is None or not run.info.n_obs else loss,
        "best": best.value if best else np.nan,
        "best_by": best and best.what,
        "best_step": best.step if best else None,
        "validation": run.validation[-1][1] if run.validation else np.nan,
        "draws": None if run.chains is None else run.chains.draws,
        "divergences": None if divergences is None else int(divergences.sum()),
        **_convergence(run),
    }


def _without_run(model: ImpactModel, of_a_run: Iterable[str]) -> dict[str, Any]:
    """Return what is known of a model that has no run, under the names of a run's facts."""
    described = model.describe()
    method = " with ".join(filter(None, (described["inference"], described["guide"])))
    return {**dict.fromkeys(of_a_run), "method": method}


def _convergence(run: Run) -> dict[str, float | None]:
    """Return the worst R-hat and the least effective sample size of a run's chains."""
    is_judged = run.chains is not None and run.finished and run.chains.draws
    judged = judged_at_the_end(run) if is_judged else {}
    return {"r_hat": judged.get("r_hat"), "ess": judged.get("ess")}
