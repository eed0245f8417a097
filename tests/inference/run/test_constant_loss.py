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
    assert constant_loss(counts, is_discrete=True) == (pytest.approx(expected), "geometric")


def test_of_other_numbers_it_is_that_of_the_normal_distribution():
    y = RNG.exponential(7, 500).astype(np.float32)
    expected = -norm(y.mean(), y.std()).logpdf(y).mean()
    assert constant_loss(y, is_discrete=False) == (pytest.approx(expected, rel=1e-5), "normal")


@pytest.mark.parametrize("y", [[2.0, 2.0], [1.0, np.nan], [1.0, np.inf], [-1, 3]])
def test_there_is_none_of_one_value_of_numbers_not_finite_and_of_negative_ones(y):
    with np.errstate(invalid="ignore"):
        assert constant_loss(np.array(y), is_discrete=True) is None


def run_of(losses, constant=2.0):
    run = told_run()
    run.constant_loss = None if constant is None else ConstantLoss(constant, "normal")
    tell([], losses, run)
    return run


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
