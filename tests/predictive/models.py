"""Kernels with closed forms, and posteriors to go with them."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist

from aimz_lab.predictive import Request


def linear(X, y=None):
    weights = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    mu = numpyro.deterministic("mu", X @ weights)
    with numpyro.plate("data", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu, sigma), obs=y)


def draws_of_linear(n_draws: int = 40, n_features: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "b": rng.normal(size=(n_draws, n_features)).astype(np.float32),
        "sigma": (0.5 + rng.random(n_draws)).astype(np.float32),
    }


def inputs(n_rows: int, n_features: int = 3) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(n_rows, n_features)).astype(np.float32)


def request_of(kernel=linear, rows=None, **options) -> Request:
    options.setdefault("key", jax.random.key(7))
    options.setdefault("static", {"y": None})
    rows = {"X": inputs(300)} if rows is None else rows
    return Request(kernel=kernel, output="y", rows=rows, **options)
