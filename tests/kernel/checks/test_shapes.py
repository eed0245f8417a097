"""Shapes that broadcasting would multiply: refused by the site's name, before any work."""

from __future__ import annotations

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab.errors import SiteError
from tests.runs import mean_field_model

pytestmark = pytest.mark.allow_rank_promotion  # what is refused here promotes ranks

ROWS = np.linspace(0, 1, 20, dtype=np.float32)
COLUMN = ROWS[:, None]


def in_a_plate(X, y=None):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(b * X, 1.0), obs=y)


def without_a_plate(X, y=None):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(b * X, 1.0), obs=y)


def three_outputs(X, y=None):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    numpyro.sample("y", dist.Normal(X[:, None] * b[None], 1.0), obs=y)


def vectors(X, y=None):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(X[:, None] * b[None], 1.0).to_event(1), obs=y)


def pairs(X, y=None):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    with numpyro.plate("left", X.shape[0], dim=-2), numpyro.plate("right", X.shape[0], dim=-1):
        numpyro.sample("link", dist.Normal(b, 1.0))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(b * X, 1.0), obs=y)


def with_draws(kernel, shape=()):
    return mean_field_model(kernel).set_posterior_sample({"b": np.ones((4, *shape), np.float32)})


def test_a_prediction_whose_rows_meet_twice_is_refused():
    im = with_draws(in_a_plate)
    said = r"site 'y' has shape \(n, n\).*'X' has shape \(n, 1\): pass X\[:, 0\].*squeeze\(-1\)"
    with pytest.raises(SiteError, match=said):
        im.predict(COLUMN, progress=False)
    with pytest.raises(SiteError, match=said):
        im.predict_on_batch(COLUMN)
    with pytest.raises(SiteError, match=said):
        im.sample_prior_predictive(COLUMN, progress=False)
    with pytest.raises(SiteError, match=said):
        im.estimate_effect(args_baseline={"X": COLUMN}, args_intervention={"X": COLUMN})
    assert im.predict_on_batch(ROWS).posterior_predictive.y.shape == (1, 4, 20)


@pytest.mark.parametrize(("X", "y"), [(COLUMN, ROWS), (ROWS, COLUMN), (COLUMN, COLUMN)])
def test_training_and_log_likelihood_refuse_it_too(X, y):
    narrow = "'X'" if X is COLUMN else "'y'"
    said = rf"site 'y' has shape .*2 times.*{narrow} has shape \(n, 1\)"
    for call in (mean_field_model(in_a_plate).fit, mean_field_model(in_a_plate).fit_on_batch):
        with pytest.raises(SiteError, match=said):
            call(X, y, progress=False)
    with pytest.raises(SiteError, match=said):
        with_draws(in_a_plate).log_likelihood(X, y, progress=False)


def test_one_column_without_a_plate_is_an_output_of_one_column():
    im = with_draws(without_a_plate)
    assert im.predict_on_batch(COLUMN).posterior_predictive.y.shape == (1, 4, 20, 1)
    with pytest.raises(SiteError, match=r"site 'y' has shape \(n,\) and its distribution \(n, 1\)"):
        im.log_likelihood(COLUMN, ROWS, progress=False)


@pytest.mark.parametrize("kernel", [three_outputs, vectors])
@pytest.mark.parametrize("y", [COLUMN, np.repeat(COLUMN, 2, 1)])
def test_data_that_its_distribution_would_repeat_is_refused(kernel, y):
    said = rf"data of site 'y' has shape \(n, {y.shape[1]}\), and its distribution \(n, 3\)"
    with pytest.raises(SiteError, match=said):
        mean_field_model(kernel).fit(ROWS, y, progress=False)
    with pytest.raises(SiteError, match=said):
        with_draws(kernel, (3,)).log_likelihood(ROWS, y, progress=False)


@pytest.mark.filterwarnings("ignore::aimz_lab.errors.PerformanceWarning")
def test_one_value_for_each_pair_of_rows_is_no_accident():
    got = with_draws(pairs).predict_on_batch(ROWS, return_sites=["link"], return_datatree=False)
    assert got["link"].shape == (4, 20, 20)
