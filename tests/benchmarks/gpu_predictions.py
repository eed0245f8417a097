"""Speeds of ``predict`` on a device, to memory, to a store and to means, beside bare programs."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel
from tests.benchmarks.gpu_work import COLUMNS, Report, Work, kept_going
from tests.benchmarks.turns import seconds, take_turns


def linear(X, y=None):
    """A linear model."""
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, sigma), obs=y)


def network(X, y=None):
    """Three layers of 128."""
    z, sizes = X, [X.shape[1], 128, 128, 128, 1]
    for i, shape in enumerate(itertools.pairwise(sizes)):
        w = numpyro.sample(f"w{i}", dist.Normal(0.0, 0.1).expand(shape).to_event(2))
        z = jnp.tanh(z @ w) if i < 3 else z @ w
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(z[..., 0], 1.0), obs=y)


def _linear_floor(draws: dict, X: jax.Array) -> Callable[[], jax.Array]:
    """The products and the noise of all draws, left on the device."""

    @jax.jit
    def run(key, beta, X):
        return beta @ X.T + jax.random.normal(key, (len(beta), len(X)))

    return lambda: jax.block_until_ready(run(jax.random.key(0), draws["beta"], X))


def _network_floor(draws: dict, X: jax.Array) -> Callable[[], jax.Array]:
    def mean(draw, X):
        for i in range(3):
            X = jnp.tanh(X @ draw[f"w{i}"])
        return (X @ draw["w3"])[:, 0]

    @jax.jit
    def run(key, draws, X):
        means = jax.lax.map(lambda draw: mean(draw, X), draws, batch_size=16)
        return means + jax.random.normal(key, means.shape)

    return lambda: jax.block_until_ready(run(jax.random.key(0), draws, X))


def predictions(report: Report, work: Work, deadline: float) -> None:
    """``predict`` to memory, to a store and to means, beside one bare program."""
    rng = np.random.default_rng(0)
    sizes = [100, 128, 128, 128, 1]
    layers = {f"w{i}": shape for i, shape in enumerate(itertools.pairwise(sizes))}
    cases = {
        f"linear, {work.predicted:,} x {COLUMNS}": (
            linear,
            {"beta": (COLUMNS,), "sigma": ()},
            (work.predicted, COLUMNS),
            _linear_floor,
        ),
        f"network, {work.network:,} x 100": (
            network,
            layers,
            (work.network, 100),
            _network_floor,
        ),
    }
    began = time.perf_counter()
    for number, (name, (model, shapes, shape, floor)) in enumerate(cases.items(), 1):
        with kept_going(report, f"predict, {name}"):
            draws = {
                site: np.abs(rng.standard_normal((work.draws, *one), dtype=np.float32)) * 0.1
                for site, one in shapes.items()
            }
            X = rng.standard_normal(shape, dtype=np.float32)
            svi = SVI(model, AutoNormal(model), numpyro.optim.Adam(1e-3), Trace_ELBO())
            im = ImpactModel(model, jax.random.key(0), svi=svi)
            im.set_posterior_sample({site: jnp.asarray(one) for site, one in draws.items()})
            until = began + (deadline - began) * number / len(cases)
            bare = floor(jax.device_put(draws), jax.device_put(X))
            _predictions_of(report, work, im, X, name, bare, until)


def _predictions_of(
    report: Report,
    work: Work,
    im: ImpactModel,
    X: np.ndarray,
    name: str,
    bare: Callable[[], jax.Array],
    until: float,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        numbers = itertools.count()

        def stored():
            im.predict(X, progress=False, output_dir=f"{folder}/{next(numbers)}")

        calls = {
            "to memory": lambda: im.predict(X, progress=False, store="memory"),
            "to a store": stored,
            "to means": lambda: im.predict(X, progress=False, reduce="mean"),
            "bare, left on the device": bare,
            "bare, to memory": lambda: np.asarray(bare()),
        }
        turns = take_turns(
            {way: lambda call=call: seconds(call) for way, call in calls.items()},
            work.turns,
            deadline=until,
        )
    for way in calls:
        floor = "bare, left on the device" if way == "to means" else "bare, to memory"
        values = len(X) * work.draws
        report(
            f"predict, {name} x {work.draws:,}: {way}",
            turns.median(way),
            "s",
            beside=floor,
            ratio=turns.ratio(floor, way),
            note=f"{values / turns.median(way) / 1e9:.2f}e9 values/s",
        )
