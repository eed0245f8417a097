"""Predictions on a Dask cluster: memory, scaling, and what a very large one would need.

``python -m tests.benchmarks.bench_cluster memory`` reads more and more rows from a Zarr array and
prints the peak memory of this process and of its workers, with a reducer and with a store.
``... scaling`` measures weak and strong scaling with 1, 2 and 4 workers, fits a model of cost,
checks it on each point by the others, and says how much equal calls differ; ``--json PATH`` keeps
its figures, and ``--folder /dev/shm`` leaves the disk out. Goals: memory grows by less than a tenth
from 10^6 to 10^7 rows; the model is within a quarter on points it has not seen.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import psutil
import zarr
from distributed import Client, LocalCluster
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel, Mean
from aimz_lab.predictive.programs.sizes import blocks_per_call

COLUMNS = 4
CHUNK_ROWS = 100_000
REPEATS = 3
KEY = jax.random.key(1)


def linear(X, y=None):
    slopes = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ slopes, 1.0), obs=y)


def model(n_draws):
    svi = SVI(linear, AutoNormal(linear), numpyro.optim.Adam(0.01), Trace_ELBO())
    im = ImpactModel(linear, jax.random.key(0), svi=svi)
    draws = np.random.default_rng(1).normal(size=(n_draws, COLUMNS)).astype(np.float32)
    im.set_posterior_sample({"b": draws})
    return im


def rows_on_disk(folder, n):
    """Write rows to a Zarr array, a chunk at a time."""
    path = Path(folder) / f"rows-{n}.zarr"
    if not path.exists():
        made = zarr.create_array(
            path, shape=(n, COLUMNS), chunks=(min(CHUNK_ROWS, n), COLUMNS), dtype="float32"
        )
        rng = np.random.default_rng(0)
        for first in range(0, n, CHUNK_ROWS):
            count = min(CHUNK_ROWS, n - first)
            made[first : first + count] = rng.normal(size=(count, COLUMNS)).astype(np.float32)
    return zarr.open_array(path, mode="r")


def keep_to_core(core):
    """Keep this process, and all threads that it has or begins, to one core."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


@contextmanager
def cluster_of(n_workers):
    """Workers of one core each, as on machines of one core."""
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    with (
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(n_workers)
        for number, address in enumerate(client.nthreads()):
            client.run(keep_to_core, number % os.cpu_count(), workers=[address])
        yield client


def timed(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


class PeakMemory:
    """The most memory of this process and of workers while a block runs, in MB."""

    def __init__(self, pids):
        self._watched = {"client": [os.getpid()], "worker": pids}
        self.peak = dict.fromkeys(self._watched, 0.0)
        self._over = threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _watch(self):
        processes = {k: [psutil.Process(p) for p in v] for k, v in self._watched.items()}
        while not self._over.wait(0.02):
            for name, each in processes.items():
                most = max(process.memory_info().rss for process in each) / 1e6
                self.peak[name] = max(self.peak[name], most)


def memory(sizes, n_draws, folder):
    """Print the peak memory by number of rows, for a reducer and a store."""
    im = model(n_draws)
    print(f"{n_draws} draws of one site, rows of {COLUMNS} float32 from Zarr, 2 workers")
    print("rows        way     s     client MB  largest worker MB  result MB")
    with cluster_of(2) as client:
        pids = list(client.run(os.getpid).values())
        out = Path(folder) / "out"
        ways = {"reduce": {"reduce": Mean(over="row")}, "store": {"output_dir": out}}
        for how in ways.values():
            im.predict(
                rows_on_disk(folder, sizes[0]), executor=client, rng_key=KEY, progress=False, **how
            )
        for n in sizes:
            rows = rows_on_disk(folder, n)
            for name, how in ways.items():
                shutil.rmtree(out, ignore_errors=True)
                with PeakMemory(pids) as watched:
                    took = timed(
                        lambda rows=rows, how=how: im.predict(
                            rows, executor=client, rng_key=KEY, progress=False, **how
                        )
                    )
                result = 4 * n * n_draws / 1e6 if name == "store" else 4 * n_draws / 1e6
                peak = watched.peak
                print(
                    f"{n:>10,}  {name:6} {took:5.1f}  {peak['client']:9.0f}  "
                    f"{peak['worker']:17.0f}  {result:9.1f}",
                    flush=True,
                )


def one_point(client, im, rows, way, folder):
    """Return the seconds of some equal calls, after one that compiles."""
    out = Path(folder) / "out"
    how = {"reduce": Mean(over="row")} if way == "reduce" else {"output_dir": out}
    options = {"executor": client, "rng_key": KEY, "rows": "independent", "progress": False}

    def once():
        shutil.rmtree(out, ignore_errors=True)
        os.sync()  # or the disk would still write the last one
        return timed(lambda: im.predict(rows, **options, **how))

    once()
    return [once() for _ in range(REPEATS)]


def scaling(folder, base, n_draws):
    """Return measured points: way, workers, rows and the seconds of equal calls."""
    im, points = model(n_draws), []
    for workers in (1, 2, 4):
        with cluster_of(workers) as client:
            for way in ("reduce", "store"):
                for n in sorted({base, 2 * base, 4 * base, base * workers}):
                    took = one_point(client, im, rows_on_disk(folder, n), way, folder)
                    points.append({"way": way, "workers": workers, "rows": n, "s": sorted(took)})
                    seconds = " ".join(f"{s:.2f}" for s in sorted(took))
                    print(f"{way:6} {workers} workers {n:>9,} rows: {seconds} s", flush=True)
    return points


def features(rows, workers, n_draws, cores):
    """Return what a call costs: a constant, the parts; and for each core compiled calls, values."""
    values = rows * n_draws
    parts = max(-(-4 * values // 2**29), 8 * workers)
    call_rows = 256 * blocks_per_call(rows, 4 * n_draws, None, 1)
    each = min(workers, cores)
    return np.array([1.0, parts, -(-rows // call_rows) / each, values / each])


def fitted(points, n_draws, cores):
    """Fit the seconds of each of the :func:`features`, all at least 0, to the quickest calls."""
    from scipy.optimize import nnls

    made = np.array([features(p["rows"], p["workers"], n_draws, cores) for p in points])
    took = np.array([p["s"][0] for p in points])
    found, _ = nnls(made / took[:, None], np.ones(len(took)))  # relative errors
    return found


def report(points, n_draws, cores):
    """Print the fitted model, its errors on points left out, and how much equal calls differ."""
    found = {}
    for way in ("reduce", "store"):
        own = [p for p in points if p["way"] == way]
        errors = []
        for p in own:
            cost = fitted([other for other in own if other is not p], n_draws, cores)
            errors.append(features(p["rows"], p["workers"], n_draws, cores) @ cost / p["s"][0] - 1)
        cost = fitted(own, n_draws, cores)
        spread = [p["s"][-1] / p["s"][0] - 1 for p in own]
        found[way] = {"cost": cost.tolist(), "errors": errors, "spread": spread}
        print(
            f"{way:6} {cost[0]:.3f} s a call, {1e3 * cost[1]:.1f} ms a part, "
            f"{1e3 * cost[2]:.1f} ms a compiled call, {1e9 * cost[3]:.2f} ns a value; points "
            f"left out are off by {', '.join(f'{100 * e:+.0f}%' for e in errors)}; the "
            f"slowest of {REPEATS} equal calls took {100 * np.median(spread):.0f}% longer than the "
            f"quickest, and at most {100 * max(spread):.0f}%"
        )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["memory", "scaling"])
    parser.add_argument("--rows", type=int, nargs="*", default=[10**6, 3 * 10**6, 10**7])
    parser.add_argument("--base", type=int, default=500_000)
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="where to write; by default a temporary one")
    options = parser.parse_args()
    cores = os.cpu_count()
    print(f"JAX {jax.__version__}, {cores} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.part == "memory":
            memory(options.rows, options.draws, folder)
            return
        points = scaling(folder, options.base, options.draws)
        costs = report(points, options.draws, cores)
        if options.json:
            options.json.write_text(json.dumps({"points": points, "costs": costs}))


if __name__ == "__main__":
    main()
