"""Predictions equal those of NumPyro on all rows, whatever a kernel does across rows."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import Predictive
from numpyro.infer.util import log_likelihood

from aimz_lab import ImpactModel
from aimz_lab.errors import ArgumentError, DataError, DataTypeError, KernelError, PerformanceWarning

N = 900


def kernel_of(mean):
    def kernel(X, y=None):
        slope = numpyro.sample("slope", dist.Normal())
        with numpyro.plate("day", X.shape[0]):
            mu = numpyro.deterministic("mu", mean(X[:, 0], slope))
            numpyro.sample("y", dist.Normal(mu, 0.1), obs=y)

    return kernel


def model_of(kernel, **draws):
    draws = draws or {"slope": np.float32([0.5, -1.0, 2.0])}
    svi = numpyro.infer.SVI(
        kernel,
        numpyro.infer.autoguide.AutoNormal(kernel),
        numpyro.optim.Adam(0.1),
        numpyro.infer.Trace_ELBO(),
    )
    return ImpactModel(kernel, jax.random.key(0), svi=svi).set_posterior_sample(draws)


def inputs(n_rows, n_columns=2):
    return np.random.default_rng(3).normal(size=(n_rows, n_columns)).astype(np.float32)


def means(tree, site="mu"):
    return np.asarray(tree["posterior_predictive"][site])[0]


def on_all_rows(kernel, X, draws=None):
    draws = draws or {"slope": np.float32([0.5, -1.0, 2.0])}
    return Predictive(kernel, draws)(jax.random.key(1), X)["mu"]


def predicted(kernel, X, **options):
    options = {"return_sites": ["mu"], "store": "memory", "progress": False, **options}
    return means(model_of(kernel).predict(X, **options))


def stock(x, slope):
    return jnp.where(jnp.cumsum(jnp.abs(x)) < 620.0, slope, 0.0)


ACROSS = {
    "a step": lambda x, slope: slope * (jnp.arange(len(x)) >= 730),
    "a small ramp": lambda x, slope: x + slope * 1e-4 * jnp.arange(len(x)),
    "a lag of years": lambda x, slope: slope * jnp.concatenate([jnp.zeros(730), x])[: len(x)],
    "a stock that runs out": stock,
    "the other end": lambda x, slope: slope * x[::-1],
    "a rank": lambda x, slope: slope * jnp.argsort(jnp.argsort(x)),
    "little beside much": lambda x, slope: 1e4 + 0.2 * slope * (jnp.arange(len(x)) >= 899),
    "huge entries elsewhere": lambda x, slope: jnp.where(
        x > 2.5, 1e8, slope * (jnp.arange(len(x)) >= 899)
    ),
}


QUICK = ("a step", "a stock that runs out", "little beside much")


@pytest.mark.parametrize(
    "what",
    [what if what in QUICK else pytest.param(what, marks=pytest.mark.slow) for what in ACROSS],
)
@pytest.mark.filterwarnings("ignore:The kernel computes across rows at 'mu', such as a mean")
def test_what_is_computed_across_rows_is_computed_whole(what):
    kernel, X = kernel_of(ACROSS[what]), inputs(N)
    with pytest.warns(PerformanceWarning, match="across rows at sites? 'mu'"):
        got = predicted(kernel, X)
    np.testing.assert_allclose(got, on_all_rows(kernel, X), rtol=1e-4, atol=1e-4)


BY_NUMBER = {
    "a single row": lambda X: 2.0 if X.shape[0] == 1 else 1.0,
    "up to 100 rows": lambda X: 1.0 / min(X.shape[0], 100),
    "a square": lambda X: 3.0 if X.shape[0] == X.shape[1] else 1.0,
    "odd numbers": lambda X: 5.0 if X.shape[0] % 2 else 1.0,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "n_rows", "n_columns"),
    [
        ("a single row", 1, 2),
        ("up to 100 rows", 40, 2),
        ("up to 100 rows", 300, 2),
        ("a square", 3, 3),
        ("a square", 300, 300),
        ("a square", 300, 256),
        ("odd numbers", 301, 2),
        ("odd numbers", 255, 2),
    ],
)
def test_a_kernel_that_asks_for_the_number_of_rows_gets_that_of_the_call(what, n_rows, n_columns):
    def kernel(X, y=None):
        slope = numpyro.sample("slope", dist.Normal())
        with numpyro.plate("day", X.shape[0]):
            mu = numpyro.deterministic("mu", slope * X[:, 0] * BY_NUMBER[what](X))
            numpyro.sample("y", dist.Normal(mu, 0.1), obs=y)

    X = inputs(n_rows, n_columns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PerformanceWarning)
        got = predicted(kernel, X)
    np.testing.assert_allclose(got, on_all_rows(kernel, X), rtol=1e-5)


@pytest.mark.slow
def test_a_site_that_only_some_numbers_of_rows_have_is_returned_for_these():
    def kernel(X, y=None):
        slope = numpyro.sample("slope", dist.Normal())
        if X.shape[0] < 5:
            numpyro.deterministic("few", slope * 1.0)
        with numpyro.plate("day", X.shape[0]):
            numpyro.sample("y", dist.Normal(slope * X[:, 0], 0.1), obs=y)

    model = model_of(kernel)
    with pytest.warns(PerformanceWarning, match="other sites for another number of rows"):
        few = model.predict(inputs(3), store="memory", progress=False)
    np.testing.assert_allclose(means(few, "few"), [0.5, -1.0, 2.0])
    assert "few" not in model.predict(inputs(9), store="memory", progress=False)


def rare(x, slope):
    """Crosses in a single draw of a hundred: that with the greatest slope."""
    return jnp.where(slope > 2.9, jnp.cumsum(x), x * slope)


@pytest.mark.slow
def test_what_shows_in_one_extreme_draw_is_found():
    slopes = np.random.default_rng(0).uniform(-1, 1, size=100).astype(np.float32)
    slopes[63] = 3.0
    kernel, X = kernel_of(rare), inputs(N)
    with pytest.warns(PerformanceWarning, match="across rows"):
        tree = model_of(kernel, slope=slopes).predict(X, store="memory", progress=False)
    np.testing.assert_allclose(means(tree)[63], np.cumsum(X[:, 0]), atol=1e-3)


def step_kernel(X, y=None):
    slope = numpyro.sample("slope", dist.Normal())
    with numpyro.plate("day", X.shape[0]):
        late = jnp.arange(X.shape[0]) >= 730
        numpyro.sample("y", dist.Normal(slope * late, 1.0), obs=y)


@pytest.mark.slow
@pytest.mark.parametrize("reduce", [None, "mean"])
def test_the_effect_of_a_step_shows_where_one_scenario_takes_it(reduce):
    X = np.zeros((1095, 1), np.float32)
    arguments = {"X": X, "store": "memory", "progress": False}
    with pytest.warns(PerformanceWarning, match="across rows at site 'y'"):
        effect = model_of(step_kernel).estimate_effect(
            args_baseline={**arguments, "intervention": {"slope": 0.0}},
            args_intervention={**arguments, "intervention": {"slope": 5.0}},
            reduce=reduce,
        )["posterior_predictive"]
    values = effect["y" if reduce is None else "y_mean"].values.reshape(-1, 1095)
    np.testing.assert_allclose(values.mean(0), 5.0 * (np.arange(1095) >= 730), atol=1e-4)


def test_the_log_likelihood_of_a_step_is_that_of_numpyro():
    draws, X = {"slope": np.float32([0.5, 2.0])}, np.zeros((N, 1), np.float32)
    y = inputs(N)[:, 0]
    with pytest.warns(PerformanceWarning, match="across rows at site 'y'"):
        tree = model_of(step_kernel, **draws).log_likelihood(X, y, store="memory", progress=False)
    expected = log_likelihood(step_kernel, draws, X=X, y=y)["y"]
    np.testing.assert_allclose(tree["log_likelihood"]["y"][0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_prior_predictions_of_a_stock_are_whole():
    X = inputs(N)
    with pytest.warns(PerformanceWarning, match="across rows at sites 'mu', 'y'"):
        tree = model_of(kernel_of(stock)).sample_prior_predictive(
            X, num_samples=20, return_sites=["mu", "slope", "y"], store="memory", progress=False
        )
    group = tree["prior_predictive"]
    expected = np.where(np.cumsum(abs(X[:, 0])) < 620, group["slope"].values[0][:, None], 0)
    np.testing.assert_allclose(group["mu"].values[0], expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [5, 300])
def test_a_site_that_is_computed_from_all_drawn_rows_belongs_to_them(n_rows):
    def kernel(X, y=None):
        with numpyro.plate("day", X.shape[0]):
            numpyro.sample("y", dist.Normal(X[:, 0], 1.0), obs=y)
        z = numpyro.sample("z", dist.Normal().expand([X.shape[0]]))
        numpyro.deterministic("greatest", z.max())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PerformanceWarning)
        tree = model_of(kernel).sample_prior_predictive(
            inputs(n_rows), num_samples=30, return_sites=["z", "greatest"], progress=False
        )["prior_predictive"]
    z, greatest = tree["z"].values[0], tree["greatest"].values[0]
    np.testing.assert_allclose(greatest, z.max(axis=1), rtol=1e-6)


def test_rows_alone_are_cut_though_no_rule_proves_it():
    def host(x, slope):
        return jax.pure_callback(lambda x: np.sin(x), jax.typeof(x), x, vmap_method="sequential")

    kernel, X = kernel_of(host), inputs(N)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = model_of(kernel).predict(X, store="memory", progress=False)
    assert tree["posterior_predictive"].attrs["shard_axis"] == "obs"
    np.testing.assert_allclose(means(tree)[0], np.sin(X[:, 0]), atol=1e-5)


def test_the_user_may_say_that_rows_are_independent():
    """Which is wrong here, and shows: each block of 256 rows begins anew."""
    kernel, X = kernel_of(lambda x, slope: jnp.cumsum(jnp.ones_like(x))), inputs(N)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = predicted(kernel, X, rows="independent")
    np.testing.assert_allclose(got[0], np.arange(N) % 256 + 1)
    with pytest.raises(ArgumentError, match="rows='apart' is not known"):
        predicted(kernel, X, rows="apart")


def batches(X):
    return [{"X": part} for part in np.array_split(X, 9)]


@pytest.mark.slow
def test_rows_of_a_source_must_be_proven_or_vouched_for():
    X = inputs(N)
    kernel = kernel_of(lambda x, slope: jnp.cumsum(x))
    with pytest.raises(DataTypeError, match="across rows at sites 'mu', 'y'.*rows='independent'"):
        predicted(kernel, batches(X))
    proven = kernel_of(lambda x, slope: slope * x)
    np.testing.assert_allclose(predicted(proven, batches(X)), on_all_rows(proven, X), rtol=1e-5)
    options = {"rows": "independent", "progress": False}
    assert means(model_of(kernel).predict(batches(X), **options)).shape == (3, N)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["memory", "persistent"])
def test_a_source_whose_number_of_rows_matters_is_refused_at_its_end(store):
    kernel = kernel_of(lambda x, slope: x / min(len(x), 200))
    assert predicted(kernel, batches(inputs(N))).shape == (3, N)
    with pytest.raises(DataTypeError, match="across rows at sites 'mu', 'y'"):
        predicted(kernel, batches(inputs(90)), store=store)


@pytest.mark.slow
def test_every_method_that_cuts_rows_takes_the_users_word(recwarn):
    kernel, X = kernel_of(lambda x, slope: jnp.cumsum(jnp.ones_like(x))), inputs(300)
    model, expected = model_of(kernel), np.arange(300) % 256 + 1
    tree = model.predict(X, rows="independent", return_sites="mu", progress=False)
    batch = model.predict_on_batch(X, rows="independent", return_datatree=False)
    prior = model.sample_prior_predictive(X, rows="independent", num_samples=2, progress=False)
    of_batch = model.sample_prior_predictive_on_batch(X, rows="independent", num_samples=2)
    drawn = [one["prior_predictive"]["mu"].values[0, 0] for one in (prior, of_batch)]
    for got in (means(tree)[0], batch["mu"][0], *drawn):
        np.testing.assert_allclose(got, expected)
    scenario = {"X": X, "rows": "independent", "progress": False}
    model.estimate_effect(args_baseline=scenario, args_intervention=scenario)
    model.log_likelihood(X, X[:, 0], rows="independent", progress=False)
    assert not [one for one in recwarn if issubclass(one.category, PerformanceWarning)]


def by_index(size, subsample_size):
    def kernel(X, y=None):
        slope = numpyro.sample("slope", dist.Normal())
        plate = numpyro.plate("row", size(X), subsample_size=subsample_size(X))
        with plate as i:
            mu = numpyro.deterministic("mu", slope * X[i, 0])
            numpyro.sample("y", dist.Normal(mu, 0.1), obs=None if y is None else y[i])

    return kernel


def by_statement(X, y=None):
    slope = numpyro.sample("slope", dist.Normal())
    with numpyro.plate("row", X.shape[0], subsample_size=50):
        x = numpyro.subsample(X, event_dim=1)
        mu = numpyro.deterministic("mu", slope * x[:, 0])
        obs = None if y is None else numpyro.subsample(y, event_dim=0)
        numpyro.sample("y", dist.Normal(mu, 0.1), obs=obs)


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [200, 400])
@pytest.mark.parametrize(
    "kernel",
    [
        by_index(lambda X: X.shape[0], lambda X: 50),
        by_index(lambda X: 400, lambda X: X.shape[0]),
        by_statement,
    ],
    ids=["indices", "fixed size", "statement"],
)
@pytest.mark.filterwarnings("ignore::aimz_lab.errors.PerformanceWarning")
def test_a_plate_that_subsamples_takes_all_rows_in_their_order(kernel, n_rows):
    X = inputs(n_rows)
    expected = np.float32([[0.5], [-1.0], [2.0]]) * X[:, 0]
    np.testing.assert_allclose(predicted(kernel, X), expected, rtol=1e-5)
    y = X[:, 1]
    tree = model_of(kernel).log_likelihood(X, y, store="memory", progress=False)
    density = dist.Normal(expected, 0.1).log_prob(y)
    np.testing.assert_allclose(tree["log_likelihood"]["y"][0], density, rtol=1e-4, atol=1e-3)


@pytest.mark.filterwarnings("ignore::aimz_lab.errors.PerformanceWarning")
def test_a_plate_of_a_fixed_number_of_rows_takes_these_and_no_others():
    kernel = by_index(lambda X: 300, lambda X: 50)
    X = inputs(300)
    expected = np.float32([[0.5], [-1.0], [2.0]]) * X[:, 0]
    np.testing.assert_allclose(predicted(kernel, X), expected, rtol=1e-5)
    for n_rows in (299, 301, 50 + 1):
        with pytest.raises(KernelError, match="'row' takes 50 of 300 entries at random"):
            predicted(kernel, inputs(n_rows))


def test_rows_beyond_a_plate_of_a_fixed_size_are_refused():
    kernel = by_index(lambda X: 60, lambda X: X.shape[0])
    for shard_axis in ("obs", "draw"):
        with pytest.raises(DataError, match="'row' has 60 entries, but there are 90 rows"):
            predicted(kernel, inputs(90), shard_axis=shard_axis)
    with pytest.raises(DataError, match="60 entries, but there are 90 rows"):
        predicted(kernel, batches(inputs(90)), rows="independent")


@pytest.mark.slow
def test_what_shows_in_a_single_draw_is_found_on_few_rows():
    def kernel(X, y=None):
        t = numpyro.sample("t", dist.Normal(0, 1))
        mu = jnp.where((t > 0.01) & (t < 0.03), jnp.roll(X, 1), X)
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(numpyro.deterministic("mu", mu), 1.0), obs=y)

    X, t = np.arange(700, dtype=np.float32), np.linspace(-1, 1, 50, dtype=np.float32)
    with pytest.warns(PerformanceWarning, match="'mu'"):
        tree = model_of(kernel, t=t).predict(X, return_sites="mu", progress=False)
    np.testing.assert_array_equal(tree.posterior_predictive.mu[0, 25], np.roll(X, 1))
