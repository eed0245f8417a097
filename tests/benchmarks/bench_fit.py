"""Steps per second of ``fit``, beside bare scans of the same step and the peer, in one run.

Run by hand: ``python -m tests.benchmarks.bench_fit``; the peer joins where it is installed. The
floor, ``gathering``, is a jitted ``lax.scan`` over shuffled row numbers that gathers its rows from
arrays on the device; its row numbers lie ready. ``shuffling`` is the same, and draws the order of
each epoch by NumPy while the epoch before computes, as a loop on shuffled rows has to. ``ready``
scans over batches that lie ready. Sources of batches: ``bench_streams``.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import time
import warnings

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from tests.benchmarks.turns import machine_line, take_turns

N = 100_000


def make_svi(columns):
    """Infer a linear model that the peer can train too: scaled by hand, which both leave alone."""

    def kernel(X, y=None):
        beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([columns]).to_event(1))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
        with numpyro.plate("obs", N, subsample_size=X.shape[0]):
            numpyro.sample("y", dist.Normal(X @ beta, sigma), obs=y)

    return SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(1e-3), Trace_ELBO())


def data(columns):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, columns)).astype(np.float32)
    return X, (X @ rng.normal(size=columns) + rng.normal(size=N)).astype(np.float32)


class OfModel:
    """Rate of ``fit`` of a library's ImpactModel, all that a call does included."""

    def __init__(self, package, rows, size, steps, **options):
        self._rows, self._epochs = rows, max(1, round(steps * size / N))
        self._options = {"batch_size": size, "num_samples": 2, "progress": False} | options
        svi = make_svi(rows[0].shape[1])
        self.model = importlib.import_module(package).ImpactModel(svi.model, jax.random.key(0), svi)

    def __call__(self):
        began = time.perf_counter()
        self.model.fit(*self._rows, epochs=self._epochs, **self._options)
        steps = self._epochs * -(-N // self._options["batch_size"])
        return steps / (time.perf_counter() - began)


class OfScan:
    """Rate of a jitted scan, on full batches.

    These lie in order on the device if ``is_ready``; if ``is_shuffling``, each epoch has an order
    of its own, drawn while the epoch before computes.
    """

    def __init__(self, rows, size, steps, *, is_ready=False, is_shuffling=False):
        self._rng = np.random.default_rng(0) if is_shuffling else None
        full = N // size
        X, y = rows
        svi = make_svi(X.shape[1])
        self._state = svi.init(jax.random.key(0), X=X[:size], y=y[:size])
        self._epochs, self._full = max(1, round(steps / full)), full
        if is_ready:
            cut = full * size
            batches = X[:cut].reshape(full, size, -1), y[:cut].reshape(full, size)
            self._args = [jax.device_put(batches)] * 2

            def run(state, batches):
                return jax.lax.scan(lambda s, b: svi.update(s, X=b[0], y=b[1]), state, batches)

            self._run = jax.jit(run)
            return
        self._size = size
        self._args = [self._order(np.random.default_rng(i)) for i in range(4)]
        arrays = jax.device_put((X, y))

        def run(state, arrays, order):
            X, y = arrays
            return jax.lax.scan(lambda s, i: svi.update(s, X=X[i], y=y[i]), state, order)

        compiled = jax.jit(run)
        self._run = lambda state, order: compiled(state, arrays, order)

    def _order(self, rng):
        order = rng.permutation(N)[: self._full * self._size].astype(np.int32)
        return jax.device_put(order.reshape(self._full, self._size))

    def __call__(self):
        began = time.perf_counter()
        args = self._args[0]
        for epoch in range(1, self._epochs + 1):
            self._state, losses = self._run(self._state, args)
            args = self._order(self._rng) if self._rng else self._args[epoch % len(self._args)]
            jax.block_until_ready(losses)
        return self._epochs * self._full / (time.perf_counter() - began)


def listeners():
    """What a user attaches: history, early stopping that never stops, and the dashboard."""
    lab = importlib.import_module("aimz_lab.lab")
    callbacks = importlib.import_module("aimz_lab.lab.callbacks")
    return [callbacks.History(), callbacks.EarlyStopping(patience=10**9), lab.LiveDashboard()]


def main():
    """Measure, and print one line for each number of columns, batch size and way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 256, 4096])
    parser.add_argument("--columns", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn of each way")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--watched", action="store_true", help="also with callbacks attached")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(machine_line(), flush=True)
    for columns in options.columns:
        rows = data(columns)
        for size in options.sizes:
            measure(rows, size, options)


def measure(rows, size, options):
    """Measure and print one batch size."""
    probe = OfScan(rows, size, 1)
    probe()
    steps = int(max(probe() for _ in range(3)) * options.seconds)
    ways = {
        "ours": OfModel("aimz_lab", rows, size, steps),
        "gathering": OfScan(rows, size, steps),
        "shuffling": OfScan(rows, size, steps, is_shuffling=True),
        "ready": OfScan(rows, size, steps, is_ready=True),
    }
    if not options.no_peer and importlib.util.find_spec("aimz"):
        ways["peer"] = OfModel("aimz", rows, size, min(steps, 1_000))
    if options.watched:
        ways["watched"] = OfModel("aimz_lab", rows, size, steps, callbacks=listeners())
    turns = take_turns(ways, options.turns)
    shape = f"{rows[0].shape[1]:>4} columns, batch {size:>5}"
    rates = ", ".join(f"{name} {turns.median(name):,.0f}" for name in ways)
    print(f"{shape}: steps/s {rates}")
    for other in [name for name in ways if name != "ours"]:
        print(f"{shape}: {turns.line('ours', other)}", flush=True)


if __name__ == "__main__":
    main()
