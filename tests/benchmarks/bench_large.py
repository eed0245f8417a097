"""Memory of predictions larger than memory: rows streamed in, draws streamed to disk or averaged.

Run by hand: ``python -m tests.benchmarks.bench_large``; see ``--rows`` and ``--draws``. For each
number of rows a process of its own computes the mean of the draws by a reducer, or writes all draws
below ``--directory`` and removes them. The peak is what the call takes beyond what was in use
before, after a small call of the same kind. The bound is that of ``bytes_in_flight``, and what is
kept of all rows: a label of 8 bytes each, and a mean of 4. So it grows by some bytes a row, and not
by the draws.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import xarray as xr

from aimz_lab.data import as_source
from aimz_lab.predictive import Predictor, Request, bytes_in_flight
from tests.benchmarks.turns import machine_line

N_COLUMNS = 20


def kernel(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, 1.0), obs=y)


def batches(n_rows: int, size: int = 50_000) -> Iterator[dict[str, np.ndarray]]:
    for first in range(0, n_rows, size):
        rng = np.random.default_rng(first)
        yield {"X": rng.standard_normal((min(size, n_rows - first), N_COLUMNS), np.float32)}


def memory(field: str) -> int:
    """Return a figure of this process in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


def predict(n_rows: int, n_draws: int, kind: str, directory: str) -> xr.DataTree:
    """Average the draws of so many rows, or write them to a directory."""
    draws = np.random.default_rng(1).normal(size=(n_draws, N_COLUMNS)).astype(np.float32)
    keeping = {"reduce": "mean"} if kind == "reducer" else {"output_dir": directory}
    request = Request(
        kernel=kernel,
        output="y",
        key=jax.random.key(0),
        rows=as_source(lambda: batches(n_rows)),
        fields=("X",),
        draws={"beta": draws},
        store="memory" if kind == "reducer" else "persistent",
        **keeping,
    )
    return Predictor().predict(request)


def measure(n_rows: int, n_draws: int, kind: str, directory: str) -> None:
    """Print the line of one call."""
    predict(60_000, n_draws, kind, directory)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest memory so far
    before, began = memory("VmRSS"), time.perf_counter()
    tree = predict(n_rows, n_draws, kind, directory)
    took, peak = time.perf_counter() - began, memory("VmHWM") - before
    group = tree["posterior_predictive"].to_dataset()
    told = f"{group.nbytes / 1e6:,.0f} MB"
    if kind == "store":
        y = group["y"]
        for part in (y[..., n_rows // 2], y[:, n_draws // 2]):
            began = time.perf_counter()
            part.load()
            told += (
                f", a {'row' if part.ndim == 2 else 'draw'} in {time.perf_counter() - began:.2f} s"
            )
    kept = n_rows * (12 if kind == "reducer" else 8)
    bound = (bytes_in_flight(n_draws * 4, input_bytes=N_COLUMNS * 4) + kept) / 1e6
    print(
        f"| {kind} | {n_rows:,} | {took:.1f} | {1e9 * took / n_rows:,.0f} | {peak / 1e6:,.0f} "
        f"| {bound:,.0f} | {told} |",
        flush=True,
    )


def main() -> None:
    """Measure each call in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--kinds", nargs="+", default=["reducer", "store"])
    parser.add_argument("--directory")
    parser.add_argument("--alone", action="store_true", help="measure in this process")
    options = parser.parse_args()
    if options.alone:
        with tempfile.TemporaryDirectory(dir=options.directory) as directory:
            measure(options.rows[0], options.draws, options.kinds[0], directory)
        return
    print(f"{machine_line()}\n\n| kind | rows | s | ns a row | peak MB | bound MB | result |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for kind in options.kinds:
        for n_rows in options.rows:
            asked = ["--rows", str(n_rows), "--draws", str(options.draws), "--kinds", kind]
            place = ["--directory", options.directory] if options.directory else []
            module = ["-m", "tests.benchmarks.bench_large", "--alone"]
            subprocess.run([sys.executable, *module, *asked, *place], check=True)


if __name__ == "__main__":
    main()
