"""Kill workers at random moments of ten predictions, and compare with one process, bit for bit.

By hand: ``python -m tests.cluster.kill_workers_ten``. It prints a line for each round, and fails at
the first difference.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
from distributed import Client, LocalCluster
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel, Mean

ROUNDS = 10
X = np.random.default_rng(0).normal(size=(400_000, 3)).astype(np.float32)
OPTIONS = {"rng_key": jax.random.key(3), "rows": "independent", "batch_size": 2_560}


def linear(X, y=None):
    slopes = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ slopes, 1.0), obs=y)


def predicted(im, how, folder, **options):
    """Return the draws, or their means, of a prediction."""
    ways = {
        "store": {"output_dir": folder},
        "memory": {"store": "memory"},
        "reduce": {"reduce": Mean(over="row")},
    }
    tree = im.predict(X, **OPTIONS, **ways[how], progress=False, **options)
    found = tree["posterior_predictive"]
    return found["y_mean" if how == "reduce" else "y"].to_numpy()


def kill_one(cluster, client, after_s, killed):
    """Kill a worker that has a part, after a while."""
    time.sleep(after_s)
    with contextlib.suppress(Exception):  # the round may be over
        busy = {address for address, keys in client.processing().items() if keys}
        [nanny, *_] = [one for one in cluster.workers.values() if one.worker_address in busy]
        os.kill(nanny.pid, signal.SIGKILL)
        killed.append(nanny.pid)


def new_cluster():
    """Return a cluster of three workers."""
    return LocalCluster(
        n_workers=3,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
    )


def main():
    svi = SVI(linear, AutoNormal(linear), numpyro.optim.Adam(0.01), Trace_ELBO())
    im = ImpactModel(linear, jax.random.key(0), svi=svi)
    im.set_posterior_sample({"b": np.random.default_rng(1).normal(size=(100, 3))})
    rng, kills, equal = np.random.default_rng(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        whole = {how: predicted(im, how, folder) for how in ("memory", "reduce")}
        whole["store"] = whole["memory"]
        for number in range(ROUNDS):
            how = ("store", "reduce", "memory")[number % 3]
            # Dask does not always start a killed worker again, so that each round has its own.
            with new_cluster() as cluster, Client(cluster) as client:
                client.wait_for_workers(3, timeout=60)
                killed = []
                arguments = cluster, client, rng.uniform(0.5, 5.0), killed
                killer = threading.Thread(target=kill_one, args=arguments)
                killer.start()
                began = time.monotonic()
                found = predicted(im, how, folder, executor=client)
                took = time.monotonic() - began
                killer.join()
            same = np.array_equal(found, whole[how])
            kills, equal = kills + len(killed), equal + same
            line = f"{number + 1:2} {how:6} {took:5.1f} s, killed {len(killed)}, equal: {same}"
            print(line, flush=True)  # noqa: T201
            assert same
        left = [path for path in Path(folder).iterdir() if path.suffix != ".zarr"]
        assert not left, left
    print(f"{equal} of {ROUNDS} equal, {kills} workers killed")  # noqa: T201


if __name__ == "__main__":
    main()
