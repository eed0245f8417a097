"""The tour: its data, its model against other densities and samplers, its numbers and words."""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path

import jax
import nbformat
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from numpyro.infer import MCMC, NUTS, Predictive
from numpyro.infer.util import log_density

from aimz_lab.errors import ArgumentError
from aimz_lab.lab.tour import tour as module
from aimz_lab.lab.tour.experiment import (
    Answer,
    Estimate,
    ask,
    difference_in_means,
    earnings,
    load_experiment,
    make_model,
)
from aimz_lab.lab.tour.tour import report, tour


@pytest.fixture(scope="module")
def experiment():
    return load_experiment()


@pytest.fixture
def parameters(rng):
    def normal(*shape):
        return 0.3 * rng.normal(size=shape)

    return {
        "work_base": normal(),
        "work_effect": normal(),
        "work_slopes": normal(10),
        "pay_base": 2 + normal(),
        "pay_effect": normal(),
        "pay_slopes": normal(10),
        "shape": np.exp(normal()),
    }


def works_and_pay(parameters, X, treat):
    """Probability of having earnings, and their mean in thousands of dollars, by NumPy."""
    side = np.asarray(treat, float) - 0.5
    X = np.asarray(X, float)
    work, pay = (
        parameters[f"{part}_base"] + parameters[f"{part}_effect"] * side + X @ parameters[slopes]
        for part, slopes in (("work", "work_slopes"), ("pay", "pay_slopes"))
    )
    return 1 / (1 + np.exp(-work)), np.exp(pay)


def test_the_data_are_those_of_the_experiment(experiment):
    assert experiment.X.shape == (445, 10)
    assert experiment.treat.sum() == 185
    assert set(experiment.treat) == {0, 1}
    assert experiment.y.min() == 0
    np.testing.assert_allclose(experiment.X.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(experiment.X.std(axis=0, ddof=1), 1, atol=1e-5)


def test_the_difference_in_means_is_the_published_one(experiment):
    # Dehejia and Wahba (1999), table 3: 1,794; Welch's test by SciPy for the standard error.
    estimate = difference_in_means(experiment)
    welch = scipy.stats.ttest_ind(
        experiment.y[experiment.treat == 1], experiment.y[experiment.treat == 0], equal_var=False
    )
    assert estimate.mean == pytest.approx(1.79434, abs=1e-5)
    half = 1.959964 * estimate.mean / welch.statistic
    assert (estimate.low, estimate.high) == pytest.approx(
        (estimate.mean - half, estimate.mean + half), rel=1e-5
    )


@pytest.mark.slow
def test_the_model_has_the_density_that_scipy_gives(experiment, parameters):
    X, treat, y = experiment.X, experiment.treat, experiment.y
    got, _ = log_density(earnings, (X, treat), {"y": y}, parameters)
    works_p, pay = works_and_pay(parameters, X, treat)
    shape = parameters["shape"]
    earns = y > 0
    rows = np.where(earns, np.log(works_p), np.log1p(-works_p))
    rows[earns] += scipy.stats.gamma.logpdf(y[earns], shape, scale=pay[earns] / shape)
    normal = scipy.stats.norm.logpdf
    prior = (
        normal(parameters["work_base"], 0, 1.5)
        + normal(parameters["pay_base"], 2, 1)
        + normal(parameters["work_effect"])
        + normal(parameters["pay_effect"])
        + normal(parameters["work_slopes"], 0, 0.5).sum()
        + normal(parameters["pay_slopes"], 0, 0.5).sum()
        + scipy.stats.lognorm.logpdf(shape, 0.5)
    )
    assert float(got) == pytest.approx(rows.sum() + prior, rel=1e-4)


@pytest.mark.slow
def test_expected_earnings_are_the_mean_of_those_drawn(parameters, key):
    X, treat = np.full((20_000, 10), 0.2, np.float32), np.ones(20_000, np.float32)
    draw = Predictive(earnings, {name: value[None] for name, value in parameters.items()})
    sites = jax.tree.map(lambda site: np.asarray(site[0], float), draw(key, X, treat))
    works_p, pay = works_and_pay(parameters, X[:1], treat[:1])
    np.testing.assert_allclose(sites["expected"], (works_p * pay)[0], rtol=1e-4)
    for site, mean in (("earned", works_p * pay), ("works", works_p), ("y", pay)):
        error = sites[site].std() / np.sqrt(len(X))
        assert abs(sites[site].mean() - mean[0]) < 5 * error


def stacked(posterior):
    names = sorted(posterior)
    return np.concatenate(
        [np.reshape(posterior[name], (len(posterior[name]), -1)) for name in names], axis=1
    )


@pytest.mark.slow
@pytest.mark.allow_rank_promotion
def test_training_finds_the_posterior_that_nuts_finds(experiment, key):
    im = make_model()
    im.fit(
        experiment.X,
        experiment.y,
        treat=experiment.treat,
        batch_size=module.BATCH_SIZE,
        epochs=module.EPOCHS,
        num_samples=4_000,
        progress=False,
    )
    sampler = MCMC(NUTS(earnings), num_warmup=300, num_samples=1_500, progress_bar=False)
    sampler.run(key, experiment.X, experiment.treat, y=experiment.y)
    samples = {name: sampler.get_samples()[name] for name in im.posterior}
    ours, theirs = stacked(im.posterior), stacked(samples)
    sd = theirs.std(axis=0)
    np.testing.assert_array_less(np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) / sd, 0.15)
    np.testing.assert_allclose(ours.std(axis=0) / sd, 1, atol=0.1)
    effect = ask(im, experiment).effect["expected"].sel(summary=["mean", "sd"])
    im.set_posterior_sample(samples)
    reference = ask(im, experiment).effect["expected"].sel(summary=["mean", "sd"])
    np.testing.assert_allclose(effect, reference, rtol=0.1)


def summary(works, expected):
    names = ["mean", "sd", "hdi_low", "hdi_high"]
    values = {"works_p": works, "expected": expected}
    return xr.Dataset(
        {site: ("summary", np.asarray(parts)) for site, parts in values.items()},
        coords={"summary": names},
    )


def test_the_report_puts_both_answers_side_by_side():
    answer = Answer(
        without=summary([0.65, 0.02, 0.6, 0.7], [4.8221, 0.4, 4.0, 5.6]),
        with_it=summary([0.75, 0.02, 0.7, 0.8], [6.275, 0.5, 5.3, 7.3]),
        effect=summary([0.1, 0.04, 0.02, 0.18], [1.453, 0.66, -0.282, 2.855]),
    )
    text = report(answer, Estimate(1.7943, 0.479, 3.109))
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "share who earn 65% 75% +10% 2% to 18%" in rows
    assert "mean earnings $4,822 $6,275 +$1,453 -$282 to $2,855" in rows
    assert "difference in means +$1,794 $479 to $3,109" in rows
    assert max(map(len, text.splitlines())) <= 80


def test_a_tour_that_cannot_be_written_does_not_begin(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "load_experiment", lambda: pytest.fail("it began"))
    with pytest.raises(ArgumentError, match="does not exist"):
        tour(tmp_path / "nowhere" / "page.html")


def test_an_interrupted_fit_ends_the_tour(tmp_path, monkeypatch):
    class Interrupted:
        def fit(self, *args, **kwargs):
            self.last_run = type("Run", (), {"status": "interrupted"})

    monkeypatch.setattr(module, "make_model", lambda epochs: Interrupted())
    with pytest.raises(KeyboardInterrupt):
        tour(tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def plain(function: str) -> str:
    """A function's code without annotations and docstring."""
    tree = ast.parse(textwrap.dedent(function)).body[0]
    tree.returns = None
    for argument in tree.args.args:
        argument.annotation = None
    if ast.get_docstring(tree):
        tree.body = tree.body[1:]
    return ast.unparse(tree)


def test_the_tutorial_has_the_model_of_the_tour(repository):
    notebook = nbformat.read(
        Path(repository, "notebooks", "01_first_model.ipynb"), as_version=nbformat.NO_CONVERT
    )
    (cell,) = [cell for cell in notebook.cells if cell.source.startswith("def earnings")]
    assert plain(cell.source) == plain(inspect.getsource(earnings))
