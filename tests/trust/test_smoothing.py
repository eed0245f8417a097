"""Smoothed importance weights and tests of uniformity, against closed forms and arviz."""

from __future__ import annotations

import numpy as np
import pytest
from arviz_stats.base import array_stats
from arviz_stats.ecdf_utils import ecdf_pit

from aimz_lab.trust.shape import shape_of
from aimz_lab.trust.smoothing import smoothed, trusted_k
from aimz_lab.trust.uniformity import rank_uniformity, uniformity


@pytest.mark.parametrize("variance", [0.3, 0.5, 0.8])
def test_k_hat_is_the_shape_of_the_tail_of_a_gaussian_that_is_too_narrow(variance):
    """Of q = N(0, s2) and p = N(0, 1), P(p/q > t) falls like t ** (-1 / (1 - s2))."""
    x = np.random.default_rng(0).normal(scale=variance**0.5, size=200_000)
    log_ratios = -(x**2) / 2 + x**2 / (2 * variance)
    assert smoothed(log_ratios).k == pytest.approx(1 - variance, abs=0.12)


def test_weights_and_k_hat_are_those_of_arviz():
    log_ratios = np.random.default_rng(1).standard_t(3, size=1000)
    theirs, k = array_stats.psislw(-log_ratios)
    found = smoothed(log_ratios + 1e6)  # of any size
    np.testing.assert_allclose(np.log(found.weights), theirs, atol=1e-6)
    assert found.k == pytest.approx(float(k), abs=1e-6)


def test_a_proposal_that_is_wide_enough_has_no_tail():
    x = np.random.default_rng(0).normal(scale=2.0, size=2000)
    found = smoothed(-(x**2) / 2 + x**2 / 8)
    assert found.k < 0.1
    assert found.is_trusted
    # Effective draws of this pair: S * (E_q r)**2 / E_q r**2, in closed form.
    assert found.ess / 2000 == pytest.approx(7**0.5 / 4, rel=0.05)


@pytest.mark.parametrize(
    "log_ratios",
    [
        np.float32([-1.77e9, *np.linspace(-9e9, -3e9, 499)]),
        np.array([np.nan, *np.zeros(499)]),
        np.full(500, -np.inf),
        np.array([0.0, *np.full(499, -np.inf)]),
    ],
    ids=["one draw outweighs all", "not a number", "all impossible", "one is possible"],
)
def test_hopeless_ratios_have_finite_weights_and_an_infinite_k_hat(log_ratios):
    found = smoothed(log_ratios)
    assert np.isfinite(found.weights).all()
    assert found.weights.sum() == pytest.approx(1)
    assert found.k == np.inf
    assert not found.is_trusted


@pytest.mark.parametrize("count", [2, 3, 4])
def test_few_draws_have_no_tail(count):
    found = smoothed(np.arange(count, dtype=float))
    assert found.weights.sum() == pytest.approx(1)
    assert not found.is_trusted
    assert trusted_k(1) == -np.inf


def test_equal_ratios_are_a_perfect_proposal():
    found = smoothed(np.full(500, -3e8))
    assert found.is_trusted
    assert found.ess == pytest.approx(500)


def test_the_limit_of_k_hat_follows_the_number_of_draws():
    assert trusted_k(100) == pytest.approx(0.5)
    assert trusted_k(1_000_000) == 0.7


def test_bands_hold_the_curves_of_uniform_values_as_often_as_they_say():
    rng = np.random.default_rng(5)
    bands = {
        "values": (uniformity(rng.uniform(size=60), prob=0.9), rng.uniform(size=(4000, 60))),
        "ranks": (
            rank_uniformity(np.arange(60) % 20, 19, prob=0.9),
            rng.integers(0, 20, size=(4000, 60)),
        ),
    }
    for name, (band, values) in bands.items():
        curves = (values[:, None] <= band.points[:, None]).mean(-1)
        inside = ((curves >= band.lower) & (curves <= band.upper)).all(1).mean()
        assert inside == pytest.approx(0.9, abs=0.04), name


def test_bands_are_those_of_arviz():
    values = np.random.default_rng(2).uniform(size=80)
    found = uniformity(values, prob=0.95)
    points, ecdf, lower, upper = ecdf_pit(values, 0.95, 500)
    # Newer releases leave out both ends, where nothing is uncertain.
    ours = np.isin(found.expected.round(9), np.round(points, 9))
    theirs = np.isin(np.round(points, 9), found.expected.round(9))
    assert ours.sum() == theirs.sum() >= 79
    np.testing.assert_allclose(found.ecdf[ours], ecdf[theirs])
    np.testing.assert_allclose(found.lower[ours], lower[theirs], atol=0.03)
    np.testing.assert_allclose(found.upper[ours], upper[theirs], atol=0.03)


def test_values_that_are_not_uniform_leave_the_band():
    values = np.random.default_rng(3).beta(3, 3, size=300)
    found = uniformity(values)
    assert not found.is_inside
    assert found.p_value < 0.001
    assert found.largest_gap == pytest.approx(0.13, abs=0.06)


@pytest.mark.parametrize("sds", [(0.05, 1.0), (0.8, 0.9), (1.0, 3.0)])
def test_the_shape_of_a_guide_is_that_of_the_closed_form(sds):
    """Of q = N(0, diag(sds**2)) and p = N(0, I), turned by 45 degrees."""
    turn = np.array([[1, -1], [1, 1]]) / 2**0.5
    z = np.random.default_rng(0).normal(size=(500, 2))
    x = z * sds
    found = shape_of(x @ turn.T, -(x**2).sum(1) / 2)
    assert (found.least, found.largest) == pytest.approx(sds, rel=0.15)


def test_a_density_that_is_no_quadratic_has_no_shape():
    z = np.random.default_rng(0).normal(size=(500, 2))
    assert shape_of(z, 3 * np.sign(z[:, 0])) is None
    assert shape_of(np.random.default_rng(0).normal(size=(100, 20)), np.zeros(100)) is None


@pytest.mark.parametrize("n_draws", [100, 1000])
def test_the_error_of_k_is_how_far_those_of_other_draws_lie(n_draws, rng):
    squares = np.square(rng.normal(size=(150, n_draws, 3))).sum(-1)
    found = [smoothed(0.35 * ratios) for ratios in squares]
    errors = [one.k_error for one in found]
    assert np.mean(errors) == pytest.approx(np.std([one.k for one in found]), rel=0.25)
