"""Rows per second of ``fit`` on streams, beside what each source delivers alone, in one run.

Run by hand: ``python -m tests.benchmarks.bench_streams``. A generator gathers shuffled rows; Zarr
and Parquet are read from a temporary folder, batch by batch; a PyTorch ``DataLoader`` joins where
PyTorch is installed. The goal is 0.8 of the source alone.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import tempfile
import time
import warnings
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from aimz_lab import ImpactModel
from tests.benchmarks.bench_fit import N, data, make_svi
from tests.benchmarks.turns import machine_line, take_turns


def of_generator(rows, size, folder):
    X, y = rows

    def batches(epoch):
        order = np.random.default_rng(epoch).permutation(N)
        for start in range(0, N, size):
            some = order[start : start + size]
            yield {"X": X[some], "y": y[some]}

    return batches


def of_zarr(rows, size, folder):
    stored = {
        name: zarr.create_array(folder / name, data=array, chunks=(size, *array.shape[1:]))
        for name, array in zip(("X", "y"), rows, strict=True)
    }

    def batches(epoch):
        for start in range(0, N, size):
            yield {name: array[start : start + size] for name, array in stored.items()}

    return batches


def of_parquet(rows, size, folder):
    X, y = rows
    columns = {f"x{i}": X[:, i] for i in range(X.shape[1])}
    pq.write_table(pa.table({**columns, "y": y}), folder / "rows.parquet")

    def batches(epoch):
        for batch in pq.ParquetFile(folder / "rows.parquet").iter_batches(batch_size=size):
            values = [column.to_numpy() for column in batch.columns]
            yield {"X": np.stack(values[:-1], axis=1), "y": values[-1]}

    return batches


def of_torch(rows, size, folder):
    from torch import from_numpy
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(*map(from_numpy, rows)), batch_size=size, shuffle=True)
    return lambda epoch: loader


SOURCES = {"generator": of_generator, "zarr": of_zarr, "parquet": of_parquet, "torch": of_torch}


def alone(batches, epochs):
    """Rows per second of reading the batches and dropping them."""
    began = time.perf_counter()
    for epoch in range(epochs):
        for _ in batches(epoch):
            pass
    return epochs * N / (time.perf_counter() - began)


def trained(model, batches, epochs):
    """Rows per second of training on them."""
    began = time.perf_counter()
    model.fit(batches, epochs=epochs, n_obs=N, num_samples=2, progress=False)
    return epochs * N / (time.perf_counter() - began)


def main():
    """Measure, and print one line for each source and batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 4096])
    parser.add_argument("--sources", nargs="+", default=list(SOURCES))
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn of the source alone")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(machine_line(), flush=True)
    rows = data(options.columns)
    for size in options.sizes:
        for name in options.sources:
            if name == "torch" and importlib.util.find_spec("torch") is None:
                print("torch: not installed here")
                continue
            with tempfile.TemporaryDirectory() as folder:
                batches = SOURCES[name](rows, size, Path(folder))
                alone(batches, 1)
                epochs = max(1, round(options.seconds * alone(batches, 1) / N))
                svi = make_svi(options.columns)
                model = ImpactModel(svi.model, jax.random.key(0), svi)
                ways = {
                    "ours": functools.partial(trained, model, batches, epochs),
                    "source": functools.partial(alone, batches, epochs),
                }
                turns = take_turns(ways, options.turns)
                rate = turns.median("source")
                line = turns.line("ours", "source")
                print(f"{name}, batch {size:,}: {line}; the source {rate:,.0f} rows/s", flush=True)


if __name__ == "__main__":
    main()
