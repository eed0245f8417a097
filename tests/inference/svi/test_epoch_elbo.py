"""An epoch of minibatches has NumPyro's mean loss of all rows, at the same parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.handlers import mask, scale
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoDelta

from aimz_lab import ImpactModel
from aimz_lab.errors import FitWarning
from tests.runs import STILL

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's densities of pairs

N, B = 50, 20
RNG = np.random.default_rng(4)
X = RNG.normal(size=N).astype(np.float32)
Y = (1.0 + 0.5 * X + RNG.normal(size=N)).astype(np.float32)
PAIRS = np.stack([Y, 2 * Y + 1], axis=1)
WEIGHTS = np.linspace(0.2, 3.0, N).astype(np.float32)


def mean_of(X):
    """Mean of a row, from an intercept and a slope."""
    return numpyro.sample("a", dist.Normal(0, 2)) + numpyro.sample("b", dist.Normal(0, 2)) * X


def plain(X, y=None):
    mean = mean_of(X)
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def intercept(X, y=None):
    numpyro.sample("y", dist.Normal(numpyro.sample("a", dist.Normal(0, 2)), 1.0), obs=y)


def two_intercepts(X, y=None):
    numpyro.sample("y", dist.Normal(numpyro.sample("a", dist.Normal(jnp.zeros(2), 2)), 1), obs=y)


def one_event_of_two(X, y=None):
    a = numpyro.sample("a", dist.Normal(jnp.zeros(2), 2).to_event(1))
    numpyro.sample("y", dist.Normal(a, 1).to_event(1), obs=y)


def factor_by_row(X, y=None):
    mean = mean_of(X)
    with numpyro.plate("row", X.shape[0]):
        if y is None:
            numpyro.sample("y", dist.Normal(mean, 1.0))
        else:
            numpyro.deterministic("y", y)
            numpyro.factor("likelihood", dist.Normal(mean, 1.0).log_prob(y))


def transformed_output(X, y=None):
    mean = mean_of(X)
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=None if y is None else jnp.tanh(y))


def improper(X, y=None):
    a = numpyro.sample("a", dist.ImproperUniform(dist.constraints.positive, (), ()))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(a, 1.0), obs=y)


def weighted(*weights):
    """A kernel with constant weights of the user's, one in the other."""

    def kernel(X, y=None):
        mean = mean_of(X)
        with numpyro.plate("row", X.shape[0]):
            if len(weights) == 1:
                with scale(scale=weights[0]):
                    numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)
            else:
                with scale(scale=weights[0]), scale(scale=weights[1]):
                    numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    return kernel


def weight_on_one_of_two(X, w, y=None):
    mean = mean_of(X)
    with numpyro.plate("row", X.shape[0]):
        with scale(scale=3.0):
            numpyro.sample("w", dist.Normal(mean, 2.0), obs=w)
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def weights_by_row(X, w, y=None):
    mean = mean_of(X)
    with numpyro.plate("row", X.shape[0]), scale(scale=w):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def weights_by_row_of_intercept(X, w, y=None):
    a = numpyro.sample("a", dist.Normal(0, 2))
    with scale(scale=w):
        numpyro.sample("y", dist.Normal(a, 1.0), obs=y)


def masked(X, w, y=None):
    mean = mean_of(X)
    with numpyro.plate("row", X.shape[0]), mask(mask=w > 1):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def constant_by_argument(X, strength, y=None):
    mean = mean_of(X)
    with numpyro.plate("row", X.shape[0]), scale(scale=strength[0]):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def plate_of_all(X, y=None):
    mean = mean_of(X)
    with numpyro.plate("row", N, subsample_size=X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def plate_of_all_and_weight(X, y=None):
    mean = mean_of(X)
    with numpyro.plate("row", N, subsample_size=X.shape[0]), scale(scale=2.0):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def factor_by_hand(X, y=None):
    mean = mean_of(X)
    with numpyro.plate("row", X.shape[0]), scale(scale=2 * N / X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def factor_by_hand_and_weights(X, w, y=None):
    mean = mean_of(X)
    with numpyro.plate("row", X.shape[0]), scale(scale=w * (N / X.shape[0])):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def mean_density(X, y=None):
    mean = mean_of(X)
    with numpyro.plate("row", X.shape[0]), scale(scale=1 / X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def own_indices(X, y=None):
    a, b = numpyro.sample("a", dist.Normal(0, 2)), numpyro.sample("b", dist.Normal(0, 2))
    with numpyro.plate("row", X.shape[0], subsample_size=7) as i:
        numpyro.sample("y", dist.Normal(a + b * X[i], 1.0), obs=None if y is None else y[i])


def own_half(X, y=None):
    a, b = numpyro.sample("a", dist.Normal(0, 2)), numpyro.sample("b", dist.Normal(0, 2))
    with numpyro.plate("row", X.shape[0], subsample_size=X.shape[0] // 2):
        X, y = (None if v is None else numpyro.subsample(v, event_dim=0) for v in (X, y))
        numpyro.sample("y", dist.Normal(a + b * X, 1.0), obs=y)


def own_size_is_all(X, y=None):
    mean = mean_of(X)
    with numpyro.plate("row", X.shape[0], subsample_size=X.shape[0]) as i:
        numpyro.sample("y", dist.Normal(mean[i], 1.0), obs=None if y is None else y[i])


def plate_for_this_batch_size(X, y=None):
    a = numpyro.sample("a", dist.Normal(0, 2))
    with numpyro.plate("row", N, subsample_size=B):
        numpyro.sample("y", dist.Normal(a, 1.0), obs=y)


def nested_plates(X, y=None):
    mean = mean_of(X)
    with numpyro.plate("copy", 2, dim=-1), numpyro.plate("row", X.shape[0], dim=-2):
        numpyro.sample("y", dist.Normal(mean[:, None], 1.0), obs=y)


class Case:
    """A kernel, its data, and the kernel to which NumPyro gives all rows, if it is another."""

    def __init__(self, kernel, y=Y, on_all=None, **arguments):
        self.kernel, self.y, self.arguments = kernel, y, arguments
        self.on_all = on_all or kernel

    def __repr__(self):
        return self.kernel.__name__


CASES = [
    Case(plain),
    Case(intercept),
    Case(own_indices, on_all=plain),
    Case(two_intercepts, PAIRS),
    Case(one_event_of_two, PAIRS),
    Case(factor_by_row),
    Case(transformed_output),
    Case(improper),
    Case(weighted(2.0, 3.5)),
    Case(weighted(jnp.float32(2.0))),
    Case(weight_on_one_of_two, w=WEIGHTS),
    Case(weights_by_row, w=WEIGHTS),
    Case(weights_by_row_of_intercept, w=WEIGHTS),
    Case(masked, w=WEIGHTS),
    Case(constant_by_argument, strength=np.float32([1.5, 1.0])),
    Case(plate_of_all),
    Case(plate_of_all_and_weight),
    Case(factor_by_hand),
    Case(factor_by_hand_and_weights, w=WEIGHTS),
    Case(mean_density),
    Case(own_half, on_all=plain),
    Case(own_size_is_all),
    Case(plate_for_this_batch_size, on_all=intercept),
    Case(nested_plates, PAIRS),
]


def epochs(case, batch_size=B, orders=(False, True)):
    """Losses of an epoch in each order, and NumPyro's loss of all rows; the guide does not move."""
    guide = AutoDelta(case.kernel)
    svi = SVI(case.kernel, guide, STILL, Trace_ELBO())
    im = ImpactModel(case.kernel, jax.random.key(1), svi=svi)
    # A scale that is an array and follows the number of rows is nothing that can be proved.
    rows = "independent" if case.kernel is factor_by_hand_and_weights else "auto"
    losses = []
    for shuffle in orders:
        options = {"batch_size": batch_size, "shuffle": shuffle, "rows": rows, **case.arguments}
        im.fit(X, case.y, num_samples=1, progress=False, **options)
        losses.append(np.asarray(im.last_run.losses, np.float64))
    seeded = numpyro.handlers.seed(case.on_all, jax.random.key(0))
    on_all = Trace_ELBO().loss(
        jax.random.key(2), im.vi_result.params, seeded, guide, X=X, y=case.y, **case.arguments
    )
    return *losses, float(on_all)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_batches_stand_for_all_rows_in_either_order_with_a_short_last_one(case):
    in_order, shuffled, on_all = epochs(case)
    assert len(in_order) == 3
    np.testing.assert_allclose(in_order.mean(), on_all, rtol=2e-5)
    # With N / valid rows, the mean over all orders is that of all rows; batches by their rows too.
    np.testing.assert_allclose(np.average(shuffled, weights=[20, 20, 10]), on_all, rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 49])
def test_any_batch_size_will_do(size):
    losses, on_all = epochs(Case(plain), size, orders=[False])
    np.testing.assert_allclose(losses.mean(), on_all, rtol=2e-5)


@pytest.mark.slow
def test_a_weight_that_happens_to_be_n_over_b_is_named():
    with pytest.warns(FitWarning, match="site 'y' is the constant 2.5, and N / B is 2.5"):
        losses, on_all = epochs(Case(weighted(N / B)), orders=[False])
    np.testing.assert_allclose(losses.mean(), on_all, rtol=2e-5)
