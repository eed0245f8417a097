"""Kernel arguments that are named like keywords of the methods."""

from __future__ import annotations

import warnings

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab import ArrayDataset
from aimz_lab.errors import AimzLabWarning, CallError
from tests.runs import mean_field_model

X = np.linspace(0, 1, 8, dtype=np.float32)
y = 2 * X
QUIET = {"progress": False, "num_samples": 2}


def observe(mu, y, n):
    with numpyro.plate("obs", n):
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def needs_scale(X, scale, y=None):
    observe(X * scale * numpyro.sample("w", dist.Normal(0, 1)), y, X.shape[0])


def has_scale(X, scale=1.0, y=None):
    needs_scale(X, scale, y)


def has_many(X, store=1.0, held=1.0, dims=1.0, condition=1.0, reduce=1.0, progress=1.0, y=None):
    observe(X * store * numpyro.sample("w", dist.Normal(0, 1)), y, X.shape[0])


def with_draws(kernel):
    return mean_field_model(kernel).set_posterior_sample({"w": np.ones(2, np.float32)})


@pytest.mark.parametrize("scale", [{}, {"scale": 2.0}, {"scale": "none"}])
def test_an_argument_that_the_kernel_needs_is_asked_for(scale):
    with pytest.raises(CallError, match=r"needs the argument 'scale'.*kernel_kwargs={'scale'"):
        mean_field_model(needs_scale).fit(X, y, **QUIET, **scale)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("store", 2.0),
        ("store", X),
        ("held", X),
        ("dims", X),
        ("condition", 2.0),
        ("reduce", 2.0),
        ("reduce", X),
        ("progress", 2.0),
    ],
)
def test_a_value_that_a_method_cannot_mean_is_refused(name, value):
    message = rf"{name}= is a keyword of predict, .*kernel_kwargs={{'{name}'"
    with pytest.raises(CallError, match=message):
        with_draws(has_many).predict(X, **{name: value})


@pytest.mark.slow
def test_a_value_that_both_can_mean_goes_to_the_method_with_one_warning():
    im = mean_field_model(has_scale)
    with pytest.warns(AimzLabWarning, match=r"scale=2.0 goes to fit.*kernel_kwargs={'scale'"):
        im.fit(X, y, scale=2.0, epochs=1, **QUIET)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AimzLabWarning)
        im.fit(X, y, scale=2.0, epochs=1, **QUIET)


@pytest.mark.slow
def test_kernel_kwargs_go_to_the_kernel():
    im = with_draws(has_scale)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AimzLabWarning)
        by_name = im.predict_on_batch(X, scale=3.0, return_datatree=False)
        im.fit(X, y, scale="none", kernel_kwargs={"scale": 3.0}, epochs=1, **QUIET)
    again = with_draws(has_scale).predict_on_batch(
        X, kernel_kwargs={"scale": 3.0}, return_datatree=False
    )
    np.testing.assert_array_equal(by_name["y"], again["y"])


@pytest.mark.slow
def test_a_field_of_the_data_is_no_keyword():
    def kernel(X, epochs, y=None):
        observe(X + epochs * numpyro.sample("w", dist.Normal(0, 1)), y, X.shape[0])

    im = mean_field_model(kernel)
    assert im.fit(ArrayDataset(X=X, y=y, epochs=X), epochs=2, **QUIET).last_run.epoch == 2


@pytest.mark.parametrize("treat", [X, 1.0], ids=["by row", "number"])
def test_no_argument_comes_twice(treat):
    def kernel(X, treat, y=None):
        observe(X + treat * numpyro.sample("w", dist.Normal(0, 1)), y, X.shape[0])

    data, im = ArrayDataset(X=X, y=y, treat=X), with_draws(kernel)
    batches = [{"X": X, "y": y, "treat": X}]
    for call in (
        lambda: im.fit(data, treat=treat, **QUIET),
        lambda: im.fit(batches, treat=treat, n_obs=8, **QUIET),
        lambda: im.predict(data, treat=treat, progress=False),
        lambda: im.predict(batches, treat=treat, progress=False),
        lambda: im.log_likelihood(data, kernel_kwargs={"treat": treat}, progress=False),
        lambda: im.sample_prior_predictive(data, treat=treat, progress=False),
        lambda: im.estimate_effect(
            args_baseline={"X": data}, args_intervention={"X": data, "treat": treat}
        ),
    ):
        with pytest.raises(CallError, match="'treat' is a field of the data"):
            call()
