"""Runs compared with their models: held-out scores, leave-one-out, settings that differ."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import scipy.stats
from numpyro.infer import HMC, MCMC, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from scipy.special import logsumexp

from aimz_lab import Callback, ImpactModel, TableSpec, lab, settable_rate
from aimz_lab.data import AxisLabels
from aimz_lab.errors import ArgumentError, DataError, DataTypeError, FitWarning, NotFittedError
from aimz_lab.lab.callbacks.comparison import Comparison
from aimz_lab.lab.callbacks.model_scores import Scores, compared_loo
from aimz_lab.trust.predictive_checks import LeaveOneOut
from aimz_lab.trust.scored_outcomes import ScoredOutcomes, check_same_outcomes
from tests.runs import mean_field_model

azs = pytest.importorskip("arviz_stats", reason="needs the lab extra: pip install 'aimz_lab[lab]'")

_rng = np.random.default_rng(5)
X = _rng.normal(size=200).astype(np.float32)
Y = (1 + 2 * X + _rng.normal(size=200)).astype(np.float32)
NEW_X = _rng.normal(size=90).astype(np.float32)
NEW_Y = (1 + 2 * NEW_X + _rng.normal(size=90)).astype(np.float32)


def line(X, y=None):
    level = numpyro.sample("level", dist.Normal(0, 1))
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + slope * X, 1.0), obs=y)


def flat(X, y=None):
    level = numpyro.sample("level", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + 0 * X, 1.0), obs=y)


def svi_of(kernel, rate):
    loss = Trace_ELBO(num_particles=100)
    return SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(rate), loss)


def fitted(kernel, rate, draws):
    im = ImpactModel(kernel, jax.random.key(0), svi=svi_of(kernel, rate))
    held = {"validation": (NEW_X, NEW_Y), "validation_every": 40}
    return im.fit(X, Y, epochs=80, num_samples=draws, progress=False, **held)


@pytest.fixture(scope="module")
def models():
    return {"line": fitted(line, 0.1, 400), "flat": fitted(flat, 0.05, 300)}


def through_a_mediator(X, m=None, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        M = numpyro.sample("M", dist.Normal(slope * X, 1.0), obs=m)
        numpyro.sample("y", dist.Normal(slope * M, 1.0), obs=y)


@pytest.mark.slow
def test_scores_given_another_outcome_are_said_to_be_so():
    ims = {"whole": mean_field_model(line), "through M": mean_field_model(through_a_mediator)}
    steps = {"num_steps": 3, "num_samples": 30, "progress": False}
    ims["whole"].fit_on_batch(X, Y, **steps)
    ims["through M"].fit_on_batch(X, Y, m=X, **steps)
    new = {"X": NEW_X, "y": NEW_Y}
    both = {"whole": new, "through M": {**new, "m": NEW_X}}
    notes = lab.compare_runs(ims, held_out=both).notes
    assert "given the data of 'M', which this model observes too and whole not" in str(notes)
    alone = lab.compare_runs([ims["through M"]], held_out=both["through M"])
    assert "given the data" not in str(alone.notes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of ArviZ, to pandas
def test_scores_are_those_of_numpyro_and_of_diagnose(models):
    table = lab.compare_runs(
        models, held_out=(NEW_X, NEW_Y), trained={"X": X, "y": Y}, num_draws=400,
        rng_key=jax.random.key(1),
    )  # fmt: skip
    for name, im in models.items():
        facts = table[name]
        assert facts["held_out_elbo"] == pytest.approx(-im.last_run.validation[-1][1], abs=0.02)
        by_key = [
            lab.compare_runs(
                [im], held_out=(NEW_X, NEW_Y), num_draws=400, rng_key=jax.random.key(i)
            ).loc["held_out_elbo"].item()
            for i in range(10, 20)
        ]  # fmt: skip
        assert 0.5 < np.std(by_key) / facts["held_out_elbo_se"] < 2
        new = im.log_likelihood(NEW_X, NEW_Y, store="memory", progress=False).log_likelihood.y
        density = np.log(np.exp(new.values.astype(float)).mean((0, 1))).mean()
        assert facts["held_out_lpd"] == pytest.approx(density, abs=1e-4)
        loo = im.diagnose(X, Y, num_draws=400, rng_key=jax.random.key(1)).loo  # corrected by k-hat
        assert facts["elpd_loo"] == loo.elpd
        assert (facts["se"], facts["p_loo"]) == (loo.se, loo.p_loo)
        assert (facts["draws_se"], facts["pareto_k"]) == (loo.draws_se, loo.k.max())
        assert np.isfinite(facts["k_hat"])
    assert table.loc["loo_rank"].tolist() == [0, 1]
    assert table.loc["elpd_diff"].tolist()[0] == 0 > table.loc["elpd_diff"].tolist()[1]
    assert table.loc["kernel"].tolist() == ["line", "flat"]
    assert table.loc["learning_rate"].tolist() == pytest.approx([0.1, 0.05])
    assert table.loc["posterior_draws"].tolist() == [400, 300]
    assert "n_obs" not in table.index  # in which they do not differ
    assert "held-out ELBO per row" in repr(table)
    figure = table.figure()
    assert [text.get_text() for text in figure.axes[1].get_yticklabels()] == ["line", "flat"]
    assert "Leave-one-out compared with the best: line 0, flat -" in table._repr_html_()


def test_records_have_no_scores_and_what_is_missing_is_said(models):
    kept = lab.History(models["flat"].last_run)
    table = lab.compare_runs({"line": models["line"], "kept": kept}, held_out=(NEW_X, NEW_Y))
    assert np.isfinite(table.loc["held_out_lpd", "line"])
    assert table.loc["held_out_lpd", "kept"] is None or np.isnan(table.loc["held_out_lpd", "kept"])
    assert lab.compare_runs([kept]).columns.tolist() == ["flat 1"]
    rows = {"line": (NEW_X, NEW_Y), "kept": (NEW_X[:5], NEW_Y[:5])}
    own = lab.compare_runs({"line": models["line"], "kept": kept}, held_out=rows, progress=False)
    assert own.loc["held_out_lpd", "line"] == table.loc["held_out_lpd", "line"]


@pytest.mark.slow
def test_what_leave_one_out_cannot_say_is_said(models):
    """The draws of a guide far from the posterior have none; the verdict comes with its reason."""
    far = mean_field_model(flat).fit(X, Y, epochs=1, progress=False)
    table = lab.compare_runs({"far": far, "flat": models["flat"]}, trained=(X, Y))
    assert table.loc["verdict", "far"] == "red"
    assert "far: red, as k-hat of the guide is " in repr(table)
    assert "far: leave-one-out was not computed: k-hat says that the draws are not" in repr(table)
    # An amber finding that may be the reason of the red ones stands beside them.
    assert "; the reason may be that the run has " in repr(table)
    assert table["far"][["elpd_loo", "p_loo"]].isna().all()
    assert table.loc["elpd_loo", "flat"] < 0
    assert "weight" not in table.index  # there is one model alone to be compared
    far.set_posterior_sample({"level": np.linspace(0.8, 1.2, 10)})
    assert "few: no leave-one-out: it takes 25 draws at least." in repr(
        lab.compare_runs({"few": far}, trained=(X, Y))
    )
    far.set_posterior_sample({"level": np.random.default_rng(0).normal(1, 0.07, 200)})
    uncorrected = repr(lab.compare_runs({"few": far}, trained=(X, Y)))
    assert "few: leave-one-out takes the draws for those of the posterior, but k-hat" in uncorrected


def loo(elpd, lppd, k=0.0):
    """Return leave-one-out of rows, by 600 draws."""
    n_rows = len(lppd)
    return LeaveOneOut(
        elpd=float(np.sum(elpd)), se=1.0, p_loo=1.0, k=np.full(n_rows, k),
        weights=np.full((600, n_rows), 1 / 600), sampling_se=0.0, draws_se=0.3,
        kept=np.arange(n_rows), gap=lppd - elpd, pointwise=elpd,
    )  # fmt: skip


@pytest.mark.parametrize(("less", "dse", "draws_se", "is_sure"), [
    (-0.92, 1.13, 0.1, False), (-0.92, 0.1, 0.5, False), (-9.2, 1.13, 0.5, True)])  # fmt: skip
def test_a_weight_between_models_that_are_not_told_apart_says_so(less, dse, draws_se, is_sure):
    facts = {"elpd_loo": -9.0, "draws_se": draws_se, "elpd_diff": 0.0, "dse": 0.0, "weight": 1.0}
    other = {**facts, "elpd_diff": less, "dse": dse, "weight": 0.0}
    table = Comparison({"best": facts, "none": {"steps": 5}, "other": other}, {})
    (row,) = [line for line in repr(table).splitlines() if line.startswith("weight")]
    assert row.count("uncertain") == (0 if is_sure else 2)


def test_a_share_is_written_alike_everywhere(models, monkeypatch):
    """The row and the sentence name one share of rows, 1 of 400, by the same digits."""
    lppd = np.zeros(400)
    one = loo(lppd - 1, lppd)._replace(k=np.where(np.arange(400) < 1, 0.9, 0.1))
    report = models["line"].diagnose(X, Y)
    report.loo = one
    monkeypatch.setattr(ImpactModel, "diagnose", lambda *args, **kwargs: report)
    rows = np.tile(X, 2), np.tile(Y, 2)
    said = repr(lab.compare_runs({"line": models["line"]}, trained=rows))
    assert said.count("0.25%") == 2
    assert "0.2%" not in said


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of ArviZ, to pandas
def test_leave_one_out_of_chains_is_that_of_arviz():
    models = {}
    for name, kernel in {"line": line, "flat": flat}.items():
        sampler = HMC(kernel, trajectory_length=1.5)
        chains = MCMC(sampler, num_warmup=200, num_samples=300, num_chains=2,
                      chain_method="vectorized", progress_bar=False)  # fmt: skip
        im = ImpactModel(kernel, jax.random.key(0), inference=chains)
        models[name] = im.fit_on_batch(X, Y, progress=False)
    table = lab.compare_runs(models, trained=(X, Y))
    trees = {name: im.log_likelihood(X, Y, store="memory") for name, im in models.items()}
    expected = azs.compare(trees)
    for name, tree in trees.items():
        facts, own = table[name], azs.loo(tree, pointwise=True)
        assert facts["elpd_loo"] == pytest.approx(own.elpd, abs=1e-2)
        assert facts["se"] == pytest.approx(own.se, rel=5e-3)
        assert facts["p_loo"] == pytest.approx(own.p, abs=1e-2)
        assert facts["dse"] == pytest.approx(expected.loc[name, "dse"], rel=1e-2, abs=1e-6)
        assert facts["weight"] == pytest.approx(expected.loc[name, "weight"], abs=1e-2)


def test_a_sample_of_the_rows_gives_the_difference_of_all_within_its_error():
    rng = np.random.default_rng(3)
    lppd = {name: rng.normal(-1, 0.3, 2000) for name in "ab"}
    lost = {name: rng.gamma(2.0, 0.05, 2000) for name in "ab"}
    every = {name: Scores(loo=loo(lppd[name] - lost[name], lppd[name])) for name in "ab"}
    kept = np.arange(0, 2000, 4)
    some = {}
    for name in "ab":
        pointwise = lppd[name] - lost[name][kept].mean()
        pointwise[kept] = (lppd[name] - lost[name])[kept]
        some[name] = Scores(loo=loo(pointwise, lppd[name])._replace(
            kept=kept, gap=lost[name][kept]
        ))  # fmt: skip
    whole, part = compared_loo(every), compared_loo(some)
    worse = max(whole, key=lambda name: whole[name]["loo_rank"])
    far = abs(part[worse]["elpd_diff"] - whole[worse]["elpd_diff"])
    assert 0 < far < 3 * 2000 * np.sqrt(0.75 * 2 * 0.05**2 * 2 / 500)
    assert whole[worse]["dse"] < part[worse]["dse"] < 1.3 * whole[worse]["dse"]


def test_differences_within_the_error_of_the_draws_are_said():
    rng = np.random.default_rng(2)
    lppd = rng.normal(size=300)
    scores = {
        "one": Scores(loo=loo(lppd - 0.001, lppd)),
        "near": Scores(loo=loo(lppd - 0.002, lppd)),
        "off": Scores(loo=loo(lppd - 0.1, lppd)),
    }
    compared_loo(scores)
    assert not scores["one"].notes
    assert not scores["off"].notes
    assert scores["near"].notes[0].startswith("elpd is 0.3 below that of one, and other draws of")


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"held_out": 3}, ArgumentError, "held_out=3"),
        ({"held_out": (NEW_X, NEW_Y), "num_draws": 0}, ArgumentError, "num_draws"),
        ({"trained": (NEW_X, NEW_Y)}, DataError, "trained on"),
        ({"held_out": (NEW_X, NEW_Y[:3])}, DataError, "90"),
        (
            {"held_out": {"line": (NEW_X, NEW_Y), "flat": (NEW_X[1:], NEW_Y[1:])}},
            DataError,
            "on the same rows, and here they have line 90, flat 89 rows",
        ),
        (
            {"held_out": {"line": (NEW_X, NEW_Y), "flat": (NEW_X, NEW_Y + 1)}},
            DataError,
            "same outcomes of the same rows, and that of row 0 is .* for line and .* for flat",
        ),
        (
            {"trained": {"line": (X, Y), "flat": (NEW_X, NEW_Y)}},
            DataError,
            "line 200, flat 90",
        ),
    ],
)
def test_rows_that_cannot_be_scored_are_refused(models, given, error, words):
    with pytest.raises(error, match=words):
        lab.compare_runs(models, **given)


@pytest.mark.slow
def test_rows_of_the_training_are_not_held_out(models):
    with pytest.raises(DataError, match="90 of 90 held-out rows .* trained= scores models"):
        lab.compare_runs(models, held_out=(X[50:140], Y[50:140]))
    again = np.nextafter(X[50:140].astype(np.float64), 9.0), Y[50:140].astype(np.float64)
    with pytest.raises(DataError, match="90 held-out rows"):
        lab.compare_runs(models, held_out=again)  # read from a file of another precision
    mixed = np.concatenate([NEW_X, X[:9]]), np.concatenate([NEW_Y, Y[:9]])
    table = lab.compare_runs({"line": models["line"]}, held_out=mixed)
    assert "line: 9 of 99 held-out rows look like rows that the model was trained on" in repr(table)
    # Rows of a fit that a later one went on from are no news to the model either.
    later = mean_field_model(line).fit(X, Y, epochs=1, progress=False)
    later.fit(NEW_X, NEW_Y, epochs=1, progress=False)
    with pytest.raises(DataError, match="90 of 90 held-out rows look like rows that the model was"):
        lab.compare_runs({"later": later}, held_out=(X[50:140], Y[50:140]))
    alike = mean_field_model(line).fit(np.round(X), np.round(Y), epochs=1, progress=False)
    # Rows of few values equal each other by chance.
    table = lab.compare_runs({"alike": alike}, held_out=(np.round(NEW_X), np.round(NEW_Y)))
    assert "trained on" not in repr(table)


@pytest.mark.slow
def test_a_model_that_is_not_to_be_used_has_no_scores(models):
    class Spoil(Callback):
        def on_fit_begin(self, run):
            run.control.set_learning_rate(1e20)

    im = mean_field_model(line, settable_rate(numpyro.optim.Adam, 0.05))
    with pytest.warns(FitWarning, match="which is not to be used"):
        im.fit(X, Y, epochs=9, progress=False, callbacks=[Spoil()])
    table = lab.compare_runs({"line": models["line"], "bad": im}, held_out=(NEW_X, NEW_Y))
    assert np.isfinite(table.loc["held_out_lpd", "line"])
    assert table.loc["held_out_lpd", "bad"] is None
    assert "bad: no scores, as the training diverged after step 1 and left a state" in repr(table)


@pytest.mark.slow
def test_chains_are_compared_by_what_they_have():
    sampler = HMC(line, trajectory_length=1.5)
    mcmc = MCMC(sampler, num_warmup=100, num_samples=100, num_chains=2,
                chain_method="vectorized", progress_bar=False)  # fmt: skip
    im = ImpactModel(line, jax.random.key(0), inference=mcmc).fit_on_batch(X, Y, progress=False)
    table = lab.compare({"chains": im})
    assert table.loc["r_hat", "chains"] == pytest.approx(1, abs=0.1)
    assert table.loc["ess", "chains"] > 10
    assert "largest R-hat" in repr(table)
    assert not any(word in repr(table) for word in ("epochs", "padding", "rows of a batch"))


def line_with_outcome(X, m=None, y=None):
    shift = numpyro.sample("shift", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("M", dist.Normal(shift, 1.0), obs=m)
    line(X, y)


def line_with_factor(X, m, y=None):
    with numpyro.plate("row", X.shape[0]):
        numpyro.factor("M", -(m**2))
    line(X, y)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [line_with_outcome, line_with_factor])
def test_a_held_out_bound_is_not_told_where_rows_add_more_than_the_output(kernel):
    im = mean_field_model(kernel).fit_on_batch(X, Y, m=X, num_steps=2, progress=False)
    rows = {"X": NEW_X, "m": NEW_X, "y": NEW_Y}
    table = lab.compare_runs({"one": im}, held_out=rows, num_draws=40, rng_key=jax.random.key(1))
    assert table.loc["held_out_elbo"].isna().all()
    is_factor = kernel is line_with_factor
    assert np.isnan(table.loc["held_out_lpd", "one"]) == is_factor
    said = "the factor 'M' adds to the log density" if is_factor else "the site 'M' beside its"
    assert said in repr(table)


def line_at_once(X, y=None):
    level = numpyro.sample("level", dist.Normal(0, 1))
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(level + slope * X, 1.0).to_event(1), obs=y)


@pytest.mark.slow
def test_a_density_of_all_rows_together_is_compared_with_its_like():
    """It is not that of each row on average, and hangs on few draws where there are many rows."""
    made = {name: mean_field_model(one).fit(X, Y, epochs=1, progress=False)
            for name, one in {"rows": line, "event": line_at_once}.items()}  # fmt: skip
    draws = np.random.default_rng(0).normal([[1.0, 2.0]], 0.05, (500, 2)).astype(np.float32)
    for im in made.values():
        im.set_posterior_sample({"level": draws[:, 0], "slope": draws[:, 1]})
    held_out = NEW_X, NEW_Y
    table = lab.compare_runs(made, held_out=held_out)
    means = draws[:, :1] + draws[:, 1:] * NEW_X
    own = scipy.stats.norm.logpdf(NEW_Y, means)
    together = (logsumexp(own.sum(1)) - np.log(500)) / len(NEW_Y)
    assert table.loc["held_out_joint_lpd"].tolist() == pytest.approx([together] * 2, rel=1e-5)
    by_row = (logsumexp(own, axis=0) - np.log(500)).mean()
    assert table.loc["held_out_lpd", "rows"] == pytest.approx(by_row, rel=1e-5)
    assert np.isnan(table.loc["held_out_lpd", "event"])
    assert "event: no held_out_lpd: y has one log density for all rows together" in repr(table)
    alone = lab.compare_runs({"rows": made["rows"]}, held_out=held_out)
    assert "held_out_joint_lpd" not in alone.index
    trained_on = lab.compare_runs(made, trained=(X, Y))
    assert "event: leave-one-out was not computed: y has one log" in repr(trained_on)
    made["event"].set_posterior_sample({"level": 20 * draws[:, 0], "slope": draws[:, 1]})
    wide = lab.compare_runs({"event": made["event"]}, held_out=held_out)
    assert np.isnan(wide.loc["held_out_joint_lpd", "event"])
    assert "no held_out_joint_lpd: the mean density of these rows together hangs" in repr(wide)


def by_row(X, y=None):
    with numpyro.plate("row", X.shape[0]):
        own = numpyro.sample("own", dist.Normal(0, 2))
        numpyro.sample("y", dist.Normal(own, 0.5), obs=y)


def fitted_by_row(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    own = numpyro.param("own", jnp.zeros(X.shape[0]))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(own + slope * X, 0.5), obs=y)


@pytest.mark.slow
@pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape
@pytest.mark.parametrize("kernel", [by_row, fitted_by_row])
@pytest.mark.parametrize("n_rows", [90, 7])
def test_other_rows_have_no_scores_by_the_values_of_the_training_rows(kernel, n_rows):
    im = mean_field_model(kernel).fit_on_batch(X[:90], Y[:90], num_steps=5)
    table = lab.compare_runs({"own": im}, held_out=(NEW_X[:n_rows], NEW_Y[:n_rows]))
    assert np.isnan(table.loc["held_out_lpd", "own"])
    assert "own: no held-out scores: the model has values of 'own' for trained" in repr(table)
    assert not table.index.intersection(["held_out_elbo", "held_out_joint_lpd"]).size


@pytest.mark.slow
@pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape
def test_a_row_is_not_left_out_of_what_was_fitted_to_it():
    im = mean_field_model(fitted_by_row).fit_on_batch(X[:90], Y[:90], num_steps=500)
    table = lab.compare_runs({"own": im}, trained=(X[:90], Y[:90]))
    assert "elpd_loo" not in table.index
    assert "'own' has a parameter for each row, which was fitted to that row" in repr(table)


@pytest.mark.slow
def test_a_loaded_model_has_the_scores_of_the_saved_one_and_no_run(models, tmp_path):
    saved = models["flat"]
    loaded = ImpactModel.load(saved.save(tmp_path / "flat"), flat, svi=svi_of(flat, 0.05))
    assert loaded.last_run is None
    table = lab.compare_runs({"loaded": loaded, **models}, held_out=(NEW_X, NEW_Y))
    scores = table.loc[["method", "held_out_lpd", "held_out_elbo", "posterior_draws", "kernel"]]
    assert scores["loaded"].tolist() == scores["flat"].tolist()
    assert table.columns.tolist() == ["loaded", "line", "flat"]
    alone = lab.compare_runs([loaded], held_out=(NEW_X, NEW_Y))
    assert alone.columns.tolist() == ["flat 1"]
    assert table.loc["held_out_elbo", "loaded"] == alone.loc["held_out_elbo", "flat 1"]
    for compare in (lab.compare, lab.compare_runs):
        with pytest.raises(DataTypeError, match=r"model was loaded.*held_out="):
            compare([loaded])


def test_models_without_draws_have_no_scores():
    with pytest.raises(NotFittedError):
        lab.compare_runs([mean_field_model(line)], held_out=(NEW_X, NEW_Y))


def test_records_alone_cannot_be_scored(models):
    with pytest.raises(ArgumentError, match="records of runs"):
        lab.compare_runs([models["line"].last_run], held_out=(NEW_X, NEW_Y))
    with pytest.raises(ArgumentError, match="at least one"):
        lab.compare_runs([])


def of_logs(X, y=None):
    level = numpyro.sample("level", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + X, 1.0), obs=y)


def of_values(X, y=None):
    level = numpyro.sample("level", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.LogNormal(level + X, 1.0), obs=y)


def logs_inside(X, y=None):
    level = numpyro.sample("level", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + X, 1.0), obs=None if y is None else jnp.log(y))


def masked(X, y=None):
    level = numpyro.sample("level", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]), numpyro.handlers.mask(mask=X < 1):
        numpyro.sample("y", dist.Normal(level + X, 1.0), obs=y)


def corrected(X, y=None):
    """As ``flat``, with half of the density of each row in a factor."""
    level = numpyro.sample("level", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        with numpyro.handlers.mask(mask=X < 1):  # of such a model alone it does not matter
            numpyro.sample("y", dist.Normal(level + 0 * X, 1.0), obs=y)
        if y is not None:
            numpyro.factor("rest", -0.5 * (y - level) ** 2)


@pytest.mark.slow
def test_a_model_with_a_factor_of_the_rows_has_no_scores():
    models = {}
    for kernel in (flat, corrected):
        im = ImpactModel(kernel, jax.random.key(0), svi=svi_of(kernel, 0.05))
        models[kernel.__name__] = im.fit_on_batch(X, Y, num_steps=50, progress=False)
    held = lab.compare_runs(models, held_out=(NEW_X, NEW_Y), progress=False)
    kept = lab.compare_runs(models, trained=(X, Y), progress=False)
    scores = held.loc[["held_out_lpd", "held_out_elbo"]]
    assert scores["flat"].notna().all()
    assert scores["corrected"].isna().all()
    assert kept.loc["elpd_loo"].isna().tolist() == [False, True]
    said = "the factor 'rest' adds to the log density by the data of the rows"
    assert f"corrected: no held-out scores: {said}" in repr(held)
    assert f"corrected: leave-one-out was not computed: {said}" in repr(kept)


def partly_seen(X, seen, y=None):
    level = numpyro.sample("level", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]), numpyro.handlers.mask(mask=seen):
        numpyro.sample("y", dist.Normal(level + X, 1.0), obs=y)


@pytest.mark.slow
def test_masked_rows_are_left_out_of_scores_and_told():
    """Scores are those of the rows that were seen; models with other masks do not compare."""
    seen, new_seen = np.arange(200) % 4 > 0, np.arange(90) < 60
    svi = svi_of(partly_seen, 0.05)
    one = ImpactModel(partly_seen, jax.random.key(0), svi=svi)
    one.fit_on_batch(X, np.where(seen, Y, 99), seen=seen, num_steps=200, progress=False)
    both = {"masked": one, "short": one}
    held = {
        "masked": {"X": NEW_X, "y": np.where(new_seen, NEW_Y, 99), "seen": new_seen},
        "short": {"X": NEW_X[new_seen], "y": NEW_Y[new_seen], "seen": new_seen[new_seen]},
    }
    found = [
        lab.compare_runs({name: one}, held_out=held[name], num_draws=40, progress=False)
        for name in both
    ]
    masked, short = (table.loc["held_out_lpd"].item() for table in found)
    assert masked == pytest.approx(short, rel=1e-5)
    assert "held-out densities are of 60 of 90 rows" in repr(found[0])
    assert "rows" not in repr(found[1]).split("held_out_elbo_se")[1]
    report = one.diagnose(X, np.where(seen, Y, 99), seen=seen, progress=False)
    of_seen = one.log_likelihood(
        X[seen], Y[seen], seen=seen[seen], reduce="lppd", progress=False
    ).log_likelihood.y_lppd
    np.testing.assert_allclose(report.loo.pointwise, of_seen, atol=0.15)
    assert "of 150 of 200 rows: a mask leaves out the others" in report["LOO"].text
    other = {**held["masked"], "seen": np.arange(90) < 61}
    again = ImpactModel(partly_seen, jax.random.key(0), svi=svi)
    again.set_posterior_sample(one.posterior)
    with pytest.raises(DataError, match="row 60 is masked by masked, .* and not by again"):
        lab.compare_runs(
            {"masked": one, "again": again},
            held_out={"masked": held["masked"], "again": other},
        )


SALES = pd.DataFrame({"x": X, "sales": np.exp(Y.astype(float))})
LATER = pd.DataFrame({"x": NEW_X, "sales": np.exp(NEW_Y.astype(float))})


def of_table(kernel, formula, table=SALES, **others):
    """Return a model of the sales with draws that depend on nothing."""
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.05), Trace_ELBO())
    spec = TableSpec(X="x", y=formula, **others)
    im = ImpactModel(kernel, jax.random.key(0), svi=svi, table=spec)
    im.fit(table, epochs=1, batch_size=200, progress=False)
    im.set_posterior_sample({"level": np.random.default_rng(0).normal(1, 0.07, 100)})
    return im


@pytest.fixture(scope="module")
def of_sales():
    return {"logs": of_table(of_logs, "log(sales)"), "values": of_table(of_values, "sales")}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of ArviZ, to pandas
def test_models_of_other_formulas_are_compared_in_the_units_of_the_column(of_sales):
    """One model, as a normal of the log and as a log-normal: its scores are the same."""
    table = lab.compare_runs(of_sales, held_out=LATER, trained=SALES)
    for score in ("held_out_lpd", "elpd_loo", "se", "p_loo"):
        logs, values = table.loc[score]
        assert logs == pytest.approx(values, rel=1e-4), score
    assert table.loc["elpd_diff"].tolist() == pytest.approx([0, 0], abs=1e-2)
    assert table.loc["outcome"].tolist() == ["log(sales)", "sales"]
    said = repr(table)
    assert "values: losses are of sales, and do not compare with those of log(sales)" in said
    assert "scores are log densities of sales; those of im.diagnose() are of log(sales)" in said
    drawn = [line.get_label() for line in table.figure().axes[0].lines]
    assert drawn == [" logs, of log(sales)", " values, of sales"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of ArviZ, to pandas
def test_rows_in_another_order_are_found_by_their_labels_or_their_outcomes(of_sales, monkeypatch):
    order = np.random.default_rng(1).permutation(200)
    other = of_table(of_values, "sales", SALES.iloc[order])
    both = {"logs": of_sales["logs"], "other": other}
    for given in (SALES.iloc[order], SALES.iloc[order].reset_index(drop=True)):
        table = lab.compare_runs(both, trained={"logs": SALES, "other": given})
        assert table.loc["dse"].tolist() == pytest.approx([0, 0], abs=1e-2)
    monkeypatch.setattr("aimz_lab.lab.callbacks.model_scores.MOST_ROWS", 100)
    with pytest.raises(DataError, match="another order for other. Of 200 rows a sample is left"):
        lab.compare_runs(both, trained={"logs": SALES, "other": SALES.iloc[order]})


def times(X, cut, distribution, y=None):
    level = numpyro.sample("level", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        of_row = distribution(level + X, 1.0)
        numpyro.sample("y", dist.RightCensoredDistribution(of_row, cut), obs=y)


def log_times(X, cut, y=None):
    times(X, cut, dist.Normal, y)


def own_times(X, cut, y=None):
    times(X, cut, dist.LogNormal, y)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of ArviZ, to pandas
def test_of_censored_outcomes_the_density_of_seen_ones_alone_has_a_unit():
    """One model of times and of their logs: the mass beyond a bound is the same in both."""
    table = SALES.assign(cut=SALES.sales > 3, sales=SALES.sales.clip(upper=3))
    later = LATER.assign(cut=LATER.sales > 3, sales=LATER.sales.clip(upper=3))
    models = {
        "logs": of_table(log_times, "log(sales)", table, cut="cut"),
        "values": of_table(own_times, "sales", table, cut="cut"),
    }
    found = lab.compare_runs(models, held_out=later, trained=table)
    for score in ("held_out_lpd", "elpd_loo"):
        logs, values = found.loc[score]
        assert logs == pytest.approx(values, rel=1e-4), score
    flagged = {"values": later, "logs": later.assign(cut=False)}
    with pytest.raises(DataError, match="is a bound of what was not seen for values, .* for logs"):
        lab.compare_runs(models, held_out=flagged)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "formula", "told"),
    [
        (logs_inside, "sales", "what the kernel makes of y"),
        (masked, "log(sales)", "log(sales)"),
        (of_logs, "{log(sales / (1 + sales))}", "{log(sales / (1 + sales))}"),
    ],
)
def test_outcomes_of_unknown_units_are_not_compared_with_others(of_sales, kernel, formula, told):
    both = {"values": of_sales["values"], "own": of_table(kernel, formula)}
    with pytest.raises(DataError, match="Densities compare in one unit alone") as refused:
        lab.compare_runs(both, held_out=LATER)
    assert f"({told}) for own" in str(refused.value)
    if formula != "sales":
        assert f"Those of own are in that of {formula}: the " in str(refused.value)
    both["values"] = of_table(kernel, formula)  # alone, or with its like, it has scores
    assert np.ptp(lab.compare_runs(both, held_out=LATER).loc["held_out_lpd"]) == 0


def outcomes(values, labels=None):
    values = np.array(values, float)[:, None]
    names = None if labels is None else AxisLabels((), np.array(labels))
    return ScoredOutcomes(values, 0 * values, np.zeros(len(values)), "y", labels=names)


@pytest.mark.parametrize(
    ("first", "other", "order"),
    [
        (outcomes([1, 0, 1]), outcomes([1, 0, 1]), [0, 1, 2]),
        (outcomes([5, 3, 4]), outcomes([3, 4, 5]), [2, 0, 1]),
        (outcomes([1, 0, 1], list("abc")), outcomes([1, 1, 0], list("cab")), [1, 2, 0]),
        (outcomes([1, 0, 1]), outcomes([1, 1, 0]), None),  # which 1 is which?
        (outcomes([1, 0, 1], list("abc")), outcomes([1, 0, 1], list("abd")), None),
        (outcomes([1, 0, 1], list("abc")), outcomes([1, 0, 1], list("bac")), None),
        (outcomes([1, 0, 1], list("abc")), outcomes([1, 0, 1]), [0, 1, 2]),
        (outcomes([5, np.nan, 4]), outcomes([5, np.nan, 4]), [0, 1, 2]),
    ],
)
def test_the_order_of_rows_is_told_by_labels_or_distinct_outcomes_or_not_at_all(
    first, other, order
):
    both = {"first": first, "other": other}
    if order is None:
        with pytest.raises(DataError, match="the same rows in the same order"):
            check_same_outcomes("trained", both)
    else:
        assert check_same_outcomes("trained", both)["other"].tolist() == order
