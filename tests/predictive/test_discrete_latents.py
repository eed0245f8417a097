"""Log-likelihoods of kernels with discrete latent sites, against their closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers, plate, sample
from numpyro.contrib.control_flow import scan
from scipy import stats
from scipy.special import logsumexp

from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel
from aimz_lab.errors import KernelError, SiteError
from tests.runs import mean_field

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's Categorical needs it

RNG = np.random.default_rng(11)
N = 300
X = RNG.normal(size=N).astype(np.float32)
Y = RNG.normal(scale=2.0, size=N).astype(np.float32)
MEANS = np.float32([[-2, 0, 3], [-1, 0.5, 2], [0, 1, 4]])
PROBS = np.float32([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [1 / 3, 1 / 3, 1 / 3]])


def log_likelihood(kernel, y=Y, x=X, draws=None, **options):
    draws = {"m": MEANS, "p": PROBS} if draws is None else draws
    im = ImpactModel(kernel, jax.random.key(0), mean_field(kernel)).set_posterior_sample(draws)
    tree = im.log_likelihood(x, y, progress=False, store="memory", **options)
    return tree["log_likelihood"]


def by_draw(kernel, y=Y, x=X, **options):
    return log_likelihood(kernel, y, x, **options)["y"].values[0]


def shared_sites():
    means = sample("m", dist.Normal(0, 5).expand([3]).to_event(1))
    return means, sample("p", dist.Dirichlet(jnp.ones(3)))


def closed_form(y=Y, sd=1.0):
    """Log densities of a mixture of three normals, (draw, row)."""
    parts = stats.norm.logpdf(y[None, :, None], MEANS[:, None, :], sd)
    return logsumexp(parts + np.log(PROBS)[:, None, :], axis=-1)


def mixture(X, y=None):
    means, probs = shared_sites()
    with plate("row", X.shape[0]):
        z = sample("z", dist.Categorical(probs))
        sample("y", dist.Normal(means[z], 1.0), obs=y)


def annotated(X, y=None):
    means, probs = shared_sites()
    with plate("row", X.shape[0]):
        z = sample("z", dist.Categorical(probs), infer={"enumerate": "parallel"})
        sample("y", dist.Normal(means[z], 1.0), obs=y)


def without_a_plate(X, y=None):
    means, probs = shared_sites()
    z = sample("z", dist.Categorical(jnp.broadcast_to(probs, (X.shape[0], 3))))
    sample("y", dist.Normal(means[z], 1.0), obs=y)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [mixture, annotated, without_a_plate])
@pytest.mark.parametrize("axis", ["obs", "draw"])
def test_a_mixture_has_the_density_of_its_closed_form(kernel, axis):
    np.testing.assert_allclose(by_draw(kernel, shard_axis=axis), closed_form(), rtol=1e-5)


@pytest.mark.slow
def test_scores_are_those_of_the_summed_density():
    draws = {"m": np.repeat(MEANS, 20, 0), "p": np.repeat(PROBS, 20, 0)}
    draws["m"] = draws["m"] + RNG.normal(scale=0.05, size=draws["m"].shape).astype(np.float32)
    kept = by_draw(mixture, draws=draws)
    scores = log_likelihood(mixture, draws=draws, reduce=["lppd", "loo"])
    lppd = logsumexp(kept.astype(float), axis=0) - np.log(60)
    np.testing.assert_allclose(scores["y_lppd"], lppd, rtol=1e-5)
    assert (scores["y_loo"].sel(loo="elpd_loo") <= lppd + 1e-4).all()


def test_batches_of_a_loader_have_the_same_density():
    loader = ArrayLoader(ArrayDataset(X=X, y=Y), rng_key=jax.random.key(1), batch_size=70)
    np.testing.assert_allclose(by_draw(mixture, None, loader), closed_form(), rtol=1e-5)


def test_draws_of_the_latent_site_are_taken_as_they_are():
    z = RNG.integers(0, 3, size=(3, N))
    got = by_draw(mixture, draws={"m": MEANS, "p": PROBS, "z": z}, shard_axis="draw")
    given = stats.norm.logpdf(Y, np.take_along_axis(MEANS, z, axis=1))
    np.testing.assert_allclose(got, given, rtol=1e-4, atol=1e-5)


def test_predictions_draw_the_latent_site_of_new_rows():
    im = ImpactModel(mixture, jax.random.key(0), mean_field(mixture))
    im.set_posterior_sample({"m": MEANS[:1].repeat(2000, 0), "p": PROBS[:1].repeat(2000, 0)})
    z = im.predict(X[:5], return_sites=["z", "y"], progress=False, store="memory")
    shares = [(z["posterior_predictive"]["z"].values == k).mean() for k in range(3)]
    np.testing.assert_allclose(shares, PROBS[0], atol=0.02)
    y = z["posterior_predictive"]["y"].values
    np.testing.assert_allclose(y.mean(), MEANS[0] @ PROBS[0], atol=0.1)


@pytest.mark.slow
def test_a_single_row():
    got = by_draw(mixture, Y[:1], X[:1])
    np.testing.assert_allclose(got, closed_form()[:, :1], rtol=1e-5)


@pytest.mark.slow
def test_nested_latent_sites_of_a_row():
    def kernel(X, y=None):
        means, probs = shared_sites()
        with plate("row", X.shape[0]):
            a = sample("a", dist.Bernoulli(logits=X))
            z = sample("z", dist.Categorical(jnp.where(a[:, None] == 1, probs, probs[::-1])))
            sample("y", dist.Normal(means[z] + a, 1.0), obs=y)

    share = 1 / (1 + np.exp(-X))
    total = []
    for means, probs in zip(MEANS, PROBS, strict=True):
        yes = stats.norm.pdf(Y[:, None], means + 1) @ probs
        no = stats.norm.pdf(Y[:, None], means) @ probs[::-1]
        total.append(np.log(share * yes + (1 - share) * no))
    np.testing.assert_allclose(by_draw(kernel), total, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["plate", "event"])
def test_several_entries_of_a_row(how):
    def kernel(X, y=None):
        means, probs = shared_sites()
        with plate("row", X.shape[0], dim=-2 if how == "plate" else -1):
            if how == "plate":
                with plate("k", 2, dim=-1):
                    z = sample("z", dist.Bernoulli(probs[:2]))
                loc = means[0] + z @ jnp.array([1.0, 2.0])
                sample("y", dist.Normal(loc[:, None], 1.0), obs=None if y is None else y)
            else:
                z = sample("z", dist.Bernoulli(probs[:2]).to_event(1))
                loc = means[0] + z @ jnp.array([1.0, 2.0])
                sample("y", dist.Normal(loc, 1.0), obs=y)

    y = Y[:, None] if how == "plate" else Y
    total = []
    for means, probs in zip(MEANS, PROBS, strict=True):
        density = 0.0
        for one in (0, 1):
            for two in (0, 1):
                share = np.prod(
                    [p if v else 1 - p for v, p in zip((one, two), probs, strict=False)]
                )
                density += share * stats.norm.pdf(Y, means[0] + one + 2 * two)
        total.append(np.log(density))
    np.testing.assert_allclose(by_draw(kernel, y).reshape(3, N), total, rtol=1e-4, atol=1e-5)


def test_each_entry_of_the_output_has_its_own_latent():
    def kernel(X, y=None):
        means, probs = shared_sites()
        with plate("row", X.shape[0], dim=-2), plate("out", 30, dim=-1):
            z = sample("z", dist.Categorical(probs))
            sample("y", dist.Normal(means[z], 1.0), obs=y)

    y = RNG.normal(size=(N, 30)).astype(np.float32)
    expected = closed_form(y.ravel()).reshape(3, N, 30)
    np.testing.assert_allclose(by_draw(kernel, y), expected, rtol=1e-4, atol=1e-5)


def test_an_output_of_two_values_has_one_density():
    def kernel(X, y=None):
        means, probs = shared_sites()
        with plate("row", X.shape[0]):
            z = sample("z", dist.Categorical(probs))
            sample("y", dist.Normal(means[z][:, None] + jnp.zeros(2), 1.0).to_event(1), obs=y)

    y = np.stack([Y, Y[::-1]], axis=1)
    parts = stats.norm.logpdf(y[None, :, None], MEANS[:, None, :, None], 1.0).sum(-1)
    expected = logsumexp(parts + np.log(PROBS)[:, None, :], axis=-1)
    np.testing.assert_allclose(by_draw(kernel, y), expected, rtol=1e-4)


def test_a_count_that_was_missed():
    def kernel(X, y=None):
        _, probs = shared_sites()
        with plate("row", X.shape[0]):
            count = sample("count", dist.Binomial(4, probs[0]))
            sample("y", dist.Normal(count, 1.0), obs=y)

    values = np.arange(5)
    expected = [
        np.log(stats.norm.pdf(Y[:, None], values) @ stats.binom.pmf(values, 4, probs[0]))
        for probs in PROBS
    ]
    np.testing.assert_allclose(by_draw(kernel), expected, rtol=1e-4, atol=1e-5)


def test_masked_rows_have_no_density():
    def kernel(X, y=None):
        means, probs = shared_sites()
        with plate("row", X.shape[0]), handlers.mask(mask=X > 0):
            z = sample("z", dist.Categorical(probs))
            sample("y", dist.Normal(means[z], 1.0), obs=y)

    expected = np.where(X > 0, closed_form(), 0.0)
    np.testing.assert_allclose(by_draw(kernel), expected, rtol=1e-5, atol=1e-6)


def test_a_site_that_the_output_does_not_see_is_left_alone():
    def kernel(X, y=None):
        means, _ = shared_sites()
        sample("unused", dist.Normal(0, 1))
        with plate("row", X.shape[0]):
            sample("other", dist.Normal(means[1], 1.0))
            sample("y", dist.Normal(means[0], 1.0), obs=y)

    np.testing.assert_allclose(by_draw(kernel), stats.norm.logpdf(Y, MEANS[:, :1]), rtol=1e-4)


@pytest.mark.slow
def test_the_sum_over_rows_is_the_density_that_numpyro_enumerates():
    from numpyro.contrib.funsor import config_enumerate, enum, log_density

    enumerated = enum(config_enumerate(mixture), first_available_dim=-2)
    total, _ = log_density(enumerated, (X, Y), {}, {"m": MEANS[0], "p": PROBS[0]})
    prior, _ = log_density(shared_sites, (), {}, {"m": MEANS[0], "p": PROBS[0]})
    np.testing.assert_allclose(by_draw(mixture)[0].sum(), total - prior, rtol=1e-5)


def shared_by_rows(X, y=None):
    means, probs = shared_sites()
    z = sample("z", dist.Categorical(probs))
    with plate("row", X.shape[0]):
        sample("y", dist.Normal(means[z], 1.0), obs=y)


def of_groups(X, y=None):
    means, probs = shared_sites()
    with plate("group", 4):
        z = sample("z", dist.Categorical(probs))
    with plate("row", X.shape[0]):
        sample("y", dist.Normal(means[z[(X > 0).astype(int)]], 1.0), obs=y)


def without_an_end(X, y=None):
    means, _ = shared_sites()
    with plate("row", X.shape[0]):
        z = sample("z", dist.Poisson(2.0))
        sample("y", dist.Normal(means[0] + z, 1.0), obs=y)


def of_another_length_each(X, y=None):
    means, probs = shared_sites()
    with plate("row", X.shape[0]):
        z = sample("z", dist.Binomial((X > 0).astype(int) + 1, probs[0]))
        sample("y", dist.Normal(means[0] + z, 1.0), obs=y)


def a_chain(X, y=None):
    means, probs = shared_sites()

    def step(before, row):
        z = sample("z", dist.Categorical(jnp.where(before == 0, probs, probs[::-1])))
        return z, sample("y", dist.Normal(means[z], 1.0), obs=row)

    scan(step, 0, y, length=X.shape[0])


def a_chain_of_enumerated_states(X, y=None):
    means, probs = shared_sites()

    def step(before, row):
        probs_now = jnp.where(before == 0, probs, probs[::-1])
        z = sample("z", dist.Categorical(probs_now), infer={"enumerate": "parallel"})
        return z, sample("y", dist.Normal(means[z], 1.0), obs=row)

    scan(step, 0, y, length=X.shape[0])


def seen_by_the_next_row(X, y=None):
    means, probs = shared_sites()
    with plate("row", X.shape[0]):
        z = sample("z", dist.Categorical(probs))
        sample("y", dist.Normal(means[jnp.roll(z, 1)], 1.0), obs=y)


def one_event_of_all_rows(X, y=None):
    means, probs = shared_sites()
    z = sample("z", dist.Categorical(probs).expand([X.shape[0]]).to_event(1))
    with plate("row", X.shape[0]):
        sample("y", dist.Normal(means[z], 1.0), obs=y)


def in_a_factor(X, y=None):
    means, probs = shared_sites()
    with plate("row", X.shape[0]):
        z = sample("z", dist.Categorical(probs))
        numpyro.factor("more", 0.5 * z)
        sample("y", dist.Normal(means[z], 1.0), obs=y)


def in_other_data(X, y=None):
    means, probs = shared_sites()
    with plate("row", X.shape[0]):
        z = sample("z", dist.Categorical(probs))
        sample("w", dist.Normal(means[z], 1.0), obs=X)
        sample("y", dist.Normal(means[z], 1.0), obs=y)


def with_too_many_values(X, y=None):
    means, _ = shared_sites()
    with plate("row", X.shape[0], dim=-2), plate("k", 14, dim=-1):
        z = sample("z", dist.Bernoulli(0.5))
    with plate("row_", X.shape[0]):
        sample("y", dist.Normal(means[0] + z.sum(-1), 1.0), obs=y)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kernel",
    [
        shared_by_rows,
        of_groups,
        without_an_end,
        of_another_length_each,
        a_chain,
        a_chain_of_enumerated_states,
        seen_by_the_next_row,
        one_event_of_all_rows,
        in_a_factor,
        in_other_data,
        with_too_many_values,
    ],
)
@pytest.mark.parametrize("axis", ["obs", "draw"])
def test_what_has_no_sum_row_by_row_is_refused_by_name(kernel, axis):
    with pytest.raises(KernelError, match="'z'"):
        log_likelihood(kernel, shard_axis=axis)


def test_entries_of_a_row_that_share_a_latent_are_refused():
    def kernel(X, y=None):
        means, probs = shared_sites()
        with plate("row", X.shape[0], dim=-2):
            z = sample("z", dist.Categorical(probs))
            with plate("out", 2, dim=-1):
                sample("y", dist.Normal(means[z], 1.0), obs=y)

    with pytest.raises(KernelError, match=r"share.*'z'.*to_event"):
        log_likelihood(kernel, np.stack([Y, Y], axis=1))


@pytest.mark.parametrize("by_row", [True, False])
def test_a_continuous_site_without_draws_is_refused_by_name(by_row):
    def kernel(X, y=None):
        means, _ = shared_sites()
        with plate("row", X.shape[0] if by_row else 1):
            u = sample("u", dist.Normal(0, 1))
        with plate("row_", X.shape[0]):
            sample("y", dist.Normal(means[0] + u, 1.0), obs=y)

    with pytest.raises(SiteError, match="'u'.*no draws"):
        log_likelihood(kernel)
