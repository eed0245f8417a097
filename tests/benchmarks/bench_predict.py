"""Predictive calls: this library, the peer, NumPyro, and what the hardware allows, in turns.

Run by hand: ``python -m tests.benchmarks.bench_predict --peer /path/to/its/python``. Each library
has a process of its own, and they take turns, so that a shared machine is equally slow for all. A
figure is the best of its turns after a warm-up: seconds on the clock, seconds of CPU, and the
memory that the call took at most beyond what was in use before it. ``--floors`` compares models
with bare programs of the same work instead; see ``predict_floors.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DRAWS = 1_000
CASES = {
    "linear 100k x 20, memory": ("linear", 100_000, DRAWS, "memory"),
    "linear 100k x 20, persistent": ("linear", 100_000, DRAWS, "persistent"),
    "log-likelihood 100k x 20": ("linear", 100_000, DRAWS, "log_likelihood"),
    "ATE of two scenarios, 100k x 20": ("linear", 100_000, DRAWS, "ate"),
    "neural network 10k x 100": ("network", 10_000, DRAWS, "memory"),
    "neural network 100k x 100, 100 draws": ("network", 100_000, 100, "memory"),
    "first call, linear 1k x 5": ("first", 1_000, DRAWS, "memory"),
}
HIDDEN, FEATURES = 128, 100


def kernels():
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    def linear(X, y=None):
        beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(X @ beta, sigma), obs=y)

    def network(X, y=None):
        sizes = [FEATURES, HIDDEN, HIDDEN, HIDDEN, 1]
        z = X
        for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
            w = numpyro.sample(f"w{i}", dist.Normal(0.0, 1.0).expand([n_in, n_out]).to_event(2))
            z = z @ w
            z = jnp.tanh(z) if n_out > 1 else z
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(z[..., 0], 1.0), obs=y)

    return {"linear": linear, "network": network, "first": linear}


def posterior(model, n_draws, n_features):
    import numpy as np

    rng = np.random.default_rng(1)
    if model != "network":
        return {
            "beta": rng.normal(size=(n_draws, n_features)).astype(np.float32),
            "sigma": np.ones(n_draws, np.float32),
        }
    sizes = [FEATURES, HIDDEN, HIDDEN, HIDDEN, 1]
    return {
        f"w{i}": rng.normal(size=(n_draws, *shape)).astype(np.float32)
        for i, shape in enumerate(itertools.pairwise(sizes))
    }


def make_call(library, model, n_rows, n_draws, kind):
    """Return the call to measure, as a function without arguments."""
    import jax
    import numpy as np

    n_features = {"linear": 20, "network": FEATURES, "first": 5}[model]
    X = np.random.default_rng(0).normal(size=(n_rows, n_features)).astype(np.float32)
    draws, kernel, key = posterior(model, n_draws, n_features), kernels()[model], jax.random.key(0)
    if library == "floor":
        return floor(model, X, draws)
    if library == "numpyro":
        from numpyro.infer import Predictive
        from numpyro.infer.util import log_likelihood

        if kind == "log_likelihood":
            return lambda: jax.block_until_ready(
                log_likelihood(kernel, draws, X=X, y=X[:, 0], parallel=True)
            )
        predictive = Predictive(kernel, draws, parallel=True)
        return lambda: jax.block_until_ready(predictive(key, X))
    return facade_call(library, model, kind, kernel, X, draws, key)


def facade_call(library, model, kind, kernel, X, draws, key):
    import importlib

    import jax
    import numpyro
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoNormal

    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(1e-3), Trace_ELBO())
    im = importlib.import_module(library).ImpactModel(kernel, rng_key=key, inference=svi)
    im.set_posterior_sample({name: jax.numpy.asarray(values) for name, values in draws.items()})
    options = {"progress": False, "store": "memory"}
    if kind == "log_likelihood":
        return lambda: im.log_likelihood(X, X[:, 0], **options)
    if kind == "ate" and library == "aimz_lab":
        return one_pass(kernel, X, draws, key)
    if kind == "ate":
        arms = [{"X": X, "progress": False}, {"X": X + 1, "progress": False}]
        return lambda: (
            im.estimate_effect(args_baseline=arms[0], args_intervention=arms[1])[
                "posterior_predictive"
            ]["y"]
            .mean("rows")
            .compute()
        )
    if kind == "persistent":
        options["store"] = "persistent"
    return lambda: im.predict(X, rng_key=key, **options)


def one_pass(kernel, X, draws, key):
    from aimz_lab.predictive import Predictor, Request

    predictor = Predictor()
    arms = [
        Request(kernel=kernel, output="y", key=key, rows={"X": rows}, draws=draws, reduce="ate")
        for rows in (X, X + 1)
    ]
    return lambda: predictor.effect(*arms)["posterior_predictive"]["y_ate"].values


def floor(model, X, draws):
    """What has to be done at least: the matrix products, and writing the result once."""
    import jax
    import jax.numpy as jnp

    def one(draw):
        if model != "network":
            return X @ draw["beta"]
        z = X
        for i in range(3):
            z = jnp.tanh(z @ draw[f"w{i}"])
        return (z @ draw["w3"])[:, 0]

    run = jax.jit(lambda draws: jax.lax.map(one, draws))
    return lambda: jax.block_until_ready(run(draws))


def worker(library):
    """Carry out calls named on the standard input, and print what they took."""
    calls = {}
    for line in sys.stdin:
        case = line.strip()
        if case not in calls:
            calls.clear()
            gc.collect()
            calls[case] = make_call(library, *CASES[case])
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # forget the highest memory so far
        before, wall, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
        result = calls[case]()
        took = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps([*took, (memory("VmHWM") - before) / 1e6]), flush=True)
        del result


def memory(field):
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


@contextlib.contextmanager
def processes(pythons):
    """Start a process of each library; what they leave in files goes when they are killed."""
    with tempfile.TemporaryDirectory() as directory:
        started = {
            library: subprocess.Popen(
                [python, __file__, "--worker", library],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=os.environ | {"TMPDIR": directory},
            )
            for library, python in pythons.items()
        }
        try:
            yield started
        finally:
            for process in started.values():
                process.kill()
                process.wait()


def ask(process, case):
    process.stdin.write(case + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    return json.loads(answer) if answer else None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", default=sys.executable, help="a Python that has the peer")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--floors", action="store_true", help="beside bare programs instead")
    parser.add_argument("--share", type=float, default=1.0, help="of the rows, for a quick look")
    parser.add_argument("--worker")
    options = parser.parse_args()
    if options.floors:
        from tests.benchmarks.predict_floors import compare

        compare(options.only, options.turns, options.share)
        return
    if options.worker:
        worker(options.worker)
        return
    pythons = {"aimz_lab": sys.executable, "aimz": options.peer, "floor": sys.executable}
    print("| case | library | first s | best s | CPU s | ratio | MB |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        if options.only not in case:
            continue
        # NumPyro computes all draws side by side: of a network, it would take all memory.
        numpyro = {} if "network" in case else {"numpyro": sys.executable}
        with processes({**pythons, **numpyro}) as started:
            first = {library: ask(process, case) for library, process in started.items()}
            turns = {library: [] for library in started}
            for _ in range(0 if case.startswith("first") else options.turns):
                for library, process in started.items():
                    turns[library].append(first[library] and ask(process, case))
        report(case, first, turns)


def report(case, first, turns):
    best = {}
    for library, one in first.items():
        taken = [turn for turn in turns[library] if turn] or [one]
        best[library] = [min(column) for column in zip(*taken)] if one else None  # noqa: B905
    ours = best["aimz_lab"]
    for library, figures in best.items():
        if figures is None or ours is None:
            print(f"| {case} | {library} | failed |", flush=True)
            continue
        wall, cpu, megabytes = figures
        print(
            f"| {case} | {library} | {first[library][0]:.2f} | {wall:.2f} | {cpu:.2f} "
            f"| {wall / ours[0]:.2f} | {megabytes:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
