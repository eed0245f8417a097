"""Minibatches of kernels and guides that compute across rows are refused by the site's name."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from flax import linen
from jax import lax
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.contrib.module import flax_module, random_flax_module
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoDelta, AutoNormal
from numpyro.infer.reparam import LocScaleReparam

from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel
from aimz_lab.errors import ArgumentError, FitWarning, GuideError, KernelError

N, B = 120, 30
_RNG = np.random.default_rng(7)
X = _RNG.normal(size=(N, 2)).astype(np.float32)
Y = (X[:, 0] + 0.3 * _RNG.normal(size=N)).astype(np.float32)


def model(kernel, guide=None, rate=0.05):
    """An untrained model of a kernel."""
    svi = SVI(kernel, guide or AutoNormal(kernel), optax.adam(rate), Trace_ELBO())
    return ImpactModel(kernel, jax.random.key(0), svi=svi)


def no_guide(X, y=None):
    """The guide of a kernel without latent sites."""


def regression_on(feature):
    """A kernel whose output has the mean ``b * feature(first column)``."""

    def kernel(X, y=None):
        b = numpyro.sample("b", dist.Normal(0, 1))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(b * feature(X[:, 0]), 1.0), obs=y)

    return kernel


def _carry_over(x):
    return lax.scan(lambda stock, now: (now + 0.5 * stock,) * 2, 0.0, x)[1]


def _by_sign(x):
    sign = (x > 0).astype(int)
    return jax.ops.segment_sum(x, sign, 2)[sign]


ACROSS_ROWS = {
    "lag": lambda x: jnp.concatenate([jnp.zeros(1), x[:-1]]),
    "adstock by scan": _carry_over,
    "adstock by convolution": lambda x: jnp.convolve(x, 0.5 ** jnp.arange(8.0))[: len(x)],
    "centred": lambda x: x - x.mean(),
    "share of the total": jax.nn.softmax,
    "sorted": jnp.sort,
    "a step at a row": lambda x: jnp.arange(len(x)) >= 100,
    "a stock that runs out": lambda x: jnp.cumsum(jnp.abs(x) < 9) < 110,
    "totals of groups": _by_sign,
    "another feature for all rows": lambda x: x * (2.0 if len(x) == N else 1.0),
    "a bounded number of rows": lambda x: x * min(len(x), 50),
}


def observed_mean(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(b * X[:, 0], 1.0), obs=y)
    if y is not None:
        numpyro.sample("total", dist.Normal(b, 0.1), obs=y.mean())


def scalar_penalty(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(b * X[:, 0], 1.0), obs=y)
    numpyro.factor("penalty", -((b * X[:, 1]).mean() ** 2))


def summed_factor(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(b, 100.0), obs=y)
    if y is not None:
        numpyro.factor("lp", (-0.5 * (y - b) ** 2).sum())


def factor_by_group(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(b, 1.0), obs=y)
    with numpyro.plate("groups", 2):
        sums = jax.ops.segment_sum(b * X[:, 0], (X[:, 1] > 0).astype(int), 2)
        numpyro.factor("groups_lp", sums)


def prior_of_rows(X, y=None):
    b = numpyro.sample("b", dist.Normal(X[:, 0].mean(), 1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(b, 1.0), obs=y)


def gaussian_process(X, y=None):
    length = numpyro.sample("length", dist.LogNormal(0, 1))
    distance = X[:, :1] - X[None, :, 0]
    cov = jnp.exp(-((distance / length) ** 2)) + 0.1 * jnp.eye(X.shape[0])
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(X.shape[0]), cov), obs=y)


def autoregression(X, y=None):
    a = numpyro.sample("a", dist.Normal(0, 1))
    before = jnp.zeros(1) if y is None else jnp.concatenate([jnp.zeros(1), y[:-1]])
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(a * before, 1.0), obs=y)


def scanned(X, y=None):
    a = numpyro.sample("a", dist.Normal(0, 1))

    def step(before, now):
        z = numpyro.sample("y", dist.Normal(a * before, 1.0), obs=now)
        return z, z

    scan(step, 0.0, y, length=X.shape[0])


def normalised_weights(X, y=None):
    b, weights = numpyro.sample("b", dist.Normal(0, 1)), jnp.exp(X[:, 1])
    with numpyro.plate("rows", X.shape[0]), handlers.scale(scale=weights / weights.mean()):
        numpyro.sample("y", dist.Normal(b, 1.0), obs=y)


def weight_of_rows(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", X.shape[0]), handlers.scale(scale=jnp.exp(X[:, 1]).max()):
        numpyro.sample("y", dist.Normal(b, 1.0), obs=y)


def first_row_masked(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", X.shape[0]), handlers.mask(mask=jnp.arange(X.shape[0]) > 0):
        numpyro.sample("y", dist.Normal(b, 1.0), obs=y)


def centred_by_a_parameter(X, y=None):
    slope = numpyro.param("slope", jnp.zeros(()))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * (X[:, 0] - X[:, 0].mean()), 1.0), obs=y)


class Net(linen.Module):
    """A small network, of centred rows or not."""

    centred: bool = False

    @linen.compact
    def __call__(self, rows):
        rows = rows - rows.mean(0, keepdims=True) if self.centred else rows
        return linen.Dense(1)(linen.tanh(linen.Dense(4)(rows)))[:, 0]


def centring_network(X, y=None):
    net = flax_module("net", Net(centred=True), input_shape=(1, 2))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(net(X), 1.0), obs=y)


REFUSED = [
    (observed_mean, "total"),
    (scalar_penalty, "penalty"),
    (summed_factor, "lp"),
    (factor_by_group, "groups_lp"),
    (prior_of_rows, "b"),
    (gaussian_process, "y"),
    (autoregression, "y"),
    (scanned, "y"),
    (normalised_weights, "y"),
    (weight_of_rows, "y"),
    (first_row_masked, "y"),
]


def refusal(kernel, guide=None, data=(X, Y), **options):
    """The error of a fit in batches; the model has not begun to train."""
    im = model(kernel, guide)
    with pytest.raises((KernelError, GuideError)) as caught:
        im.fit(*data, **{"batch_size": B, "progress": False} | options)
    assert im.vi_result is None
    return caught.value


@pytest.mark.slow
@pytest.mark.parametrize("name", ACROSS_ROWS)
def test_a_feature_of_several_rows_is_refused(name):
    error = refusal(regression_on(ACROSS_ROWS[name]))
    assert isinstance(error, KernelError)
    assert "across rows at the site 'y'" in str(error)
    assert "Batches of 30 of the 120 rows" in str(error)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "site"), REFUSED, ids=lambda one: getattr(one, "__name__", one))
def test_a_density_of_several_rows_is_refused_by_its_site(kernel, site):
    message = str(refusal(kernel))
    assert f"at the site {site!r}:" in message
    for way in ("fit_on_batch(X, y)", "batch_size=len(X)", 'rows="independent"'):
        assert way in message


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [centred_by_a_parameter, centring_network])
def test_parameters_that_begin_at_zero_do_not_hide_it(kernel):
    assert "at the site 'y'" in str(refusal(kernel, no_guide))


@pytest.mark.parametrize("scale", ["none", 3.0])
def test_a_scale_of_the_users_does_not_answer_the_question(scale):
    assert "across rows" in str(refusal(autoregression, scale=scale))


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [True, False])
def test_what_shows_only_late_in_a_long_data_set_is_found(shuffle):
    x = _RNG.normal(size=5000).astype(np.float32)

    def kernel(X, y=None):
        b = numpyro.sample("b", dist.Normal(0, 1))
        late = jnp.arange(X.shape[0]) >= 4950
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(b * late, 1.0), obs=y)

    assert "at the site 'y'" in str(refusal(kernel, data=(x, x), batch_size=100, shuffle=shuffle))


def test_a_dataset_and_a_loader_are_asked_as_arrays_are():
    data = ArrayDataset(X=X, y=Y)
    loader = ArrayLoader(data, jax.random.key(1), batch_size=B)
    for one in (data, loader):
        assert "Batches of 30 of the 120 rows" in str(refusal(autoregression, data=(one,)))


def test_a_batch_size_beside_a_source_of_batches_is_refused():
    for one in (ArrayLoader(ArrayDataset(X=X, y=Y), jax.random.key(1), batch_size=B), batches):
        with pytest.raises(ArgumentError, match="batch_size=7 is for arrays"):
            model(autoregression).fit(one, batch_size=7, progress=False)


@pytest.mark.slow
def test_an_order_beside_a_source_of_batches_is_refused():
    loader = ArrayLoader(ArrayDataset(X=X, y=Y), jax.random.key(1), batch_size=B, shuffle=False)
    for one in (loader, batches):
        with pytest.raises(ArgumentError, match="shuffle=True is for arrays.* Leave it out"):
            model(autoregression).fit(one, shuffle=True, progress=False)
        with pytest.raises(KernelError, match=f"Batches of {B}"):  # what it is asked next
            model(autoregression).fit(one, shuffle=False, progress=False)


def batches():
    """The data as a stream."""
    for start in range(0, N, B):
        yield {"X": X[start : start + B], "y": Y[start : start + B]}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"n_obs": N}], ids=["unknown length", "known length"])
def test_a_stream_needs_a_proof_or_the_users_word(options):
    message = str(refusal(autoregression, data=(batches,), batch_size=None, **options))
    assert "Nothing proves" in message
    assert "at the site 'y'" in message
    assert "Pass arrays" in message
    said = {"n_obs": N, "rows": "independent", "progress": False}
    assert model(autoregression).fit(batches, **said).last_run.step == 4


def test_part_of_the_rows_needs_a_proof_too():
    assert "Pass arrays" in str(refusal(autoregression, n_obs=10 * N, batch_size=N))


@pytest.mark.slow
def test_the_users_word_is_taken_and_checked():
    options = {"batch_size": B, "progress": False}
    assert model(autoregression).fit(X, Y, rows="independent", **options).last_run.step == 4
    with pytest.raises(ArgumentError, match="rows='dependent'"):
        model(autoregression).fit(X, Y, rows="dependent", **options)


@pytest.mark.slow
def test_the_default_batch_size_changes_nothing_without_a_word():
    n = 1500
    x = np.zeros(n, np.float32)
    y = _RNG.normal(size=n).astype(np.float32)
    with pytest.warns(FitWarning, match="across rows at the site 'y'.*all 1,500 rows") as caught:
        run = model(autoregression).fit(x, y, epochs=3, progress=False).last_run
    assert caught[0].filename == __file__
    assert (run.info.batch_size, run.step) == (n, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(autoregression).fit(x, y, batch_size=n, progress=False)


@pytest.mark.slow
def test_all_rows_at_once_are_not_asked_and_give_the_right_posterior():
    rng, n, a = np.random.default_rng(3), 400, 0.9
    y = np.zeros(n, np.float32)
    for i in range(1, n):
        y[i] = a * y[i - 1] + rng.normal()
    im = model(autoregression, rate=optax.exponential_decay(0.05, 250, 0.5))
    im.fit_on_batch(np.zeros(n, np.float32), y, num_steps=2000, progress=False)
    before = np.concatenate([[0], y[:-1]])
    precision = 1 + before @ before
    draws = np.asarray(im.posterior["a"])
    np.testing.assert_allclose(draws.mean(), before @ y / precision, atol=0.01)
    np.testing.assert_allclose(draws.std(), precision**-0.5, rtol=0.15)
    assert abs(draws.mean() - a) < 0.06


def centred(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(b * (X[:, 0] - X[:, 0].mean()), 1.0), obs=y)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "told"),
    [
        (centred, "across rows at 'y', such as a mean of 'X'"),
        (gaussian_process, "is one draw over"),
    ],
)
def test_held_out_rows_are_told_of_what_they_are_by_themselves(kernel, told):
    options = {"batch_size": N, "epochs": 1, "progress": False}
    with pytest.warns(FitWarning, match=told):
        model(kernel).fit(X, Y, validation=(X[:20] + 1, Y[:20]), **options)


@pytest.mark.slow
def test_a_batch_of_an_unknown_number_of_rows_tells_of_its_own_mean():
    told = r"computes across rows at 'y', such as a mean of 'X' .* and each minibatch, get other"
    unscaled = pytest.warns(FitWarning, match="Nobody told how many rows")
    with pytest.warns(FitWarning, match=told), unscaled:
        model(centred).train_on_batch(X[:B], Y[:B])
    with unscaled:
        model(autoregression).train_on_batch(X[:B], Y[:B])
    model(centred).train_on_batch(X, Y, n_obs=N)
    model(centred).train_on_batch(X[:B], Y[:B], n_obs=N, rows="independent")


@pytest.mark.slow
def test_a_hand_written_loop_is_asked_once_the_number_of_rows_is_known():
    im = model(autoregression)
    with pytest.raises(KernelError, match="Nothing proves.*at the site 'y'"):
        im.train_on_batch(X[:B], Y[:B], n_obs=N)
    im.train_on_batch(X, Y, n_obs=N)
    im.train_on_batch(X[:B], Y[:B], n_obs=N, rows="independent")
    im = model(row_factor)
    im.train_on_batch(X[:B], Y[:B], n_obs=N)
    with pytest.raises(ArgumentError, match="rows='no'"):
        im.train_on_batch(X[:B], Y[:B], n_obs=N, rows="no")


def local_scale(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", X.shape[0]):
        z = numpyro.sample("z", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(b + z + X[:, 0], 1.0), obs=y)


def amortised(encode):
    """A guide that computes the local latent from its row by ``encode``."""

    def guide(X, y=None):
        loc = numpyro.param("b_loc", 0.0)
        numpyro.sample("b", dist.Normal(loc, 0.1))
        weight = numpyro.param("weight", jnp.zeros(()))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("z", dist.Normal(weight * encode(X[:, 0]), 1.0))

    return guide


@pytest.mark.slow
def test_an_amortised_guide_trains_and_one_that_reads_other_rows_does_not():
    options = {"batch_size": B, "progress": False}
    assert model(local_scale, amortised(jnp.sin)).fit(X, Y, **options).last_run.step == 4
    error = refusal(local_scale, amortised(lambda x: x - x.mean()))
    assert isinstance(error, GuideError)
    assert "The guide computes across rows at the site 'z'" in str(error)


@pytest.mark.slow
def test_a_short_last_batch_that_is_not_padded_is_asked_too():
    def kernel(X, y=None):
        twice = 2.0 if X.shape[0] == 1 else 1.0
        b = numpyro.sample("b", dist.Normal(0, 1))
        z = numpyro.sample("z", dist.Normal(jnp.zeros(X.shape[0]), 1.0).to_event(1))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(b + twice * z, 1.0), obs=y)

    def guide(X, y=None):
        numpyro.sample("b", dist.Normal(numpyro.param("loc", 0.0), 0.1))
        numpyro.sample("z", dist.Normal(X[:, 0], 1.0).to_event(1))

    assert "at the site 'y'" in str(refusal(kernel, guide, data=(X[:91], Y[:91])))
    assert model(kernel, guide).fit(X, Y, batch_size=B, progress=False).last_run.step == 4


def row_factor(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    numpyro.factor("penalty", -(b**2))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(b * X[:, 0], 1.0), obs=y)
        numpyro.factor("by_row", -((b * X[:, 1]) ** 2))


def groups_without_a_centre(X, y=None):
    mean = numpyro.sample("mean", dist.Normal(0, 1))
    with handlers.reparam(config={"group": LocScaleReparam(0)}), numpyro.plate("groups", 2):
        group = numpyro.sample("group", dist.Normal(mean, 1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(group[(X[:, 1] > 0).astype(int)], 1.0), obs=y)


def one_event_of_rows(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(b * X[:, 0], 1.0).to_event(1), obs=y)


def several_outputs(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    sd = numpyro.sample("sd", dist.HalfNormal(1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(b * X[:, 0], 1.0), obs=y)
        numpyro.sample(
            "X", dist.MultivariateNormal(jnp.zeros(2), scale_tril=sd * jnp.eye(2)), obs=X
        )


def random_network(X, y=None):
    net = random_flax_module("net", Net(), dist.Normal(0, 1), input_shape=(1, 2))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(net(X), 1.0), obs=y)


def network(X, y=None):
    net, sd = flax_module("net", Net(), input_shape=(1, 2)), numpyro.param("sd", 1.0)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(net(X), sd), obs=y)


def parameter_begun_at_a_mean(X, y=None):
    slope = numpyro.param("slope", X[:, 0].mean())
    numpyro.deterministic("mean", X.mean())
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[:, 0], 1.0), obs=y)


def mapped_row_by_row(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    mean = lax.map(lambda row: b * row[0], X)  # a scan over rows, which only a test can clear
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


ALLOWED = [
    row_factor,
    groups_without_a_centre,
    one_event_of_rows,
    several_outputs,
    random_network,
    network,
    parameter_begun_at_a_mean,
    mapped_row_by_row,
]


@pytest.mark.slow
@pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape
@pytest.mark.parametrize("kernel", ALLOWED, ids=lambda kernel: kernel.__name__)
def test_kernels_that_treat_each_row_by_itself_train_without_a_word(kernel):
    without_sites = kernel in (network, parameter_begun_at_a_mean)
    guide = no_guide if without_sites else AutoDelta(kernel)  # compiles in half the time
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options = {"batch_size": B, "num_samples": 5, "progress": False}
        assert model(kernel, guide).fit(X, Y, **options).last_run.step == 4


@pytest.mark.slow
def test_held_out_rows_that_may_not_be_cut_are_evaluated_at_once():
    held_out = _RNG.normal(size=4500).astype(np.float32).cumsum()
    im = model(autoregression, AutoDelta(autoregression), rate=0.0)
    options = {"batch_size": N, "num_samples": 1, "progress": False}
    im.fit(np.zeros(N, np.float32), Y, validation=(0 * held_out, held_out), **options)
    [(_, loss)] = im.last_run.validation
    a = float(im.vi_result.params["a_auto_loc"])
    rest = held_out - a * np.concatenate([[0], held_out[:-1]])
    likelihood = (0.5 * rest**2 + 0.5 * np.log(2 * np.pi)).mean()
    prior = 0.5 * a**2 + 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(loss, likelihood + prior / N, rtol=1e-5)
