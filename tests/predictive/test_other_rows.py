"""Rows beside which a kernel was not trained: what it computes across rows is told or refused."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab import ImpactModel, lab
from aimz_lab.errors import ArgumentError, OutputWarning
from tests.runs import mean_field

pytestmark = [
    pytest.mark.allow_rank_promotion,
    pytest.mark.filterwarnings("ignore::aimz_lab.errors.PerformanceWarning"),
]

RNG = np.random.default_rng(0)
N = 40
X = RNG.normal(5, 2, N).astype(np.float32)
T = RNG.normal(size=N).astype(np.float32)
GROUP = np.arange(N) % 5
Y = (2 * X + T).astype(np.float32)
OWN = RNG.normal(size=N).astype(np.float32)
OTHERS = slice(0, N - 3)
ACROSS = r"The kernel computes across rows at 'y', such as a mean of 'X' over the rows of the call"
ONE_DRAW = r"'y' is one draw over all rows of a call, .* the outcomes of the training are not used"


def line(values, y):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", values.shape[0]):
        numpyro.sample("y", dist.Normal(slope * values, 1), obs=y)


def centred(X, t, group, y=None):
    line((X - X.mean()) / X.std() + t, y)


def by_group(X, t, group, y=None):
    counts = jax.ops.segment_sum(jnp.ones_like(X), group, 5)
    line(X - (jax.ops.segment_sum(X, group, 5) / counts)[group] + t, y)


def to_first(X, t, group, y=None):
    line(X / X[0] + t, y)


def to_first_rows(X, t, group, y=None):
    numpyro.deterministic("index", X - X[:20].mean())
    line(X - X[:20].mean() + t, y)


def by_matrix(X, t, group, y=None):
    line((jnp.eye(X.shape[0]) - 1 / X.shape[0]) @ X + t, y)


def by_rank(X, t, group, y=None):
    line((X[:, None] > X).mean(1) + t, y)


def with_own_rows(X, t, group, y=None):
    """A kernel that runs with the rows of the training alone."""
    line(X / X[0] + t + jnp.asarray(OWN), y)


def adstock(X, t, group, y=None):
    line(jax.lax.scan(lambda carry, one: (0.5 * carry + one,) * 2, 0.0, X)[1] + t, y)


def apart(X, t, group, y=None):
    """Priors may be measured by the rows: the posterior's draws know them."""
    numpyro.sample("level", dist.Normal(X.mean(), X.std()))
    line(jax.nn.softmax(jnp.stack([X, t]), axis=0)[0], y)


def attention(X, t, group, y=None):
    line(jax.nn.softmax(-((X[:, None] - X) ** 2), axis=1) @ t, y)


def covariance(one, other):
    return jnp.exp(-0.5 * (one[:, None] - other) ** 2)


def process(X, X_trained=None, y_trained=None, y=None):
    noise = numpyro.sample("noise", dist.HalfNormal(1))
    own = covariance(X, X) + (noise**2 + 1e-3) * jnp.eye(X.shape[0])
    if X_trained is None:
        numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(X.shape[0]), own), obs=y)
        return
    cross, eye = covariance(X, X_trained), jnp.eye(X_trained.shape[0])
    weights = jnp.linalg.solve(covariance(X_trained, X_trained) + noise**2 * eye, cross.T).T
    numpyro.sample(
        "y", dist.MultivariateNormal(weights @ y_trained, own - weights @ cross.T), obs=y
    )


def walk(X, y=None):
    scale = numpyro.sample("scale", dist.HalfNormal(1))
    numpyro.sample("y", dist.GaussianRandomWalk(scale, num_steps=X.shape[0]), obs=y)


def one_event(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(slope * X, 1).to_event(1), obs=y)


def pairs(X, y=None):
    scale = numpyro.sample("scale", dist.HalfNormal(1))
    with numpyro.plate("row", X.shape[0]):
        means = jnp.stack([X, X], axis=1)
        numpyro.sample("y", dist.MultivariateNormal(means, scale * jnp.eye(2)), obs=y)


def fitted(kernel, y=Y, **rows):
    im = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))
    return im.fit_on_batch(X, y, num_steps=2, num_samples=20, progress=False, **rows)


def told(call):
    """The warnings of outputs that a call gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in caught if issubclass(one.category, OutputWarning)]


def predict(im, rows, **values):
    arrays = {"X": X, "t": T, "group": GROUP} | values
    im.predict_on_batch(**{name: array[rows] for name, array in arrays.items()})


def effect(im, name, **options):
    before = {"X": X, "t": T, "group": GROUP}
    return im.estimate_effect(
        args_baseline=before, args_intervention={**before, name: before[name] + 1}, average=True
    ).posterior_predictive.y.values


@pytest.fixture(scope="module")
def standardised():
    return fitted(centred, t=T, group=GROUP)


@pytest.mark.parametrize(
    "rows",
    [pytest.param(OTHERS, marks=pytest.mark.slow, id="some"), pytest.param(slice(0, 1), id="one")],
)
def test_a_mean_over_other_rows_is_told_of(standardised, rows):
    [text] = told(lambda: predict(standardised, rows))
    assert (
        "such as a mean of 'X' over the rows of the call, or the value of one row: other rows"
        in text
    )
    assert text.endswith("Compute it before, and pass it as an argument.")


@pytest.mark.slow
def test_rows_that_are_all_alike_tell_of_it_too(standardised):
    """A test of these rows finds nothing: their mean is each of them."""
    with pytest.warns(OutputWarning, match=ACROSS):
        predict(standardised, slice(None), X=np.full(N, 9.0))


@pytest.mark.slow
def test_the_training_rows_have_the_mean_of_the_training(standardised):
    assert not told(lambda: predict(standardised, slice(None)))
    assert not told(lambda: standardised.log_likelihood(X, Y, t=T, group=GROUP, progress=False))


@pytest.mark.slow
def test_scores_of_other_rows_tell_of_it(standardised):
    rows = {"X": X[OTHERS] + 1, "t": T[OTHERS], "group": GROUP[OTHERS], "y": Y[OTHERS]}
    with pytest.warns(OutputWarning, match=ACROSS):
        lab.compare_runs({"one": standardised}, held_out=rows)


def test_scenarios_that_differ_in_a_mean_are_refused(standardised):
    refused = pytest.raises(ArgumentError, match=r"differ in 'X', and the kernel takes a stati")
    with refused:
        effect(standardised, "X")
    with refused:
        standardised.sweep("X", [0.0, 1.0], X, t=T, group=GROUP)
    scenarios = {"no": {"X": X, "t": T, "group": GROUP}, "up": {"X": X + 1, "t": T, "group": GROUP}}
    with refused:
        standardised.decide(scenarios)


def test_a_mean_that_scenarios_share_is_right(standardised):
    found = []
    assert not told(lambda: found.append(effect(standardised, "t")))
    scenarios = [{"X": X, "t": np.full_like(T, t), "group": GROUP} for t in (0, 1)]
    args = dict(zip(("args_baseline", "args_intervention"), scenarios, strict=True))
    assert not told(lambda: standardised.estimate_effect(**args))  # no scenario has all as trained
    np.testing.assert_allclose(found[0].ravel(), standardised.posterior["slope"].ravel(), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [adstock, apart])
def test_what_goes_along_rows_is_answered(kernel):
    im = fitted(kernel, t=T, group=GROUP)
    assert not told(lambda: predict(im, OTHERS))
    assert not told(lambda: effect(im, "X"))


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [by_group, to_first, to_first_rows, by_matrix, by_rank])
def test_what_follows_from_other_rows_is_refused_and_told(kernel):
    im = fitted(kernel, t=T, group=GROUP)
    assert not told(lambda: predict(im, slice(None)))
    [text] = told(lambda: predict(im, OTHERS))
    assert "across rows at 'y'" in text or "across rows at 'index'" in text
    refused = pytest.raises(ArgumentError, match=r"differ in 'X', and the kernel takes a stati")
    with refused:
        effect(im, "X")
    with refused:
        im.sweep("X", [0.0, 1.0], X, t=T, group=GROUP)
    found = []
    assert not told(lambda: found.append(effect(im, "t")))
    np.testing.assert_allclose(found[0].ravel(), im.posterior["slope"].ravel(), rtol=1e-4)


def by_period(X, t, group, y=None):
    """A panel, each column by its distance from its mean."""
    table = X.reshape(-1, 5)
    b, slope = (numpyro.sample(name, dist.Normal()) for name in ("b", "slope"))
    with numpyro.plate("row", X.shape[0]):
        mean = b * (table - table.mean(0)).reshape(-1) + slope * t + 0 * group
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::aimz_lab.errors.PerformanceWarning")
def test_means_of_the_columns_of_a_folded_panel_are_refused():
    im = fitted(by_period, t=T, group=GROUP)
    with pytest.raises(ArgumentError, match="differ in 'X', and the kernel takes a statistic"):
        effect(im, "X")
    np.testing.assert_allclose(effect(im, "t").ravel(), im.posterior["slope"].ravel(), rtol=1e-4)


@pytest.mark.slow
def test_attention_to_the_rows_of_a_call_is_told_and_refused():
    im = fitted(attention, t=T, group=GROUP)
    with pytest.warns(OutputWarning, match="across rows at 'y', such as a mean of 'X' or 't'"):
        predict(im, OTHERS)
    with pytest.raises(ArgumentError, match="held='keep' in every scenario takes the statistic of"):
        effect(im, "X")
    sides = [{"X": rows, "t": T, "group": GROUP, "held": "keep"} for rows in (X, X + 1)]
    with pytest.warns(OutputWarning, match="across rows at 'y'"):
        found = im.estimate_effect(args_baseline=sides[0], args_intervention=sides[1])
    assert np.isfinite(found.posterior_predictive.y).all()


@pytest.mark.slow
def test_a_kernel_that_runs_with_its_own_rows_alone_is_asked_with_them():
    im = fitted(with_own_rows, t=T, group=GROUP, by_row=["t", "group"])
    with pytest.raises(ArgumentError, match="differ in 'X'"):
        effect(im, "X")
    assert not told(lambda: effect(im, "t"))


def test_a_value_that_is_set_by_row_is_asked_about_too():
    def kernel(X, y=None):
        index = numpyro.deterministic("index", 2 * X)
        line(index / index[0], y)

    im = fitted(kernel)
    assert not told(lambda: im.predict_on_batch(X))
    with pytest.warns(OutputWarning, match="across rows at 'y', such as a mean of 'index'"):
        im.predict_on_batch(X, intervention={"index": 3 * X})


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [process, walk])
def test_an_output_that_is_one_draw_is_predicted_without_the_trained_outcomes(kernel):
    im = fitted(kernel)
    assert not told(lambda: im.predict_on_batch(X))
    with pytest.warns(OutputWarning, match=ONE_DRAW):
        im.predict_on_batch(X[OTHERS])
    with pytest.warns(OutputWarning, match=ONE_DRAW):
        im.log_likelihood(X[OTHERS], Y[OTHERS] + 1, progress=False)


@pytest.mark.slow
def test_such_an_output_has_no_held_out_scores():
    made = {"process": fitted(process), "event": fitted(one_event)}
    table = lab.compare_runs(made, held_out=(X[OTHERS] + 1, Y[OTHERS]))
    assert table.loc[["held_out_lpd", "held_out_joint_lpd"], "process"].isna().all()
    assert "process: no held-out scores: 'y' is one draw over all rows of a call" in repr(table)


@pytest.mark.slow
def test_trained_rows_as_arguments_predict_others():
    """The line of the documentation, against the regression of Rasmussen and Williams (2.23)."""
    im = fitted(process, y=np.sin(X))
    im.set_posterior_sample({"noise": np.full(4000, 0.1, np.float32)})
    rows = {"X_trained": X, "y_trained": np.sin(X), "shared": ["X_trained", "y_trained"]}
    found = []
    assert not told(lambda: found.append(im.predict_on_batch(X[:3] + 0.05, **rows)))
    mean = found[0].posterior_predictive.y.mean(("chain", "draw")).values
    np.testing.assert_allclose(mean, np.sin(X[:3] + 0.05), atol=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "y"), [(one_event, Y), (pairs, np.stack([Y, Y], axis=1))])
def test_events_within_rows_and_independent_rows_are_predicted(kernel, y):
    im = fitted(kernel, y=y)
    assert not told(lambda: im.predict_on_batch(X[OTHERS]))
