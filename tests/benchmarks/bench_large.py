"""A result larger than memory: rows streamed in, draws streamed to disk.

Run by hand: ``python -m tests.benchmarks.bench_large``. Writes 8 GB below ``--directory``, reads a
row and a draw of it, and removes it.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist

from aimz_lab.data import as_source
from aimz_lab.predictive import Predictor, Request
from tests.benchmarks.turns import machine_line


def kernel(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, 1.0), obs=y)


def batches(n_rows: int, size: int = 50_000):
    for first in range(0, n_rows, size):
        rng = np.random.default_rng(first)
        yield {"X": rng.normal(size=(min(size, n_rows - first), 20)).astype(np.float32)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--draws", type=int, default=1_000)
    parser.add_argument("--directory")
    options = parser.parse_args()
    print(machine_line())
    draws = np.random.default_rng(1).normal(size=(options.draws, 20)).astype(np.float32)
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        request = Request(
            kernel=kernel,
            output="y",
            key=jax.random.key(0),
            rows=as_source(lambda: batches(options.rows)),
            fields=("X",),
            draws={"beta": draws},
            store="persistent",
            output_dir=directory,
        )
        start = time.perf_counter()
        tree = Predictor().predict(request)
        wrote = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        y = tree["posterior_predictive"]["y"]
        print(f"{y.nbytes / 1e9:.1f} GB in {wrote:.1f} s, peak memory {peak:.2f} GB")
        for name, part in (("row", y[..., options.rows // 2]), ("draw", y[:, options.draws // 2])):
            start = time.perf_counter()
            values = part.values
            took = time.perf_counter() - start
            print(f"one {name}: {took:.2f} s, mean {values.mean():.3f}")


if __name__ == "__main__":
    main()
