"""Steps per second of ``fit``: this library, the peer, and a bare scan, in one run.

Run by hand in an environment that has both: ``python tests/benchmarks/bench_fit.py``. The three
take turns; each figure is the best of its turns after a warm-up, as a ratio the fairest on a shared
machine.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
import warnings

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

N, K = 100_000, 20
EPOCHS = {32: 200, 256: 200, 4096: 60}, {32: 1, 256: 4, 4096: 30}
"""Epochs of a turn, of ours and the scan, and of the peer: a second or less each."""


def kernel(X, y=None):
    """A linear model that the peer can train too: scaled by hand, which both leave alone."""
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([K]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("obs", N, subsample_size=X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, sigma), obs=y)


def make_svi():
    return SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(1e-3), Trace_ELBO())


def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, K)).astype(np.float32)
    return X, (X @ rng.normal(size=K) + rng.normal(size=N)).astype(np.float32)


class OfModel:
    """Times ``fit`` of a library's ImpactModel."""

    def __init__(self, package, size, **options):
        self._options = {"batch_size": size, "num_samples": 2, "progress": False} | options
        self.model = importlib.import_module(package).ImpactModel(
            kernel, jax.random.key(0), make_svi()
        )

    def rate(self, X, y, epochs):
        began = time.perf_counter()
        self.model.fit(X, y, epochs=epochs, **self._options)
        return epochs * -(-len(y) // self._options["batch_size"]) / (time.perf_counter() - began)


class OfScan:
    """Times a jitted scan over batches that are on the device already: what no loop can beat."""

    def __init__(self, size):
        self._size, self._svi, self._state = size, make_svi(), None

        def step(state, batch):
            return self._svi.update(state, **batch)

        self._run = jax.jit(lambda state, batches: jax.lax.scan(step, state, batches))

    def rate(self, X, y, epochs):
        full = len(y) // self._size
        cut = full * self._size
        batches = {
            "X": jax.device_put(X[:cut].reshape(full, self._size, K)),
            "y": jax.device_put(y[:cut].reshape(full, self._size)),
        }
        if self._state is None:
            self._state = self._svi.init(
                jax.random.key(0), **{name: a[0] for name, a in batches.items()}
            )
        began = time.perf_counter()
        for _ in range(epochs):
            self._state, losses = self._run(self._state, batches)
            jax.block_until_ready(losses)
        return epochs * full / (time.perf_counter() - began)


def listeners():
    """What a user attaches: history, early stopping that never stops, and the dashboard."""
    lab = importlib.import_module("aimz_lab.lab")
    callbacks = importlib.import_module("aimz_lab.lab.callbacks")
    return [callbacks.History(), callbacks.EarlyStopping(patience=10**9), lab.LiveDashboard()]


def main():
    """Measure and print one line a batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 256, 4096])
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--watched", action="store_true", help="also with callbacks attached")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    X, y = data()
    for size in options.sizes:
        runners = {"ours": OfModel("aimz_lab", size), "scan": OfScan(size)}
        if not options.no_peer:
            runners["peer"] = OfModel("aimz", size)
        if options.watched:
            runners["watched"] = OfModel("aimz_lab", size, callbacks=listeners())
        best = dict.fromkeys(runners, 0.0)
        for turn in range(options.turns + 1):
            for name, runner in runners.items():
                rate = runner.rate(X, y, EPOCHS[name == "peer"].get(size, 10))
                if turn:
                    best[name] = max(best[name], rate)
        ratios = {f"ours/{name}": round(best["ours"] / v, 2) for name, v in best.items()}
        print(json.dumps({"batch": size, **{k: round(v) for k, v in best.items()}, **ratios}))


if __name__ == "__main__":
    main()
