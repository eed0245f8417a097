"""Predictions beside what the hardware allows: bare matrix products and noise, in one program.

Run by hand: ``python -m tests.benchmarks.bench_predict --floors``. Each floor is one jitted program
over the same blocks of 256 rows and the same draws, which computes the same distribution and keeps
all values in memory: no kernel, no labels, no checks. It has our compiler options and our random
bits, and chunks of draws of the size that is best here. Both take turns in one process. Small calls
come last, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import random
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel
from aimz_lab.inference.compiling import FULL, compiler_options
from tests.benchmarks.turns import machine_line, seconds, take_turns

BLOCK, DRAWS, GROUPS = 256, 1_000, 200
LAYERS = ((20, 64), (64, 64), (64, 1))
CHUNK_VALUES = 2**18
SIZES = {"linear": 100_000, "logistic": 100_000, "Poisson": 20_000, "hierarchical": 100_000}
SIZES["neural network"] = 10_000

Draws = Mapping[str, jax.Array]


def priors(name: str) -> Draws:
    """Sample the sites of a model without rows, as the kernel of that model does."""
    if name == "neural network":
        return {
            f"w{i}": numpyro.sample(f"w{i}", dist.Normal(0.0, 1.0).expand(shape).to_event(2))
            for i, shape in enumerate(LAYERS)
        }
    sites = {"beta": numpyro.sample("beta", dist.Normal(0.0, 0.3).expand([20]).to_event(1))}
    if name == "hierarchical":
        with numpyro.plate("groups", GROUPS):
            sites["level"] = numpyro.sample("level", dist.Normal(0.0, 1.0))
    return sites


def location(name: str, X: jax.Array, draw: Draws) -> jax.Array:
    """Compute the location of the output: one matrix product, three for the network."""
    if name == "neural network":
        for i in range(len(LAYERS) - 1):
            X = jnp.tanh(X @ draw[f"w{i}"])
        return (X @ draw[f"w{len(LAYERS) - 1}"])[..., 0]
    if name == "hierarchical":
        return X[..., 1:] @ draw["beta"] + draw["level"][X[..., 0].astype(jnp.int32)]
    return X @ draw["beta"]


def kernel_of(name: str) -> Callable:
    """Return the kernel of a model."""

    def kernel(X: jax.Array, y: jax.Array | None = None) -> None:
        eta = location(name, X, priors(name))
        family = {
            "logistic": lambda: dist.Bernoulli(logits=eta),
            "Poisson": lambda: dist.Poisson(jnp.exp(eta)),
        }
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", family.get(name, lambda: dist.Normal(eta, 1.0))(), obs=y)

    return kernel


def noise_of(name: str, key: jax.Array, eta: jax.Array) -> jax.Array:
    """Draw the output of a block."""
    if name == "logistic":
        return random.bernoulli(key, jax.nn.sigmoid(eta)).astype(jnp.int32)
    if name == "Poisson":
        return random.poisson(key, jnp.exp(eta))
    return eta + random.normal(key, eta.shape)


def floor_of(name: str, X: np.ndarray, draws: Draws) -> Callable[[], jax.Array]:
    """Return the call that computes the same as a prediction, in one program."""
    n_blocks = -(-len(X) // BLOCK)
    padded = np.pad(X, ((0, n_blocks * BLOCK - len(X)), (0, 0)), mode="edge")
    blocks = jnp.asarray(padded.reshape(n_blocks, BLOCK, -1))

    def one_draw(given: tuple[jax.Array, Draws]) -> jax.Array:
        number, draw = given
        of_draw = random.fold_in(random.key(0), number)

        def one_block(block: jax.Array, rows: jax.Array) -> jax.Array:
            eta = location(name, rows, draw)
            return noise_of(name, random.fold_in(of_draw, block), eta)

        return jax.vmap(one_block)(jnp.arange(n_blocks), blocks)

    chunk = 1 if name == "neural network" else max(CHUNK_VALUES // len(X), 1)

    def run(draws: Draws) -> jax.Array:
        given = jnp.arange(DRAWS), draws
        if chunk == 1:
            return jax.lax.map(one_draw, given)
        return jax.lax.map(one_draw, given, batch_size=chunk)

    with jax.threefry_partitionable(False):
        traced = jax.jit(run).trace(draws)
        compiled = traced.lower().compile(compiler_options=compiler_options(FULL))
    return lambda: jax.block_until_ready(compiled(draws))


def model_of(name: str) -> tuple[ImpactModel, Draws, int]:
    """Return a model with draws, and its number of columns."""
    kernel, n_columns = kernel_of(name), 21 if name == "hierarchical" else 20
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(1e-3), Trace_ELBO())
    rng = np.random.default_rng(1)
    shapes = {"beta": (20,), "level": (GROUPS,)} if name == "hierarchical" else {"beta": (20,)}
    if name == "neural network":
        shapes = {f"w{i}": shape for i, shape in enumerate(LAYERS)}
    draws = {
        site: jnp.asarray(0.3 * rng.normal(size=(DRAWS, *shape)), jnp.float32)
        for site, shape in shapes.items()
    }
    return ImpactModel(kernel, random.key(0), svi).set_posterior_sample(draws), draws, n_columns


def inputs(name: str, n_rows: int, n_columns: int) -> np.ndarray:
    """Return inputs; the first column of the hierarchical model is the number of a group."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_columns)).astype(np.float32)
    if name == "hierarchical":
        X[:, 0] = rng.integers(GROUPS, size=n_rows)
    return X


def compare(only: str, turns: int, share: float) -> None:
    """Print each model's time beside its floor, and the time of small calls."""
    print(f"{machine_line()}\n\n| model | rows | ours s | floor s | floor/ours |")
    print("|---|---|---|---|---|")
    for name, full in SIZES.items():
        if only not in name:
            continue
        im, draws, n_columns = model_of(name)
        X = inputs(name, int(full * share), n_columns)
        ways = {
            "ours": lambda im=im, X=X: im.predict(X, store="memory", progress=False),
            "floor": floor_of(name, X, draws),
        }
        taken = take_turns(
            {way: lambda call=call: seconds(call) for way, call in ways.items()}, turns
        )
        middle = " | ".join(f"{taken.median(way):.3f}" for way in ways)
        print(f"| {name} | {len(X):,} | {middle} | {taken.line('floor', 'ours')} |", flush=True)
    im, _, n_columns = model_of("linear")
    few = inputs("linear", 10, n_columns)
    small = {
        "predict_on_batch": lambda: im.predict_on_batch(few),
        "store='memory'": lambda: im.predict(few, store="memory", progress=False),
        "to a temporary store": lambda: im.predict(few, progress=False),
    }
    taken = take_turns(
        {way: lambda call=call: seconds(call) for way, call in small.items()}, 30, warm_ups=3
    )
    for way in small:
        times = f"median {1e3 * taken.median(way):.1f}, least {1e3 * taken.best(way):.1f}"
        print(f"10 rows x {DRAWS:,} draws, {way}: {times} ms", flush=True)
