"""Scales and plates of a kernel's own that cannot be right on batches are refused by name."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.handlers import condition, scale
from numpyro.infer import HMC, HMCECS, MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoDelta, AutoNormal

from aimz_lab import ImpactModel
from aimz_lab.errors import FitWarning, GuideError, KernelError

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape

N, B = 90, 30
RNG = np.random.default_rng(8)
X = RNG.normal(size=N).astype(np.float32)
Y = (2 + RNG.normal(size=N)).astype(np.float32)


def fitted(kernel, guide=None, **options):
    """One epoch of batches."""
    svi = SVI(kernel, guide or AutoDelta(kernel), numpyro.optim.Adam(0.01), Trace_ELBO())
    options = {"batch_size": B, "num_samples": 5, "progress": False, **options}
    return ImpactModel(kernel, jax.random.key(0), svi=svi).fit(X, Y, **options)


def on_all_rows(kernel, steps=5):
    """Some steps on all rows at once."""
    svi = SVI(kernel, AutoDelta(kernel), numpyro.optim.Adam(0.01), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi)
    return im.fit_on_batch(X, Y, num_steps=steps, num_samples=5, progress=False)


def chains(kernel, sampler=None):
    """A short run of chains."""
    sampler = sampler or HMC(kernel, trajectory_length=1.5)
    mcmc = MCMC(sampler, num_warmup=200, num_samples=500, progress_bar=False)
    im = ImpactModel(kernel, jax.random.key(0), inference=mcmc)
    return im.fit_on_batch(X, Y, progress=False)


def scaled(factor):
    """A kernel whose rows have the scale that a function of the batch returns."""

    def kernel(X, y=None):
        a = numpyro.sample("a", dist.Normal(0, 5))
        with numpyro.plate("row", X.shape[0]), scale(scale=factor(X)):
            numpyro.sample("y", dist.Normal(a, 1.0), obs=y)

    return kernel


@pytest.mark.slow
@pytest.mark.parametrize(
    "factor",
    [
        lambda X: X.shape[0] ** 0.5,
        lambda X: X.shape[0] / N,
        lambda X: (N + B) // X.shape[0],
        lambda X: 1 / (1 + (X**2).mean()),
        lambda X: jnp.abs(X) / jnp.abs(X).mean(),
    ],
    ids=["square root", "grows", "rounded", "statistic", "normalised weights"],
)
def test_a_scale_that_would_be_another_on_all_rows_is_refused(factor):
    with pytest.raises(KernelError, match="site 'y'.* depends on the rows (of|beside)"):
        fitted(scaled(factor))


@pytest.mark.slow
def test_it_trains_as_it_is_written_and_on_all_rows():
    kernel = scaled(lambda X: jnp.abs(X) / jnp.abs(X).mean())
    assert fitted(kernel, scale="none", rows="independent").last_run.step == N // B
    assert fitted(kernel, batch_size=N).last_run.step == 1


def test_a_prior_that_is_weighed_by_the_batch_is_refused():
    def kernel(X, y=None):
        with scale(scale=X.shape[0] / N):
            a = numpyro.sample("a", dist.Normal(0, 5))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(a, 1.0), obs=y)

    with pytest.raises(KernelError, match="scale of the site 'a'"):
        fitted(kernel)


def test_a_constant_argument_that_is_n_over_b_is_named():
    def kernel(X, strength, y=None):
        a = numpyro.sample("a", dist.Normal(0, 5))
        with numpyro.plate("row", X.shape[0]), scale(scale=strength[0]):
            numpyro.sample("y", dist.Normal(a, 1.0), obs=y)

    with pytest.warns(FitWarning, match="site 'y' is the constant 3, and N / B is 3"):
        fitted(kernel, strength=np.float32([3.0, 1.0]))


def rows_of(size, subsample_size=None, *, uses_indices=False):
    """A kernel with a plate of fixed size."""

    def kernel(X, y=None):
        a = numpyro.sample("a", dist.Normal(0, 5))
        taken = X.shape[0] if subsample_size is None else subsample_size
        with numpyro.plate("row", size, subsample_size=taken) as i:
            level = jnp.arange(float(size))[i] if uses_indices else 0.0
            numpyro.sample("y", dist.Normal(a + level, 1.0), obs=y)

    return kernel


@pytest.mark.parametrize("train", [fitted, on_all_rows, chains])
def test_a_plate_with_fewer_entries_than_rows_is_refused(train):
    with pytest.raises(KernelError, match="plate 'row' has size=60, but the data has 90 rows"):
        train(rows_of(60))


def test_a_plate_of_one_batch_is_refused_for_more_rows():
    with pytest.raises(KernelError, match="plate 'row' has size=30, but the data has 90 rows"):
        fitted(rows_of(B, B))


def test_a_plate_that_takes_another_number_than_a_batch_has_is_refused():
    with pytest.raises(KernelError, match="takes 20 rows, but .* is given 30.*batch_size=20"):
        fitted(rows_of(N, 20))


@pytest.mark.slow
def test_random_indices_that_are_not_the_batch_are_refused_where_they_are_used():
    with pytest.raises(KernelError, match="90, and the kernel or the guide uses their indices"):
        fitted(rows_of(N, uses_indices=True))
    assert on_all_rows(rows_of(N, uses_indices=True)).last_run.step == 5


def local(X, y=None):
    a = numpyro.sample("a", dist.Normal(0, 5))
    with numpyro.plate("row", N, subsample_size=X.shape[0]):
        z = numpyro.sample("z", dist.Normal(a, 1.0))
        numpyro.sample("y", dist.Normal(z, 1.0), obs=y)


def guide_by_index(X, y=None):
    numpyro.sample("a", dist.Delta(numpyro.param("a_at", 0.0)))
    at = numpyro.param("z_at", jnp.zeros(N))
    with numpyro.plate("row", N, subsample_size=X.shape[0]) as i:
        numpyro.sample("z", dist.Normal(at[i], 1.0))


def test_a_guide_by_random_indices_is_refused():
    with pytest.raises(KernelError, match="the guide uses their indices"):
        fitted(local, guide=guide_by_index)
    plates = {"create_plates": lambda X, y=None: numpyro.plate("row", N, subsample_size=X.shape[0])}
    with pytest.raises(GuideError, match="one value per row for 'z'"):
        fitted(local, guide=AutoNormal(local, **plates))


def own_subsample(X, y=None):
    a = numpyro.sample("a", dist.Normal(0, 5))
    with numpyro.plate("row", X.shape[0], subsample_size=20) as i:
        y = None if y is None else jnp.asarray(y)[i]
        numpyro.sample("y", dist.Normal(a, 1.0), obs=y)


def test_chains_refuse_a_subsample_that_would_stand_for_all_rows():
    with pytest.raises(KernelError, match="takes 20 of 90 entries; chains need all of them"):
        chains(own_subsample)


@pytest.mark.slow
def test_a_sampler_for_subsamples_takes_them():
    im = chains(own_subsample, HMCECS(NUTS(own_subsample), num_blocks=4))
    assert im.posterior["a"].shape == (500,)


@pytest.mark.slow
def test_steps_on_all_rows_leave_the_subsample_to_numpyro():
    losses = on_all_rows(own_subsample, steps=50).last_run.losses
    assert len(np.unique(losses)) > 40  # another 20 rows each time


def improper(X, y=None):
    a = numpyro.sample("a", dist.ImproperUniform(dist.constraints.real, (), ()))
    sd = numpyro.sample("sd", dist.ImproperUniform(dist.constraints.positive, (), ()))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(a, sd), obs=y)


@pytest.mark.slow
def test_priors_without_a_sampler_are_trained_by_chains_and_predict():
    im = chains(improper)
    # Flat in a and sd: Student's t with N - 2 degrees of freedom (Gelman et al. 2013, sec. 3.2).
    draws = np.asarray(im.posterior["a"])
    np.testing.assert_allclose(draws.mean(), Y.mean(), atol=0.03)
    np.testing.assert_allclose(draws.std(), Y.std() / np.sqrt(N - 4), rtol=0.15)
    predicted = im.predict_on_batch(X[:7], return_datatree=False)["y"]
    np.testing.assert_allclose(predicted.mean(), Y.mean(), atol=0.1)


@pytest.mark.slow
def test_priors_without_a_sampler_are_trained_by_svi_and_predict():
    im = fitted(improper, epochs=600, guide=AutoNormal(improper), num_samples=500)
    np.testing.assert_allclose(im.posterior["a"].mean(), Y.mean(), atol=0.1)
    np.testing.assert_allclose(im.posterior["sd"].mean(), Y.std(), atol=0.15)
    predicted = im.predict(X[:7], progress=False)["posterior_predictive"]["y"]
    np.testing.assert_allclose(float(predicted.mean()), Y.mean(), atol=0.2)


def computed(X, y=None):
    a = numpyro.sample("a", dist.Normal(0, 5))
    with numpyro.plate("row", X.shape[0]):
        numpyro.deterministic("y", a + X)


def observed_by_another_name(X, y=None):
    a = numpyro.sample("a", dist.Normal(0, 5))
    with numpyro.plate("row", X.shape[0]):
        numpyro.deterministic("y", a + X)
        numpyro.sample("y_observed", dist.Normal(a, 1.0), obs=y)


def drawn(X, y=None):
    a = numpyro.sample("a", dist.Normal(0, 5))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(a, 1.0))


def another_array(X, y=None):
    a = numpyro.sample("a", dist.Normal(0, 5))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(a, 1.0), obs=X)


def only_recorded(X, y=None):
    a = numpyro.sample("a", dist.Normal(0, 5))
    with numpyro.plate("row", X.shape[0]):
        numpyro.deterministic("y", X if y is None else y)
        numpyro.factor("likelihood", dist.Normal(a, 1.0).log_prob(X))


@pytest.mark.parametrize("train", [fitted, on_all_rows, chains])
@pytest.mark.parametrize(
    ("kernel", "what"),
    [
        (computed, "is computed"),
        (observed_by_another_name, "is computed"),
        (drawn, "The kernel draws its output site"),
        (another_array, "does not follow from the argument y"),
        (condition(drawn, data={"y": Y[:B]}), "does not follow from the argument y"),
        (only_recorded, "records y"),
    ],
    ids=["computed", "other name", "drawn", "another array", "conditioned", "only recorded"],
)
def test_an_output_that_is_not_observed_is_refused(kernel, what, train):
    with pytest.raises(KernelError, match=rf"{what}.*obs=y\)"):
        train(kernel)
