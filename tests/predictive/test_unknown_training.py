"""Draws that were set by hand without a training, of sites that depend on arguments."""

from __future__ import annotations

import warnings

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab import ImpactModel
from aimz_lab.errors import OutputWarning
from tests.runs import mean_field

X = np.linspace(0, 1, 12, dtype=np.float32)
SIZE = np.array([0.0, 1.0, 3.0], np.float32)
GROUP = np.arange(12) % 3
SLOPE = np.linspace(1, 3, 50, dtype=np.float32)
LEVEL = (SLOPE[:, None] * SIZE).astype(np.float32)
OPTIONS = {"rng_key": jax.random.key(1), "store": "memory", "progress": False}


def of_sizes(X, group, size, y=None):
    slope = numpyro.sample("slope", dist.Normal())
    with numpyro.plate("groups", 3):
        level = numpyro.sample("level", dist.Normal(slope * size, 1e-3))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[group], 1e-3), obs=y)


def of_groups(X, group, size, y=None):
    with numpyro.plate("groups", 3):
        level = numpyro.sample("level", dist.Normal())
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[group] + X, 1e-3), obs=y)


def model(kernel, **draws):
    return ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel)).set_posterior_sample(
        draws
    )


def mean(im, size, **options):
    return (
        im.predict(X, group=GROUP, size=size, **OPTIONS, **options)
        .posterior_predictive["y"]
        .mean()
        .item()
    )


def test_draws_are_said_to_be_of_the_arguments_that_are_passed():
    im = model(of_sizes, slope=SLOPE, level=LEVEL)
    with pytest.warns(
        OutputWarning, match="'level' depends on 'size'. The draws are taken to be of"
    ):
        assert mean(im, SIZE + 1) == pytest.approx(2 * SIZE.mean(), abs=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mean(im, SIZE, held="keep") == pytest.approx(2 * SIZE.mean(), abs=0.01)


def test_redraw_draws_anew_what_may_be_of_other_arguments():
    im = model(of_sizes, slope=SLOPE, level=LEVEL)
    found = mean(im, SIZE + 1, held="redraw")
    assert found == pytest.approx(2 * (SIZE + 1).mean(), abs=0.01)
    with pytest.warns(OutputWarning, match="the draws that were set are not used"):
        mean(im, SIZE, held="redraw", intervention={"slope": 0.0})


def test_nothing_is_said_of_sites_that_depend_on_no_argument():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mean(model(of_groups, level=LEVEL), SIZE) == pytest.approx(
            2 * SIZE.mean() + X.mean(), abs=0.01
        )
