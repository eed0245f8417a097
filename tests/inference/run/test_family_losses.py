"""The loss of one distribution for all rows, of the family of the output."""

from __future__ import annotations

import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats
from scipy.optimize import minimize

from aimz_lab.inference.run.family_losses import FAMILIES, family_loss

RNG = np.random.default_rng(0)
Y = RNG.gamma(2.0, 3.0, 400)
COUNTS = RNG.negative_binomial(2, 0.2, 400)
EXACT = {
    "Normal": (Y, stats.norm),
    "LogNormal": (Y, stats.lognorm),
    "Laplace": (Y, stats.laplace),
    "Exponential": (Y, stats.expon),
}
FIXED = {"LogNormal": {"floc": 0}, "Exponential": {"floc": 0}, "Gamma": {"floc": 0}}


@pytest.mark.parametrize("family", EXACT)
def test_it_is_that_of_the_best_distribution(family):
    y, fitted = EXACT[family]
    best = fitted(*fitted.fit(y, **FIXED.get(family, {})))
    assert family_loss(family, y) == pytest.approx(-best.logpdf(y).mean(), rel=1e-6)


@pytest.mark.parametrize(
    ("family", "fitted"), [("Gamma", stats.gamma), ("Logistic", stats.logistic)]
)
def test_without_a_closed_form_it_is_close_to_it_and_never_below(family, fitted):
    best = fitted(*fitted.fit(Y, **FIXED.get(family, {})))
    excess = family_loss(family, Y) + best.logpdf(Y).mean()
    assert -1e-6 < excess < 0.02


@pytest.mark.parametrize("y", [COUNTS, RNG.poisson(4, 400), RNG.integers(0, 2, 400)])
def test_negative_binomial_distributions_likewise(y):
    def loss(x):
        mean, shape = np.exp(x)
        return -stats.nbinom(shape, shape / (shape + mean)).logpmf(y).mean()

    best = minimize(loss, [1.0, 1.0], method="Nelder-Mead").fun
    assert -1e-3 < family_loss("NegativeBinomial2", y) - best < 0.02


def test_of_counts_and_levels_it_is_that_of_the_mean_and_the_shares():
    poisson = -stats.poisson(COUNTS.mean()).logpmf(COUNTS).mean()
    assert family_loss("Poisson", COUNTS) == pytest.approx(poisson)
    levels = np.array([0, 0, 1, 2])
    assert family_loss("CategoricalLogits", levels) == pytest.approx(1.5 * np.log(2))
    assert family_loss("BernoulliProbs", levels == 0) == pytest.approx(np.log(2))


@pytest.mark.parametrize("family", FAMILIES)
def test_there_is_none_of_one_value_and_of_numbers_not_finite(family):
    assert family_loss(family, np.ones(5)) is None
    assert family_loss(family, np.array([1.0, np.nan])) is None
    assert family_loss(family, np.array([1.0, np.inf])) is None


@pytest.mark.parametrize("family", ["LogNormal", "Gamma", "Exponential", "Poisson"])
@pytest.mark.parametrize("y", [[-1.0, 3.0], [-3.0, 1.0], [-3.0, -1.0]])
def test_there_is_none_of_values_that_the_family_does_not_have(family, y):
    assert family_loss(family, np.array(y)) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_values_that_hardly_differ_raise_no_error(family):
    for y in ([1e15, 1e15 + 1], [1e-200, 2e-200]):
        family_loss(family, np.array(y))
    near = 1e4 + 1e-3 * RNG.normal(size=400)
    if family == "Gamma":  # it is nearly normal there
        assert family_loss("Gamma", near) == pytest.approx(family_loss("Normal", near), abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_they_are_families_and_parameters_of_numpyro(family):
    assert set(FAMILIES[family].parameters) <= getattr(dist, family).arg_constraints.keys()
