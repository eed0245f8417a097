"""The loss of a batch against the same number written down with NumPy and SciPy's formulas.

Weights, masks, factors and plates of other shapes: `test_epoch_elbo`, against NumPyro's own loss.
"""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoDelta

from aimz_lab import ImpactModel
from aimz_lab.errors import ArgumentError, DataError, FitWarning
from tests import kernels
from tests.runs import STILL

N, B, K = 90, 20, 3
X, Y = kernels.regression_data(N, K, seed=3)


def log_normal(value, mean, sd):
    """Log density of a normal distribution, elementwise."""
    return -0.5 * ((value - mean) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)


def expected_loss(beta, x, y, weight):
    """Negative log joint of the regression with the rows' part multiplied by ``weight``."""
    likelihood = log_normal(y, x @ beta, kernels.NOISE_SD).sum()
    prior = log_normal(beta, 0.0, kernels.PRIOR_SD).sum()
    return -(weight * likelihood + prior)


def losses_and_points(kernel, y=Y, **options):
    """Losses of one epoch with a point guide that does not move, and where it stands."""
    svi = SVI(kernel, AutoDelta(kernel), STILL, Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(1), svi=svi)
    im.fit(X, y, shuffle=False, num_samples=1, progress=False, **options)
    return im.last_run.losses, np.asarray(im.vi_result.params["beta_auto_loc"], np.float64)


BATCHES = [slice(i, min(i + B, N)) for i in range(0, N, B)]
K_BATCHES = len(BATCHES)
"""Weight of each row in a fixed order, also of those in the short last batch."""

SCALED_FOR_YOU = [kernels.regression, kernels.regression_by_event]
SCALED_BY_HAND = [
    kernels.regression_plate_of_all,
    kernels.regression_scale_handler,
    kernels.regression_traced_scale,
]


@pytest.mark.slow
@pytest.mark.parametrize("kernel", SCALED_FOR_YOU)
def test_each_row_weighs_as_many_times_as_an_epoch_has_batches(kernel):
    losses, beta = losses_and_points(kernel, batch_size=B)
    expected = [expected_loss(beta, X[b], Y[b], K_BATCHES) for b in BATCHES]
    assert N % B != 0
    np.testing.assert_allclose(losses, expected, rtol=2e-5)


@pytest.mark.slow
def test_a_kernel_that_scales_itself_is_only_corrected_for_the_short_batch():
    kernel = kernels.regression_traced_scale
    losses, beta = losses_and_points(kernel, batch_size=B, n_total=N)
    expected = [expected_loss(beta, X[b], Y[b], K_BATCHES) for b in BATCHES]
    np.testing.assert_allclose(losses, expected, rtol=2e-5)


@pytest.mark.slow
def test_a_penalty_on_all_rows_together_stays_as_it_is():
    def kernel(X, y=None):
        beta = numpyro.sample("beta", numpyro.distributions.Normal(0, 2.0).expand([K]).to_event(1))
        numpyro.factor("penalty", -7.0 * (beta**2).sum())
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", numpyro.distributions.Normal(X @ beta, kernels.NOISE_SD), obs=y)

    losses, beta = losses_and_points(kernel, batch_size=B)
    expected = [expected_loss(beta, X[b], Y[b], K_BATCHES) + 7.0 * (beta**2).sum() for b in BATCHES]
    np.testing.assert_allclose(losses, expected, rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "weight"), [("none", 1.0), (3.5, 3.5)])
def test_scale_can_be_switched_off_or_set(scale, weight):
    losses, beta = losses_and_points(kernels.regression, batch_size=B, scale=scale)
    expected = [expected_loss(beta, X[b], Y[b], weight) for b in BATCHES]
    np.testing.assert_allclose(losses, expected, rtol=2e-5)


@pytest.mark.parametrize("scale", ["Auto", -1.0, 0, float("nan"), True, None])
def test_another_scale_is_refused(scale):
    with pytest.raises(ArgumentError, match="'auto', 'none' or a positive number"):
        losses_and_points(kernels.regression, batch_size=B, scale=scale)


@pytest.mark.slow
def test_a_stream_is_told_how_many_rows_there_are():
    svi = SVI(
        kernels.regression,
        AutoDelta(kernels.regression),
        STILL,
        Trace_ELBO(),
    )
    im = ImpactModel(kernels.regression, jax.random.key(1), svi=svi)
    batches = [{"X": X[b], "y": Y[b]} for b in BATCHES]
    im.fit(batches, n_obs=N, num_samples=1, progress=False)
    beta = np.asarray(im.vi_result.params["beta_auto_loc"], np.float64)
    expected = [expected_loss(beta, X[b], Y[b], K_BATCHES) for b in BATCHES]
    np.testing.assert_allclose(im.last_run.losses, expected, rtol=2e-5)


def fitted_to_a_stream(kernel, n_batches=K_BATCHES, **options):
    svi = SVI(kernel, AutoDelta(kernel), STILL, Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(1), svi=svi)
    batches = ({"X": X[b], "y": Y[b]} for b in BATCHES[:n_batches])
    return im.fit(batches, num_samples=1, progress=False, **options).last_run


@pytest.mark.slow
def test_a_stream_of_unknown_length_trains_the_kernel_as_written_and_says_so():
    with pytest.warns(FitWarning, match=r"how many rows the stream has.*n_obs=N") as caught:
        run = fitted_to_a_stream(kernels.regression)
    assert caught[0].filename == __file__
    quiet = fitted_to_a_stream(kernels.regression, scale="none")
    np.testing.assert_array_equal(run.losses, quiet.losses)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", SCALED_BY_HAND)
def test_a_kernel_that_scales_its_rows_needs_no_word_about_their_number(kernel):
    run = fitted_to_a_stream(kernel, K_BATCHES - 1, n_total=(K_BATCHES - 1) * B)
    assert run.step == K_BATCHES - 1


@pytest.mark.slow
def test_a_plate_that_says_another_size_than_the_data_is_warned_about():
    with pytest.warns(FitWarning, match="'obs' has size=1,000, but the data has 90 rows"):
        losses_and_points(kernels.regression_plate_of_all, batch_size=B, n_total=1000)


@pytest.mark.slow
def test_a_step_by_hand_knows_padding_and_size():
    svi = SVI(kernels.regression, AutoDelta(kernels.regression), STILL, Trace_ELBO())
    im = ImpactModel(kernels.regression, jax.random.key(1), svi=svi)
    padded = {"X": np.repeat(X[:3], 4, axis=0), "y": np.repeat(Y[:3], 4)}
    _, loss = im.train_on_batch(**padded, n_pad=2, n_obs=N)
    beta = np.asarray(im.inference.get_params(im._vi_state)["beta_auto_loc"], np.float64)
    valid = slice(0, 10)
    expected = expected_loss(beta, padded["X"][valid], padded["y"][valid], N / 10)
    np.testing.assert_allclose(loss, expected, rtol=2e-5)


def test_a_step_by_hand_that_was_told_nothing_trains_the_kernel_as_written_and_says_so_once():
    svi = SVI(kernels.regression, AutoDelta(kernels.regression), STILL, Trace_ELBO())
    im = ImpactModel(kernels.regression, jax.random.key(1), svi=svi)
    with pytest.warns(FitWarning, match="as it is written"):
        _, loss = im.train_on_batch(X[:B], Y[:B])
    im.train_on_batch(X[:B], Y[:B])
    beta = np.asarray(im.inference.get_params(im._vi_state)["beta_auto_loc"], np.float64)
    np.testing.assert_allclose(loss, expected_loss(beta, X[:B], Y[:B], 1.0), rtol=2e-5)


def test_a_step_by_hand_that_is_refused_leaves_nothing_behind():
    svi = SVI(kernels.regression, AutoDelta(kernels.regression), STILL, Trace_ELBO())
    im = ImpactModel(kernels.regression, jax.random.key(1), svi=svi)
    with pytest.raises(DataError):
        im.train_on_batch(X[:B], Y[: B - 1], n_obs=N)
    assert im.n_obs is None
    assert im._vi_state is None


def weights_of_rows(batches, kernel=kernels.regression, **options):
    """By batch of a stream, the weight that the loss gives to the density of its rows."""
    svi = SVI(kernel, AutoDelta(kernel), STILL, Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(1), svi=svi)
    im.fit(batches, num_samples=1, progress=False, **options)
    beta = np.asarray(im.vi_result.params["beta_auto_loc"], np.float64)
    read = batches() if callable(batches) else batches
    prior = expected_loss(beta, X[:0], Y[:0], 0)
    of_rows = [expected_loss(beta, batch["X"], batch["y"], 1) - prior for batch in read]
    return (np.asarray(im.last_run.losses, np.float64) - prior) / of_rows


UNEQUAL = [{"X": X[a:b], "y": Y[a:b]} for a, b in ((0, 10), (10, 70), (70, N))]
EQUAL = [{"X": X[b], "y": Y[b]} for b in BATCHES]


@pytest.mark.slow
def test_rows_of_unequal_batches_that_can_be_counted_weigh_the_same():
    np.testing.assert_allclose(weights_of_rows(UNEQUAL, n_obs=N), 3, rtol=1e-4)


@pytest.mark.slow
def test_a_list_that_is_part_of_the_data_stands_for_all_of_it():
    # Five batches a pass: 90 rows that stand for 1,000.
    with pytest.warns(FitWarning, match=r"90 rows, but n_obs is 1,000.* sample, this is right"):
        weights = weights_of_rows(EQUAL, n_obs=1000)
    np.testing.assert_allclose(weights, 5 * 1000 / 90, rtol=1e-4)


@pytest.mark.slow
def test_a_stream_whose_rows_weigh_otherwise_says_by_how_much():
    with pytest.warns(FitWarning, match=r"weighed as 270 rows, not as n_obs=90.*scale=3\."):
        weights_of_rows(lambda: iter(UNEQUAL), n_obs=N)
    np.testing.assert_allclose(weights_of_rows(lambda: iter(UNEQUAL), n_obs=N, scale=3), 3, 1e-4)


@pytest.mark.slow
def test_a_plate_of_all_rows_says_how_many_a_stream_has():
    weights = weights_of_rows(EQUAL, kernels.regression_plate_of_all, n_total=N)
    np.testing.assert_allclose(weights, K_BATCHES, rtol=1e-4)


@pytest.mark.slow
def test_a_kernel_that_scales_unequal_batches_of_unknown_number_is_warned_about():
    with pytest.warns(FitWarning, match="A batch of the stream has 10 rows and the first one 20"):
        weights_of_rows(lambda: iter(EQUAL), kernels.regression_scale_handler, n_total=N)


@pytest.mark.slow
def test_the_same_short_batch_in_a_loop_by_hand_is_warned_about_once():
    kernel = kernels.regression
    svi = SVI(kernel, AutoDelta(kernel), STILL, Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(1), svi=svi)
    for batch in EQUAL:
        im.train_on_batch(**batch, n_obs=N)
    with pytest.warns(FitWarning, match="batch of 10 rows comes again.* weighs 2 times") as caught:
        im.train_on_batch(**EQUAL[-1], n_obs=N)
    assert caught[0].filename == __file__
    im.train_on_batch(**EQUAL[-1], n_obs=N)


@pytest.mark.filterwarnings("ignore:.* rows in validation= look like rows that the model")
@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"scale": "none"}, {"scale": 7.0}])
def test_the_held_out_loss_of_the_training_rows_is_that_of_an_epoch(options):
    svi = SVI(kernels.regression, AutoDelta(kernels.regression), STILL, Trace_ELBO())
    im = ImpactModel(kernels.regression, jax.random.key(1), svi=svi)
    im.fit(
        X[:80], Y[:80], batch_size=B, shuffle=False, validation=(X[:80], Y[:80]),
        num_samples=1, progress=False, **options,
    )  # fmt: skip
    [(_, held_out)] = im.last_run.validation
    np.testing.assert_allclose(held_out, np.mean(im.last_run.losses) / 80, rtol=2e-5)
