"""Every method on every kind of input, each against an oracle.

Run as a script, it prints as JSON what went wrong, and on how many devices.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.infer import SVI, Predictive, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.svi import SVIRunResult
from numpyro.infer.util import log_likelihood

from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel
from aimz_lab.errors import FitWarning
from tests import torch_like

N_ROWS, BATCH, N_DRAWS, NOISE_SD = 37, 12, 100, 0.5
"""Three batches of twelve rows, and a last one of a single row."""


def linear(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    mu = numpyro.deterministic("mu", X @ slope)
    with numpyro.plate("data", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu, NOISE_SD), obs=y)


_rng = np.random.default_rng(0)
X = _rng.normal(size=(N_ROWS, 2)).astype(np.float32)
Y = (X @ np.float32([1.0, -1.0]) + NOISE_SD * _rng.normal(size=N_ROWS)).astype(np.float32)
DRAWS = {"slope": _rng.normal(size=(N_DRAWS, 2)).astype(np.float32)}
MU = DRAWS["slope"] @ X.T
KEY = jax.random.key(3)


def _generator(X):
    def batches():
        for start in range(0, N_ROWS, 10):
            yield {"X": X[start : start + 10], "y": Y[start : start + 10]}

    return batches


def _loader(X, **options):
    return ArrayLoader(ArrayDataset(X=X, y=Y), KEY, batch_size=BATCH, shuffle=False, **options)


KINDS: dict[str, Callable[[Any], Any]] = {
    "array": lambda X: X,
    "dataset": lambda X: ArrayDataset(X=X, y=Y),
    "dataset on the device": lambda X: ArrayDataset(X=X, y=Y, to_jax=True),
    "loader": _loader,
    "loader with a device": lambda X: _loader(X, device=jax.devices()[0]),
    "list of batches": lambda X: list(_generator(X)()),
    "generator function": _generator,
    "torch-like loader": lambda X: torch_like.DataLoader(
        torch_like.TensorDataset(X, Y), batch_size=BATCH
    ),
}


@cache
def model() -> ImpactModel:
    svi = SVI(linear, AutoNormal(linear), optax.adam(0.05), Trace_ELBO())
    return ImpactModel(linear, jax.random.key(0), svi=svi).set_posterior_sample(DRAWS)


def _values(tree, group, site):
    values = tree[group][site]
    assert values.dims == ("chain", "draw", "data"), values.dims
    assert values.sizes["chain"] == 1
    return values.values[0]


@cache
def _numpyro_draws():
    """Draws of the output by NumPyro itself, many for each draw of the posterior."""
    predictive = jax.jit(lambda key: Predictive(linear, posterior_samples=DRAWS)(key, X)["y"])
    return np.stack([predictive(key) for key in jax.random.split(KEY, 20)])


def _check_draws(y, mu):
    """Location exactly; noise by its moments, against NumPyro's, within five standard errors."""
    np.testing.assert_allclose(mu, MU, atol=1e-5)
    noise, theirs = np.asarray(y) - MU, _numpyro_draws() - MU
    error = 5 / np.sqrt(noise.size)
    assert noise.shape == (N_DRAWS, N_ROWS)
    assert abs(noise.mean() - theirs.mean()) < NOISE_SD * error
    assert abs(noise.std() / theirs.std() - 1) < error
    assert len(np.unique(y)) > 0.99 * y.size  # no row has another's noise


def predict(kind, store="memory"):
    tree = model().predict(kind(X), rng_key=KEY, store=store, progress=False)
    y, mu = (_values(tree, "posterior_predictive", site) for site in ("y", "mu"))
    _check_draws(y, mu)
    np.testing.assert_array_equal(tree["posterior"]["slope"].values[0], DRAWS["slope"])
    # Whatever the input came in, a key means the same noise.
    batch = model().predict_on_batch(X, rng_key=KEY, return_datatree=False)
    np.testing.assert_allclose(y, batch["y"], atol=1e-5)


def predict_to_disk(kind):
    predict(kind, store="persistent")


def predict_on_batch(kind):
    arrays = model().predict_on_batch(X, rng_key=KEY, return_datatree=False)
    _check_draws(arrays["y"], arrays["mu"])
    tree = model().predict_on_batch(X, rng_key=KEY, in_sample=False)
    np.testing.assert_array_equal(_values(tree, "predictions", "y"), arrays["y"])


def sample_posterior_predictive(kind):
    tree = model().sample_posterior_predictive(kind(X), rng_key=KEY, progress=False)
    _check_draws(*(_values(tree, "posterior_predictive", site) for site in ("y", "mu")))


def sample_posterior_predictive_on_batch(kind):
    found = model().sample_posterior_predictive_on_batch(X, return_datatree=False)
    _check_draws(found["y"], found["mu"])


def sample_prior_predictive(kind):
    tree = model().sample_prior_predictive(
        kind(X), num_samples=N_DRAWS, store="memory", rng_key=KEY, progress=False
    )
    _check_prior(*(_values(tree, "prior_predictive", site) for site in ("y", "mu")))


def sample_prior_predictive_on_batch(kind):
    found = model().sample_prior_predictive_on_batch(
        X, num_samples=N_DRAWS, rng_key=KEY, return_datatree=False
    )
    _check_prior(found["y"], found["mu"])


@cache
def _numpyro_prior_sd():
    return np.asarray(Predictive(linear, num_samples=2000)(KEY, X)["mu"].std(0))


def _check_prior(y, mu):
    """One slope a draw behind all rows, with the prior's covariance, and noise around it."""
    slopes, residuals, *_ = np.linalg.lstsq(X, mu.T, rcond=None)
    assert residuals.max() < 1e-6
    np.testing.assert_allclose(np.cov(slopes), np.eye(2), atol=0.6)
    np.testing.assert_allclose(mu.std(0), _numpyro_prior_sd(), rtol=0.35)
    assert abs((y - mu).std() / NOISE_SD - 1) < 5 / np.sqrt(y.size)


def log_likelihood_(kind):
    y = (Y,) if kind is KINDS["array"] else ()
    tree = model().log_likelihood(kind(X), *y, store="memory", progress=False)
    theirs = log_likelihood(linear, DRAWS, X=X, y=Y)["y"]
    np.testing.assert_allclose(_values(tree, "log_likelihood", "y"), theirs, rtol=1e-5, atol=1e-5)


def estimate_effect(kind):
    """Lazy, eager and mixed: the noise cancels, so that ``y`` moves exactly as ``mu`` does."""
    im, more = model(), X + np.float32([1, 0])
    expected = np.broadcast_to(DRAWS["slope"][:, :1], MU.shape)
    options = {"rng_key": KEY, "store": "memory"}
    before = im.predict(kind(X), progress=False, **options)
    after = im.predict(kind(more), progress=False, **options)
    lazily = {"args_intervention": {"X": kind(more), **options}}
    effects = [
        im.estimate_effect(before, after),
        im.estimate_effect(before, **lazily),
        im.estimate_effect(args_baseline={"X": kind(X), **options}, **lazily),
    ]
    for effect in effects:
        for site in ("y", "mu"):
            found = _values(effect, "posterior_predictive", site)
            np.testing.assert_allclose(found, expected, atol=1e-5)


class Oracle:
    """NumPyro's own training, step by step, with the weight of the rows written into the kernel."""

    def __init__(self):
        im = model()
        im.fit_on_batch(X, Y, num_steps=1, num_samples=1, rng_key=KEY, progress=False)
        self.start = im._vi_state

        def kernel(X, y, weight):
            slope = numpyro.sample("slope", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            with numpyro.plate("data", X.shape[0]), numpyro.handlers.scale(scale=weight):
                numpyro.sample("y", dist.Normal(X @ slope, NOISE_SD), obs=y)

        # The guide and the constraints are those that `im` is set up with: NumPyro's own `init`
        # compiles each operation by itself.
        self.svi = SVI(kernel, im.inference.guide, optax.adam(0.05), Trace_ELBO())
        self.svi.constrain_fn = im.inference.constrain_fn
        self._update = jax.jit(self.svi.update)

    def train(self, batch_size, epochs, weight):
        state, losses = self.start, []
        for _ in range(epochs):
            for start in range(0, N_ROWS, batch_size):
                rows = slice(start, start + batch_size)
                of_row = weight or N_ROWS / len(Y[rows])
                state, loss = self._update(state, X=X[rows], y=Y[rows], weight=of_row)
                losses.append(loss)
        return np.array(losses), self.svi.get_params(state)


oracle = cache(Oracle)


def _check_training(losses, params, batch_size, epochs, *, in_order=True):
    """In a fixed order a row weighs the batches of an epoch; else a batch stands for all rows."""
    weight = float(-(-N_ROWS // batch_size)) if in_order else None
    theirs, their_params = oracle().train(batch_size, epochs, weight)
    np.testing.assert_allclose(losses, theirs, rtol=1e-5)
    for name, value in their_params.items():
        np.testing.assert_allclose(params[name], value, rtol=1e-4, atol=1e-6)


def _restarted():
    im = model()
    im._vi_state = oracle().start
    return im


def fit(kind):
    im = _restarted()
    data = kind(X)
    options = {"rng_key": KEY, "progress": False, "num_samples": 50, "epochs": 2}
    if kind is KINDS["array"]:
        im.fit(data, Y, batch_size=BATCH, shuffle=False, **options)
    elif isinstance(data, ArrayDataset):
        im.fit(data, batch_size=BATCH, shuffle=False, **options)
    else:
        im.fit(data, n_obs=N_ROWS, **options)
    batch_size = 10 if kind in (KINDS["list of batches"], KINDS["generator function"]) else BATCH
    _check_training(im.vi_result.losses, im.vi_result.params, batch_size, epochs=2)
    assert im.posterior["slope"].shape == (50, 2)


def fit_on_batch(kind):
    im = _restarted()
    im.fit_on_batch(X, Y, num_steps=5, num_samples=50, rng_key=KEY, progress=False)
    _check_training(im.vi_result.losses, im.vi_result.params, N_ROWS, epochs=5)
    assert im.posterior["slope"].shape == (50, 2)


def train_on_batch(kind):
    im, losses = _restarted(), []
    for batch, n_pad in kind(X):
        with warnings.catch_warnings():
            # One model trains on all kinds, and so it sees the short last batch again.
            warnings.filterwarnings("ignore", "The same batch", FitWarning)
            state, loss = im.train_on_batch(**batch, n_pad=n_pad, n_obs=N_ROWS)
        losses.append(float(loss))
    assert state is im._vi_state
    params = im.inference.get_params(state)
    _check_training(losses, params, BATCH, epochs=1, in_order=False)


def sample(kind):
    """Draws of a mean-field normal have its moments, within five standard errors."""
    im, n = _restarted(), 4000
    params = {
        "slope_auto_loc": np.float32([1, -2]),
        "slope_auto_scale": np.float32([0.1, 3]),
    }
    im.vi_result = SVIRunResult(params, None, [])
    draws = im.sample(num_samples=n, rng_key=KEY, return_datatree=False)["slope"]
    tree = im.sample(num_samples=n, rng_key=KEY)
    np.testing.assert_array_equal(tree["posterior"]["slope"].values[0], draws)
    loc, scale = params["slope_auto_loc"], params["slope_auto_scale"]
    np.testing.assert_array_less(np.abs(draws.mean(0) - loc), 5 * scale / np.sqrt(n))
    np.testing.assert_array_less(np.abs(draws.std(0) / scale - 1), 5 / np.sqrt(2 * n))


_every = list(KINDS)
TABLE: dict[str, tuple[Callable, list[str]]] = {
    "predict": (predict, _every),
    "predict to disk": (predict_to_disk, ["array", "loader", "generator function"]),
    "predict_on_batch": (predict_on_batch, ["array"]),
    "sample_posterior_predictive": (sample_posterior_predictive, ["array", "loader"]),
    "sample_posterior_predictive_on_batch": (sample_posterior_predictive_on_batch, ["array"]),
    "sample_prior_predictive": (sample_prior_predictive, _every),
    "sample_prior_predictive_on_batch": (sample_prior_predictive_on_batch, ["array"]),
    "log_likelihood": (log_likelihood_, _every),
    "estimate_effect": (estimate_effect, ["array", "loader", "generator function"]),
    "fit": (fit, _every),
    "fit_on_batch": (fit_on_batch, ["array"]),
    "train_on_batch": (train_on_batch, ["loader", "loader with a device"]),
    "sample": (sample, ["array"]),
}
CELLS = [(method, kind) for method, (_, kinds) in TABLE.items() for kind in kinds]


_OTHER_NAMES = ("sample_posterior_predictive", "sample_posterior_predictive_on_batch")
ON_DEVICES = [
    (method, kind)
    for method, kind in CELLS
    if kind in ("array", "loader", "loader with a device") and method not in _OTHER_NAMES
]
"""Those that several devices may change: the other kinds reach them as a loader does, and what is
another name of `predict` as `predict` does."""


def run(method: str, kind: str) -> None:
    """Run one cell of the table; raises if the method does not agree with its oracle."""
    model().set_posterior_sample(DRAWS)
    TABLE[method][0](KINDS[kind])


def main() -> None:
    """Run the cells of several devices; print the traceback of those that fail."""
    failed = {}
    for method, kind in ON_DEVICES:
        try:
            run(method, kind)
        except Exception:  # noqa: BLE001  whatever it is, the test of this cell tells it
            failed[f"{method}: {kind}"] = traceback.format_exc()
    json.dump({"devices": jax.local_device_count(), "failed": failed}, sys.stdout)


if __name__ == "__main__":
    main()
