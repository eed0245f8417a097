"""Markov chains: kept apart, continued, and read by ArviZ."""

from __future__ import annotations

import arviz_stats as azs
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.infer import HMC, MCMC, NUTS, SA

from aimz_lab import ImpactModel
from aimz_lab.errors import CallError, DataError, InferenceError, NotFittedError
from tests import kernels

X, Y = kernels.regression_data(60, 2, seed=3)
KEY = jax.random.key(5)


def chains(kernel=kernels.regression, sampler=NUTS, **options):
    options = {"num_warmup": 150, "num_samples": 150, "num_chains": 2} | options
    return MCMC(sampler(kernel), chain_method="vectorized", progress_bar=False, **options)


def eight_steps(kernel):
    """A sampler that compiles in a third of the time that NUTS takes."""
    return HMC(kernel, num_steps=8, trajectory_length=None)


@pytest.fixture(scope="module")
def im():
    im = ImpactModel(kernels.regression, jax.random.key(0), inference=chains())
    with pytest.raises(NotFittedError, match="fit_on_batch"):
        im.sample(X=X, y=Y)
    return im.fit_on_batch(X, Y, rng_key=KEY)


@pytest.mark.slow
def test_draws_are_of_the_posterior(im):
    """`test_chains` and `test_devices` compare draws with those of NumPyro itself."""
    drawn = im.sample()["posterior"]["beta"].values
    np.testing.assert_array_equal(drawn, im.inference.get_samples(group_by_chain=True)["beta"])
    exact = kernels.regression_posterior(X, Y)
    np.testing.assert_allclose(drawn.mean((0, 1)), exact.mean, atol=4 * exact.sd.max() / 10)


@pytest.mark.slow
def test_every_tree_has_the_chains_and_what_the_sampler_says(im):
    trees = {
        "posterior_predictive": im.predict(X, progress=False),
        "log_likelihood": im.log_likelihood(X, Y, store="memory", progress=False),
    }
    for group, tree in trees.items():
        assert dict(tree[group]["y"].sizes) == {"chain": 2, "draw": 150, "obs": 60}
        stats = tree["sample_stats"]
        assert set(stats) == {"acceptance_rate", "diverging", "energy", "lp", "n_steps"}
        assert stats["diverging"].dims == ("chain", "draw")
        assert not stats["diverging"].any()
        r_hat = azs.rhat(tree["posterior"].to_dataset())["beta"]
        assert (r_hat < 1.05).all()
    model = im.log_likelihood(X, Y, store="memory", progress=False)["log_likelihood"]["y"].sum(
        "obs"
    )
    prior = dist.Normal(0, kernels.PRIOR_SD).log_prob(im.posterior["beta"]).sum(1)
    np.testing.assert_allclose(
        trees["log_likelihood"]["sample_stats"]["lp"].values.ravel(),
        model.values.ravel() + prior,
        rtol=1e-4,
    )


@pytest.mark.slow
def test_chains_go_on_from_where_they_are(im):
    posterior, last = im.posterior["beta"], im.inference.last_state
    tree = im.sample(num_samples=20, X=X, y=Y)
    assert tree["posterior"]["beta"].shape == (2, 20, 2)
    assert "diverging" in tree["sample_stats"]
    # Without a new warm-up: the step size is the adapted one, and the first draw is near the last.
    np.testing.assert_array_equal(
        im.inference.last_state.adapt_state.step_size, last.adapt_state.step_size
    )
    assert im.inference.num_samples == 150
    np.testing.assert_array_equal(im.posterior["beta"], posterior)
    with pytest.raises(CallError, match="pass y=... too"):
        im.sample(X=X)
    with pytest.raises(DataError, match="rows are others.*fit_on_batch"):
        im.sample(X=X, y=Y + 2)
    with pytest.raises(DataError, match="rows are in another order.*fit_on_batch"):
        im.sample(X=X[::-1], y=Y[::-1])


def test_minibatches_are_refused_with_what_to_call():
    im = ImpactModel(kernels.regression, jax.random.key(0), inference=chains())
    for method in ("fit", "train_on_batch"):
        with pytest.raises(InferenceError, match="fit_on_batch") as caught:
            getattr(im, method)(X, Y)
        assert isinstance(caught.value, TypeError)


def with_arguments(X, weights, prior, degree, link, y=None):
    slope = numpyro.sample("slope", dist.Normal(prior["loc"], prior["scale"]))
    mean = sum(slope * (X @ weights) ** power for power in range(1, degree + 1))
    numpyro.sample("y", dist.Normal(link(mean), 0.1), obs=y)


@pytest.mark.slow
def test_arguments_of_every_kind():
    arguments = {
        "weights": np.array([1.0, 0.5], np.float32),
        "prior": {"loc": np.zeros(()), "scale": np.ones(())},
        "degree": 2,
        "link": jnp.tanh,
    }
    mean = X @ arguments["weights"]
    y = np.tanh(0.7 * (mean + mean**2))
    mcmc = chains(with_arguments, eight_steps, num_chains=1, num_samples=50)
    im = ImpactModel(with_arguments, jax.random.key(0), inference=mcmc)
    im.fit_on_batch(X, y, progress=False, **arguments)
    assert abs(im.posterior["slope"].mean() - 0.7) < 0.1


@pytest.mark.slow
@pytest.mark.allow_rank_promotion  # inside NumPyro's sampler
def test_other_samplers_have_their_draws_and_what_they_say():
    mcmc = chains(kernels.normal_mean, SA, num_chains=1, num_warmup=20, num_samples=20)
    im = ImpactModel(kernels.normal_mean, jax.random.key(0), inference=mcmc)
    tree = im.fit_on_batch(X, Y, progress=False).sample()
    assert set(im.last_run.chains.names) == {"potential_energy", "acceptance_rate", "diverging"}
    assert tree["posterior"]["mu"].shape == (1, 20)
    assert set(tree["sample_stats"]) == {"diverging"}


@pytest.mark.slow
def test_the_samplers_own_bar_is_not_shown_and_its_setting_stays(capfd):
    sampler = HMC(kernels.normal_mean, num_steps=2, trajectory_length=None)
    mcmc = MCMC(sampler, num_warmup=2, num_samples=2)
    mcmc.progress_bar = True  # NumPyro switches it off in continuous integration
    im = ImpactModel(kernels.normal_mean, jax.random.key(0), inference=mcmc)
    im.fit_on_batch(X, Y, progress=False)
    assert capfd.readouterr() == ("", "")
    assert mcmc.progress_bar


@pytest.mark.slow
def test_kernels_get_jax_arrays_which_loops_and_updates_need():
    rng = np.random.default_rng(0)
    y = np.zeros(80, np.float32)
    for day in range(1, 80):
        y[day] = 0.8 * y[day - 1] + 0.5 * rng.normal()

    def autoregression(X, start, y=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        noise = numpyro.sample("noise", dist.HalfNormal(1.0))
        first = start["y"].at[0].add(0.0)[0]
        X = X.at[0].set(0.0)

        def step(before, row):
            now = numpyro.sample("y", dist.Normal(slope * before + row, noise))
            return now, now

        if y is None:
            scan(step, first, X)
        else:
            with handlers.condition(data={"y": y}):
                scan(step, first, X)

    X, start = np.zeros(80, np.float32), {"y": np.zeros(1)}
    mcmc = chains(autoregression, eight_steps)
    im = ImpactModel(autoregression, jax.random.key(0), inference=mcmc)
    im.fit_on_batch(X, y, progress=False, start=start)
    expected = y[1:] @ y[:-1] / (y[:-1] @ y[:-1])
    np.testing.assert_allclose(im.posterior["slope"].mean(), expected, atol=0.03)
