"""The loss of one distribution for all rows, and runs that end above it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import geom, norm

from aimz_lab.inference.run.constant_loss import (
    constant_loss,
    note_of_end,
    worse_than_constant,
)
from aimz_lab.inference.run.records import ConstantLoss
from tests.runs import tell, told_run

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("counts", [RNG.poisson(3, 500), RNG.integers(0, 2, 500) == 1])
def test_of_whole_numbers_it_is_that_of_the_geometric_distribution(counts):
    expected = -geom(1 / (1 + counts.mean()), loc=-1).logpmf(counts.astype(int)).mean()
    found = constant_loss(counts, 0, is_discrete=True)
    assert found[:2] == (pytest.approx(expected), "geometric")


def test_of_other_numbers_it_is_that_of_the_normal_distribution():
    y = RNG.exponential(7, 500).astype(np.float32)
    expected = -norm(y.mean(), y.std()).logpdf(y).mean()
    found = constant_loss(y, 0, is_discrete=False)
    assert found[:2] == (pytest.approx(expected, rel=1e-5), "normal")


@pytest.mark.parametrize("y", [[2.0, 2.0], [1.0, np.nan], [1.0, np.inf], [-1, 3]])
def test_there_is_none_of_one_value_of_numbers_not_finite_and_of_negative_ones(y):
    with np.errstate(invalid="ignore"):
        assert constant_loss(np.array(y), 0, is_discrete=True) is None


@pytest.mark.parametrize(("values", "excess"), [(1, 1.0), (10, 2.0)])
def test_many_latent_values_for_few_rows_may_cost_more_than_a_nat_per_row(values, excess):
    found = constant_loss(RNG.normal(size=100), values, is_discrete=False)
    assert found.least_excess == pytest.approx(excess)


def run_of(losses, constant=2.0):
    run = told_run()
    if constant is not None:
        run.constant_losses = (ConstantLoss(constant, "normal", 1.0),)
    tell([], losses, run)
    return run


def test_above_that_of_the_own_family_a_small_excess_is_told():
    run = run_of(np.full(400, 2.9))
    run.constant_losses = (ConstantLoss(2.7, "Poisson", 0.15, True), *run.constant_losses)
    assert "one Poisson distribution for all rows has 2.7: " in worse_than_constant(run)
    assert "no intercept" in worse_than_constant(run)
    run.constant_losses = (ConstantLoss(2.8, "Poisson", 0.15, True), *run.constant_losses[1:])
    assert worse_than_constant(run) == ""


def test_of_several_the_lowest_is_told():
    run = run_of(np.full(400, 9.0))
    run.constant_losses = (ConstantLoss(7.0, "Poisson", 0.15, True), *run.constant_losses)
    assert "one normal distribution for all rows has 2: " in worse_than_constant(run)
    assert "the likelihood does not suit" in worse_than_constant(run)


def test_a_long_run_that_ends_above_it_is_told():
    said = worse_than_constant(run_of(np.full(400, 51_778.0)))
    assert said.startswith("the loss ended at 51,778 per row, and one normal distribution for all ")
    assert "rows has 2:" in said


@pytest.mark.parametrize(
    "run",
    [
        run_of(np.full(400, 2.9)),
        run_of(np.full(380, 51_778.0)),
        run_of(np.full(400, 51_778.0), None),
        run_of(np.full(400, np.nan)),
    ],
    ids=["within what the prior may cost", "few steps", "not comparable", "not a number"],
)
def test_others_are_not(run):
    assert worse_than_constant(run) == note_of_end(run) == ""
