"""Speeds of ``fit`` and of chains on a device, beside bare programs, the peer and NumPyro."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import time
from collections.abc import Callable
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel
from aimz_lab.inference.feeds import where_to_gather
from tests.benchmarks.gpu_work import COLUMNS, Report, Work, kept_going, regression_rows
from tests.benchmarks.turns import seconds, take_turns


def kernel(X, n, y=None):
    """A linear model that the peer can train too: scaled by hand, which both leave alone."""
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("obs", n, subsample_size=X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, sigma), obs=y)


def make_svi(model=kernel) -> SVI:
    """An inference object, the same for all ways."""
    return SVI(model, AutoNormal(model), numpyro.optim.Adam(1e-3), Trace_ELBO())


class Fit:
    """Steps per second of ``fit``, of a library.

    Args:
        library: Its name.
        data: The rows.
        size: Rows of a batch.
        room: Bytes of rows that may stay on the device: 0 gathers batches on the host.
    """

    def __init__(self, library: str, data: tuple, size: int, room: int | None = None) -> None:
        self._im = importlib.import_module(library).ImpactModel(
            kernel, jax.random.key(0), make_svi()
        )
        self._data, self._n, self._size, self._room = data, len(data[1]), size, room

    def __call__(self, epochs: int) -> float:
        options = {"n": self._n, "num_samples": 2, "progress": False, "batch_size": self._size}
        placed = contextlib.nullcontext()
        if self._room is not None:
            placed = mock.patch.object(where_to_gather, "room_for_rows", return_value=self._room)
        with placed:
            took = seconds(lambda: self._im.fit(*self._data, epochs=epochs, **options))
        return epochs * -(-self._n // self._size) / took

    @property
    def spent(self) -> str:
        """Where the last run's seconds went; what overlaps with the steps is not waited for."""
        run = self._im.last_run
        spent = ", ".join(f"{what} {s:.2f}" for what, s in run.seconds_in.items())
        return f"{spent} of {run.elapsed_s:.2f} s; {run.transferred_bytes / 1e6:,.0f} MB moved"


class Scan:
    """Steps per second of a bare scan, or loop with a condition, that gathers rows by number."""

    def __init__(self, data: tuple, size: int, *, checked: bool = False) -> None:
        self._X, self._y = (jax.device_put(array) for array in data)
        self._n, self._size, self._svi = len(self._y), size, make_svi()
        self._key = jax.random.key(1)
        self._order = jax.jit(self._shuffled)
        self._run = jax.jit(self._checked if checked else self._scanned)
        self._state = self._svi.init(jax.random.key(0), self._X[:size], self._n, self._y[:size])

    def _shuffled(self, key):
        full = self._n // self._size
        order = jax.random.permutation(key, self._n)[: full * self._size]
        return order.reshape(full, self._size)

    def _step(self, X, y, state, rows):
        return self._svi.update(state, X[rows], self._n, y[rows])

    def _scanned(self, X, y, state, order):
        return jax.lax.scan(partial(self._step, X, y), state, order)

    def _checked(self, X, y, state, order):
        def body(carry):
            i, state, losses, _ = carry
            state, loss = self._step(X, y, state, order[i])
            return i + 1, state, losses.at[i].set(loss), jnp.isfinite(loss)

        start = 0, state, jnp.zeros(len(order)), jnp.ones((), bool)
        end = jax.lax.while_loop(lambda carry: (carry[0] < len(order)) & carry[3], body, start)
        return end[1], end[2]

    def __call__(self, epochs: int) -> float:
        full = self._n // self._size

        def run():
            for _ in range(epochs):
                self._key, key = jax.random.split(self._key)
                order = self._order(key)
                self._state, losses = self._run(self._X, self._y, self._state, order)
            jax.block_until_ready(losses)

        return epochs * full / seconds(run)


class StepByStep:
    """Steps per second of a loop that dispatches each step and reads its loss, as the peer's."""

    def __init__(self, data: tuple, size: int) -> None:
        self._data, self._size, self._svi = data, size, make_svi()
        self._n = len(data[1])
        self._update = jax.jit(lambda state, X, y: self._svi.update(state, X, self._n, y))
        X, y = (array[:size] for array in data)
        self._state = self._svi.init(jax.random.key(0), X, self._n, y)

    def __call__(self, epochs: int) -> float:
        X, y = self._data
        full = self._n // self._size

        def run():
            for epoch in range(epochs):
                order = np.random.default_rng(epoch).permutation(self._n)
                for first in range(0, full * self._size, self._size):
                    rows = order[first : first + self._size]
                    self._state, loss = self._update(self._state, X[rows], y[rows])
                    float(loss)

        return epochs * full / seconds(run)


def peer_of(data: tuple, size: int) -> tuple[str, Callable[[int], float]]:
    """Return the peer, or a loop like its own where it is not installed."""
    if importlib.util.find_spec("aimz") is None:
        return "step by step", StepByStep(data, size)
    return "aimz", Fit("aimz", data, size)


def fits(report: Report, work: Work, deadline: float) -> None:
    """``fit`` that gathers on the host or the device, beside a bare scan and the peer's loop."""
    began = time.perf_counter()
    for number, (size, n) in enumerate(work.rows.items(), 1):
        until = began + (deadline - began) * number / len(work.rows)
        with kept_going(report, f"fit, B = {size:,}"):
            _fits_of(report, work, size, n, until)


def _fits_of(report: Report, work: Work, size: int, n: int, until: float) -> None:
    data = regression_rows(n)
    name, peer = peer_of(data, size)
    ours = {
        "ours": Fit("aimz_lab", data, size),
        "ours, gathered on the host": Fit("aimz_lab", data, size, room=0),
        "ours, gathered on the device": Fit("aimz_lab", data, size, room=2**62),
    }
    ways = {
        **ours,
        "bare scan": Scan(data, size),
        "bare loop with a condition": Scan(data, size, checked=True),
        name: peer,
    }
    epochs = {}
    for way, run in ways.items():
        run(1)  # compiles
        epochs[way] = max(1, int(work.turn_s * run(1) * size / n))
    turns = take_turns(
        {way: lambda way=way, run=run: run(epochs[way]) for way, run in ways.items()},
        work.turns,
        deadline=until,
    )
    for way, run in ways.items():
        report(
            f"fit, B = {size:,}, N = {n:,}: {way}",
            turns.median(way),
            "steps/s",
            beside="bare scan",
            ratio=turns.ratio(way, "bare scan"),
            note=run.spent if way in ours else "",
        )


def schools(X, y=None):
    """Eight schools, not centred; ``X`` holds the standard errors."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", X.shape[0]):
        effect = numpyro.sample("effect", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(mu + tau * effect, X), obs=y)


def logistic(X, y=None):
    """A logistic regression."""
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=X @ beta), obs=y)


def chains(report: Report, work: Work, deadline: float) -> None:
    """``fit_on_batch`` with NUTS beside NumPyro's own run, after the compilation of both."""
    X, y = regression_rows(work.network)
    se = np.array([15, 10, 16, 11, 9, 11, 10, 18], np.float32)
    effects = np.array([28, 8, -3, 7, -1, 1, 18, 12], np.float32)
    cases = {
        "eight schools": (schools, se, effects, work.chain),
        f"logistic {work.network:,} x {COLUMNS}": (
            logistic,
            X,
            (y > 0).astype(np.int32),
            max(work.chain // 5, 2),
        ),
    }
    began = time.perf_counter()
    for number, (name, (model, X, y, count)) in enumerate(cases.items(), 1):
        until = began + (deadline - began) * number / len(cases)
        with kept_going(report, f"NUTS, {name}"):
            _chains_of(report, work, name, model, (X, y), count, until)


def _chains_of(
    report: Report, work: Work, name: str, model: Callable, data: tuple, count: int, until: float
) -> None:
    def sampler():
        return MCMC(
            NUTS(model),
            num_warmup=count,
            num_samples=count,
            num_chains=4,
            chain_method="vectorized",
            progress_bar=False,
        )

    im, theirs = ImpactModel(model, jax.random.key(0), inference=sampler()), sampler()

    def run_theirs():
        theirs.run(jax.random.key(0), X=data[0], y=data[1])
        jax.block_until_ready(theirs.get_samples())

    ways = {
        "ours": lambda: im.fit_on_batch(*data, progress=False, rng_key=jax.random.key(0)),
        "NumPyro": run_theirs,
    }
    turns = take_turns(
        {way: lambda call=call: seconds(call) for way, call in ways.items()},
        work.turns,
        deadline=until,
    )
    for way in ways:
        report(
            f"NUTS, {name}, 4 chains x {2 * count:,}: {way}",
            turns.median(way),
            "s",
            beside="NumPyro",
            ratio=turns.ratio("NumPyro", way),
        )
