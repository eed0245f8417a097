"""Draws depend on the key, the draw and the row, and on nothing about how they were computed."""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpyro.contrib.control_flow import scan

from aimz_lab.data import ArrayDataset, ArrayLoader, as_source
from aimz_lab.errors import DataTypeError, OutputWarning, PerformanceWarning
from aimz_lab.predictive import Predictor
from aimz_lab.predictive.programs import call_programs
from tests.predictive.models import draws_of_linear, inputs, request_of

PREDICTOR = Predictor()


@pytest.fixture(autouse=True)
def _with_as_much_effort_as_for_users(monkeypatch):
    """Tests compile with little effort; noise is to be the same with that of a user's session."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)


def noise_only(X, y=None):
    """An output of pure noise, by two samplers: elementwise, and with a loop inside."""
    with numpyro.plate("data", X.shape[0]):
        numpyro.sample("gamma", dist.Gamma(2.5))
        numpyro.sample("y", dist.Normal(), obs=y)


def noise_of(X, **options):
    request = request_of(noise_only, {"X": X}, num_draws=9, return_sites=("y", "gamma"), **options)
    return PREDICTOR.predict_arrays(request)


@pytest.mark.parametrize("batch_size", [1, 64, 1000])
@pytest.mark.slow
def test_noise_is_bitwise_the_same_for_any_batch_size(batch_size):
    X = inputs(1500)
    whole, cut = noise_of(X), noise_of(X, batch_size=batch_size)
    for name in whole:
        np.testing.assert_array_equal(cut[name], whole[name])


NOISES = {
    "poisson": dist.Poisson(3.5),
    "student": dist.StudentT(4.0),  # a normal and a gamma
    "gumbel": dist.Gumbel(),
    "lognormal": dist.LogNormal(),
    "logistic": dist.Logistic(),
    "weibull": dist.Weibull(1.0, 2.0),
}


def many_noises(X, y=None):
    with numpyro.plate("data", X.shape[0]):
        for name, distribution in NOISES.items():
            numpyro.sample(name, distribution)
        numpyro.sample("y", dist.Normal(), obs=y)


def noises_of(X):
    request = request_of(many_noises, {"X": X}, num_draws=9, return_sites=tuple(NOISES))
    return Predictor().predict_arrays(request)


@functools.cache
def noises_of_300():
    return noises_of(inputs(1500)[:300])


@pytest.mark.slow
def test_noise_is_bitwise_the_same_however_hard_the_compiler_tries(monkeypatch):
    """So a row of a long input has the draws of a short one, whose program compiled quickly."""
    quick = noises_of_300()
    monkeypatch.setattr(call_programs, "MUCH_BYTES", 0)
    full = noises_of(inputs(1500)[:300])
    for name in NOISES:
        np.testing.assert_array_equal(full[name], quick[name])


@pytest.mark.slow
def test_noise_of_any_sampler_is_bitwise_the_same_in_a_longer_input():
    short, long = noises_of_300(), noises_of(inputs(1500))
    for name in NOISES:
        np.testing.assert_array_equal(long[name][:, :300], short[name])


@pytest.mark.slow
@settings(max_examples=12)
@given(n_rows=st.integers(1, 1500), batch_size=st.integers(1, 1500))
def test_a_row_keeps_its_draws_when_rows_follow(n_rows, batch_size):
    X = inputs(1500)
    whole, start = noise_of(X), noise_of(X[:n_rows], batch_size=batch_size)
    for name in whole:
        np.testing.assert_array_equal(start[name], whole[name][:, :n_rows])


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 64, 1000])
def test_values_agree_to_rounding(batch_size):
    options = {"rows": {"X": inputs(1500)}, "draws": draws_of_linear(20)}
    whole = PREDICTOR.predict_arrays(request_of(**options))
    cut = PREDICTOR.predict_arrays(request_of(**options, batch_size=batch_size))
    for name in whole:
        np.testing.assert_allclose(cut[name], whole[name], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_what_is_returned_changes_nothing():
    rows, draws = {"X": inputs(300)}, draws_of_linear(20)
    both = PREDICTOR.predict_arrays(request_of(rows=rows, draws=draws))
    one = PREDICTOR.predict_arrays(request_of(rows=rows, draws=draws, return_sites=("y",)))
    np.testing.assert_allclose(one["y"], both["y"], rtol=1e-5, atol=1e-5)


def loaders(X):
    yield ArrayLoader(ArrayDataset(X=X), rng_key=jax.random.key(0), batch_size=100, shuffle=False)
    yield [{"X": X[:1]}, {"X": X[1:2]}, {"X": X[2:900]}, {"X": X[900:]}]
    yield ({"X": part} for part in np.array_split(X, 11))


@pytest.mark.slow
@pytest.mark.parametrize("kind", range(3))
def test_any_source_of_batches_gives_the_same(kind):
    X = inputs(1025)
    source = as_source(list(loaders(X))[kind])
    streamed = PREDICTOR.predict_arrays(
        request_of(noise_only, source, fields=("X",), num_draws=9, return_sites=("y",))
    )
    np.testing.assert_array_equal(streamed["y"], noise_of(X)["y"])


@pytest.mark.slow
def test_fields_of_a_source_that_the_kernel_lacks_are_left_out():
    X = inputs(20)
    source = as_source([{"X": X, "y": X[:, 0], "weight": X[:, 1]}])
    draws = draws_of_linear(5)
    got = PREDICTOR.predict_arrays(request_of(rows=source, fields=("X",), draws=draws))
    np.testing.assert_allclose(got["mu"], draws["b"] @ X.T, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [4, None])
def test_draw_axis_does_not_depend_on_the_batch_size(batch_size):
    X = inputs(300)
    whole = noise_of(X, shard_axis="draw")
    cut = noise_of(X, shard_axis="draw", batch_size=batch_size)
    for name in whole:
        np.testing.assert_array_equal(cut[name], whole[name])


def what_is_computed() -> dict:
    """Bits of noise and some values, on whatever devices there are, by either axis."""
    X, draws = inputs(1500), draws_of_linear(7)
    found = {}
    for axis in ("obs", "draw"):
        for name, values in noise_of(X, shard_axis=axis).items():
            found[f"{axis} {name} bits"] = hashlib.sha256(values.tobytes()).hexdigest()
        request = request_of(rows={"X": X}, draws=draws, shard_axis=axis)
        found[axis] = some(Predictor().predict_arrays(request)["y"])
    rows = {"X": X, "y": X[:, 0]}
    request = request_of(rows=rows, static={}, draws=draws, group="log_likelihood")
    found["ll"] = some(Predictor().log_likelihood(request)["log_likelihood"]["y"].values[0])
    return found


def some(values: np.ndarray) -> list:
    return values[::3, ::97].astype(float).tolist()


ON_DEVICES = """
import json, jax
from tests.predictive.test_invariance import what_is_computed
print(json.dumps({"devices": jax.local_device_count(), **what_is_computed()}))
"""


@pytest.mark.slow
def test_devices_change_no_noise(repository):
    """Nor does the compiler: it tries as hard there as in a user's session."""
    done = subprocess.run(
        [sys.executable, "-c", ON_DEVICES],
        cwd=repository,
        env={
            "PATH": "",
            "PYTHONPATH": str(repository),
            "JAX_PLATFORMS": "cpu",
            # Neither the rows nor the draws divide among so many.
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert not done.returncode, done.stderr[-3000:]
    got = json.loads(done.stdout)
    assert got.pop("devices") == 8
    here = what_is_computed()
    assert got.keys() == here.keys()
    for name in here:
        if name.endswith("bits"):
            assert got[name] == here[name], name
        else:
            np.testing.assert_allclose(got[name], here[name], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_other_generators_of_keys_keep_the_promise():
    X, key = inputs(600), jax.random.key(3, impl="rbg")
    whole, cut = noise_of(X, key=key), noise_of(X[:300], key=key, batch_size=1)
    np.testing.assert_array_equal(cut["y"], whole["y"][:, :300])


def autoregressive(X, y=None):
    def step(previous, x):
        now = numpyro.sample("y", dist.Normal(0.9 * previous + x, 0.1))
        return now, now

    scan(step, jnp.zeros(()), X[:, 0])


def accumulating(X, y=None):
    total = numpyro.deterministic("total", jnp.cumsum(X[:, 0]))
    with numpyro.plate("data", len(X)):
        numpyro.sample("y", dist.Normal(total, 1.0), obs=y)


def centred(X, y=None):
    with numpyro.plate("data", len(X)):
        numpyro.sample("y", dist.Normal(X[:, 0] - X[:, 0].mean(), 1.0), obs=y)


def scaled_by_count(X, y=None):
    with numpyro.plate("data", len(X)):
        numpyro.sample("y", dist.Normal(X[:, 0] / len(X), 0.001), obs=y)


def backwards(X, y=None):
    with numpyro.plate("data", len(X)):
        z = numpyro.sample("z", dist.Normal(X[:, 0], 1.0))
        numpyro.sample("y", dist.Normal(jnp.cumsum(z[::-1])[::-1], 1.0), obs=y)


def masked(X, y=None):
    """Without a density to tell what the draws follow."""
    with numpyro.plate("data", len(X)), numpyro.handlers.mask(mask=False):
        numpyro.sample("y", dist.Normal(X[:, 0] - X[:, 0].mean(), 1.0), obs=y)


def masked_within(X, y=None):
    """The mask lies within the distribution that the plates make of it."""
    with numpyro.plate("pair", 2, dim=-2), numpyro.plate("data", len(X), dim=-1):
        rate = jnp.exp(X[:, 0] - X[:, 0].mean())
        numpyro.sample("y", dist.Poisson(rate).mask(False))


def lying_elsewhere(X, y=None):
    """A density that does not tell where its distribution lies."""
    with numpyro.plate("data", len(X)):
        unit = dist.Uniform(validate_args=False).expand(X.shape[:1])
        moved = dist.transforms.AffineTransform(X[:, 0].max(), 1.0)
        numpyro.sample("y", dist.TransformedDistribution(unit, moved, validate_args=False))


def one_event(X, y=None):
    numpyro.sample("y", dist.Normal(X[:, 0], 1.0).to_event(1), obs=y)


def global_of_rows(X, y=None):
    level = numpyro.sample("level", dist.Normal(X[:, 0].sum(), 1.0))
    with numpyro.plate("data", len(X)):
        numpyro.sample("y", dist.Normal(level, 1.0), obs=y)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "site", "n_rows"),
    [
        (autoregressive, "y", 700),
        (scaled_by_count, "y", 700),
        (backwards, "y", 700),
        (masked, "y", 700),
        (lying_elsewhere, "y", 700),
        (one_event, "y", 700),
        (global_of_rows, "level", 700),
        (global_of_rows, "level", 5),
    ],
)
def test_computing_across_rows_is_found_and_rerun_by_draw(kernel, site, n_rows):
    request = request_of(kernel, {"X": inputs(n_rows)}, num_draws=8)
    with pytest.warns(PerformanceWarning, match=f"across rows at.*'{site}'"):
        tree = PREDICTOR.predict(request)
    group = tree["posterior_predictive"]
    assert group.attrs["shard_axis"] == "draw"
    assert group["y"].shape == (1, 8, n_rows)


@pytest.mark.parametrize("n_rows", [256, 300])
def test_a_kernel_tied_to_its_number_of_rows_keeps_them_together(n_rows):
    """Also where that is the number of rows of a block."""
    offset = np.arange(n_rows, dtype=np.float32)
    request = request_of(at(lambda x: x + offset), {"X": inputs(n_rows)}, num_draws=3)
    with pytest.warns(PerformanceWarning, match="does not run on another number of rows"):
        assert PREDICTOR.predict_arrays(request)["y"].shape == (3, n_rows)


@pytest.mark.slow
def test_a_mask_within_a_distribution_hides_no_rows_that_cross():
    request = request_of(masked_within, {"X": inputs(700)}, num_draws=8)
    with pytest.warns(PerformanceWarning, match="across rows at site 'y'"):
        assert PREDICTOR.predict_arrays(request)["y"].shape == (8, 2, 700)


@pytest.mark.slow
def test_noise_without_rows_is_the_same_for_all_of_them():
    """Of a key that the kernel asks for, and of what a parameter begins with before a fit."""

    def kernel(X, y=None):
        shift = jax.random.normal(numpyro.prng_key())
        start = numpyro.param("start", lambda key: jax.random.normal(key))
        with numpyro.plate("data", len(X)):
            mean = numpyro.deterministic("mean", shift + start + 0 * X[:, 0])
            numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    got = PREDICTOR.predict_arrays(request_of(kernel, {"X": inputs(700)}, num_draws=5))["mean"]
    np.testing.assert_array_equal(got, np.broadcast_to(got[:, :1], got.shape))
    assert len(np.unique(got)) == 5


@pytest.mark.slow
def test_a_mask_computed_across_rows_is_found_in_log_likelihoods():
    def kernel(X, y=None):
        above = X[:, 0] > X[:, 0].mean()
        with numpyro.plate("data", len(X)), numpyro.handlers.mask(mask=above):
            numpyro.sample("y", dist.Normal(X[:, 0], 1.0), obs=y)

    X = np.linspace(0, 1, 700, dtype=np.float32)[:, None]
    request = request_of(
        kernel, {"X": X, "y": X[:, 0]}, static={}, num_draws=2, group="log_likelihood"
    )
    with pytest.warns(PerformanceWarning, match="across rows at site 'y'"):
        got = PREDICTOR.log_likelihood(request)["log_likelihood"]["y"].values
    np.testing.assert_array_equal((got != 0).sum(axis=-1), 350)


@pytest.mark.slow
def test_what_is_proven_of_given_values_is_not_of_drawn_ones():
    """A level that the posterior holds crosses no rows; one that is drawn from them does."""
    predictor, rows = Predictor(), {"X": inputs(700)}
    draws = {"level": np.zeros(8, np.float32)}
    held = predictor.predict(request_of(global_of_rows, rows, draws=draws))
    assert held["posterior_predictive"].attrs["shard_axis"] == "obs"
    with pytest.warns(PerformanceWarning, match="across rows at site 'level'"):
        predictor.predict(request_of(global_of_rows, rows, num_draws=8))


SPARSE = (np.random.default_rng(0).random(1000) < 0.05).astype(np.float32)
LATE = (np.arange(1000) >= 600).astype(np.float32)
DENSE = np.random.default_rng(0).normal(size=1000).astype(np.float32)


def at(mean):
    """A kernel whose rows have a mean that is computed across them."""

    def kernel(X, y=None):
        with numpyro.plate("data", len(X)):
            numpyro.sample("y", dist.Normal(mean(X[:, 0]), 1.0), obs=y)

    return kernel


def padded(x):
    return jnp.concatenate([x[:1], x, x[-1:]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mean", "column"),
    [
        (jnp.cumsum, SPARSE),
        (jnp.cumsum, LATE),
        (lambda x: x - x.mean(), LATE),
        (lambda x: jnp.diff(x, prepend=x[:1]), DENSE),
        (lambda x: jnp.concatenate([jnp.zeros(1), x[:-1]]), DENSE),
        (lambda x: (padded(x)[:-2] + x + padded(x)[2:]) / 3, DENSE),
    ],
    ids=["sum", "late sum", "centred", "difference", "lag of 0", "moving average"],
)
def test_what_crosses_rarely_late_or_between_neighbours_is_found(mean, column):
    request = request_of(at(mean), {"X": column[:, None]}, num_draws=2)
    with pytest.warns(PerformanceWarning, match="across rows"):
        PREDICTOR.predict_arrays(request)


@pytest.mark.slow
def test_rows_that_did_not_cross_in_other_data_are_looked_at_again():
    kernel = at(jnp.cumsum)
    control, treated = np.zeros((1000, 1), np.float32), np.ones((1000, 1), np.float32)
    PREDICTOR.predict_arrays(request_of(kernel, {"X": control}, num_draws=2))
    with pytest.warns(PerformanceWarning, match="across rows"):
        got = PREDICTOR.predict_arrays(request_of(kernel, {"X": treated}, num_draws=50))
    np.testing.assert_allclose(got["y"][:, -1].mean(), 1000, atol=1)


def test_a_later_batch_whose_rows_cross_is_refused():
    X = np.concatenate([np.zeros((2000, 1)), np.ones((2000, 1))]).astype(np.float32)
    source = as_source({"X": part} for part in np.array_split(X, 8))
    request = request_of(at(jnp.cumsum), source, fields=("X",), num_draws=2, batch_size=256)
    with pytest.raises(DataTypeError, match="across rows"):
        PREDICTOR.predict_arrays(request)


def test_a_later_batch_of_the_other_scenario_is_refused_too():
    X = np.concatenate([np.zeros((2000, 1)), np.ones((2000, 1))]).astype(np.float32)
    source = as_source({"X": part} for part in np.array_split(X, 8))
    options = {"num_draws": 2, "batch_size": 256}
    kernel = at(jnp.cumsum)
    with pytest.raises(DataTypeError, match="across rows"):
        PREDICTOR.effect(
            request_of(kernel, {"X": np.zeros_like(X)}, **options),
            request_of(kernel, source, fields=("X",), **options),
        )


@pytest.mark.slow
def test_cumulative_sum_is_right_after_the_rerun():
    X = inputs(700)
    with pytest.warns(PerformanceWarning, match="across rows at.*'total'"):
        got = PREDICTOR.predict_arrays(request_of(accumulating, {"X": X}, num_draws=3))
    np.testing.assert_allclose(got["total"][0], np.cumsum(X[:, 0]), atol=1e-3)


def test_a_loader_that_cannot_rerun_raises():
    source = as_source([{"X": inputs(300)}, {"X": inputs(300)}])
    with pytest.raises(DataTypeError, match="across rows at site 'y'.*as arrays"):
        PREDICTOR.predict(request_of(centred, source, num_draws=8))
    with pytest.raises(DataTypeError, match="all rows at once"):
        PREDICTOR.predict(request_of(noise_only, source, num_draws=8, shard_axis="draw"))


@pytest.mark.slow
def test_no_warning_where_rows_are_independent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n_rows in (1, 2, 3, 300):
            noise_of(inputs(n_rows))


def test_posterior_with_one_value_per_row_keeps_rows_together():
    def kernel(X, y=None):
        with numpyro.plate("data", len(X)):
            z = numpyro.sample("z", dist.Normal())
            numpyro.sample("y", dist.Normal(z + X[:, 0], 1e-4), obs=y)

    X = inputs(300)
    z = np.random.default_rng(0).normal(size=(6, 300)).astype(np.float32)
    with pytest.warns(PerformanceWarning, match="one value a row of site 'z'"):
        got = PREDICTOR.predict_arrays(request_of(kernel, {"X": X}, draws={"z": z}))
    np.testing.assert_allclose(got["y"], z + X[:, 0], atol=1e-3)


def test_output_without_rows_is_told():
    def kernel(X, y=None):
        numpyro.sample("y", dist.Normal(X.sum(), 1e-3), obs=y)

    X = inputs(300)
    with pytest.warns(OutputWarning, match="'y' does not have one value a row"):
        got = PREDICTOR.predict_arrays(request_of(kernel, {"X": X}, num_draws=5))
    np.testing.assert_allclose(got["y"], np.full(5, X.sum()), atol=1e-2)
