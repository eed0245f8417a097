"""Time per row over sizes, for wide and awkward data: no cliff where data grows or changes type.

Run by hand: ``python -m tests.benchmarks.bench_shapes``, or with ``--only`` for some cases. A line
has the time per row, or per step, at each size, and the slope of the logarithm of the whole time
over that of the size, overall and between the last two: 1 where each row takes as long as the one
before, less where a fixed part is spread over more rows, more where there is a cliff.

``step, batch size`` is a step on batches of growing size, and ``step, rows`` one on batches of 256
of growing data, whose slope should be 0. ``predict`` draws 100 times in memory, and ``reduce``
averages the draws. Rows on disk are written to the temporary folder once, 0.8 GB for 10^7.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import zarr
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel
from tests.benchmarks.turns import machine_line

DRAWS, FEWEST_STEPS = 100, 200
BATCHES = (64, 512, 4096)
ROWS = (2_000, 20_000, 200_000)
TRAINED = (1_000, 10_000, 100_000)
CHUNK = 65_536
QUIET = {"progress": False}
ON_DISK = "on disk"
FOLDER = Path(tempfile.gettempdir()) / "aimz_lab-bench-shapes"


def linear(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, 1.0), obs=y)


def many_sites(X, y=None):
    slopes = [numpyro.sample(f"slope_{i}", dist.Normal(0.0, 1.0)) for i in range(X.shape[1])]
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ jnp.stack(slopes), 1.0), obs=y)


def groups(X, n_groups, y=None):
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    with numpyro.plate("groups", n_groups):
        level = numpyro.sample("level", dist.Normal(0.0, scale))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[X[:, 0]], 1.0), obs=y)


def floats(n_columns: int, dtype: object = np.float32) -> Callable[[int], dict]:
    """Make standard normal columns of a type, and an output in float32."""

    def make(n_rows: int) -> dict:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(n_rows, n_columns)).astype(np.float32)
        y = X[:, 0] + rng.normal(size=n_rows).astype(np.float32)
        return {"X": X.astype(dtype), "y": y}

    return make


def codes(n_groups: int, dtype: object) -> Callable[[int], dict]:
    """Make numbers of groups of a type, and an output in float32."""

    def make(n_rows: int) -> dict:
        rng = np.random.default_rng(0)
        X = rng.integers(n_groups, size=(n_rows, 1)).astype(dtype)
        return {"X": X, "y": rng.normal(size=n_rows).astype(np.float32), "n_groups": n_groups}

    return make


CASES = {
    "20 columns": (linear, floats(20)),
    "100 sites": (many_sites, floats(100)),
    "100 columns": (linear, floats(100)),
    "500 columns": (linear, floats(500)),
    "2,000 groups": (groups, codes(2_000, np.int32)),
    "100 groups": (groups, codes(100, np.int32)),
    "100 groups, int8": (groups, codes(100, np.int8)),
    "20 columns, float64": (linear, floats(20, np.float64)),
    "20 columns, bfloat16": (linear, floats(20, jnp.bfloat16)),
    "20 columns, x64": (linear, floats(20, np.float64)),
}


def model(kernel: Callable) -> ImpactModel:
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(1e-3), Trace_ELBO())
    return ImpactModel(kernel, jax.random.key(0), svi)


def best_of(call: Callable[[], object], turns: int = 2) -> float:
    """Return the least seconds of some calls, after one that compiles."""
    call()
    taken = []
    for _ in range(turns):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return min(taken)


def line(case: str, what: str, sizes: tuple[int, ...], seconds: list[float], per: str) -> None:
    """Print the time per row, or per step, and how fast it grows: overall, and at the end."""
    logs = np.log(sizes), np.log(seconds)
    slope = np.polyfit(*logs, 1)[0]
    last = (logs[1][-1] - logs[1][-2]) / (logs[0][-1] - logs[0][-2])
    each = 1e6 * np.array(seconds) if per == "us a step" else 1e9 * np.divide(seconds, sizes)
    at, times = (" / ".join(f"{value:,.0f}" for value in values) for values in (sizes, each))
    print(f"| {case} | {what} | {at} | {times} {per} | {slope:.2f} | {last:.2f} |", flush=True)


def measure(case: str) -> None:
    """Print the lines of a case in memory."""
    kernel, make = CASES[case]
    im, data = model(kernel), make(ROWS[-1])
    others = {name: value for name, value in data.items() if name not in ("X", "y")}

    def step(n_rows: int, batch_size: int) -> float:
        """Return the seconds of a step, from a fit of as many epochs as make enough steps."""
        rows, steps = (data["X"][:n_rows], data["y"][:n_rows]), -(-n_rows // batch_size)
        epochs = -(-FEWEST_STEPS // steps)
        options = {"batch_size": batch_size, "epochs": epochs, "num_samples": DRAWS}
        return best_of(lambda: im.fit(*rows, **others, **options, **QUIET), 2) / epochs / steps

    def predict(n_rows: int, **options: object) -> None:
        im.predict(data["X"][:n_rows], **others, **options, **QUIET)

    seconds = [step(TRAINED[-1], size) for size in BATCHES]
    line(case, "step, batch size", BATCHES, seconds, "ns a row")
    line(case, "step, rows", TRAINED, [step(n, 256) for n in TRAINED], "us a step")
    for what, options in (("predict", {"store": "memory"}), ("reduce", {"reduce": "mean"})):
        seconds = [best_of(lambda n=n, o=options: predict(n, **o)) for n in ROWS]
        line(case, what, ROWS, seconds, "ns a row")


def on_disk(case: str, rows: tuple[int, ...]) -> None:
    """Print the lines of rows in Zarr stores, read chunk by chunk."""
    im = model(linear)
    stored = {n: stored_rows(n) for n in rows}

    def batches(n_rows: int, size: int, *names: str) -> Iterator[dict[str, np.ndarray]]:
        for first in range(0, n_rows, CHUNK):
            chunk = {name: stored[n_rows][name][first : first + CHUNK] for name in names}
            for start in range(0, min(CHUNK, n_rows - first), size):
                yield {name: array[start : start + size] for name, array in chunk.items()}

    def fit(n_rows: int) -> None:
        im.fit(
            lambda: batches(n_rows, BATCHES[-1], "X", "y"),
            epochs=1,
            n_obs=n_rows,
            num_samples=DRAWS,
            **QUIET,
        )

    def reduce(n_rows: int) -> None:
        im.predict(lambda: batches(n_rows, CHUNK, "X"), reduce="mean", **QUIET)

    def read(n_rows: int) -> None:
        for _ in batches(n_rows, CHUNK, "X", "y"):
            pass

    for what, call in (("reading alone", read), ("an epoch", fit), ("reduce", reduce)):
        seconds = [best_of(lambda n=n, c=call: c(n), turns=1) for n in rows]
        line(case, what, rows, seconds, "ns a row")


def stored_rows(n_rows: int) -> Mapping[str, zarr.Array]:
    """Return arrays in a Zarr store of so many rows, which the first call writes."""
    folder = FOLDER / f"{n_rows}.zarr"
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        group = zarr.open_group(partial, mode="w")
        X = group.create_array("X", shape=(n_rows, 20), chunks=(CHUNK, 20), dtype="f4")
        y = group.create_array("y", shape=(n_rows,), chunks=(CHUNK,), dtype="f4")
        for first in range(0, n_rows, CHUNK):
            part = floats(20)(min(CHUNK, n_rows - first))
            X[first : first + CHUNK], y[first : first + CHUNK] = part["X"], part["y"]
        partial.replace(folder)
    return zarr.open_group(folder, mode="r")


def main() -> None:
    """Measure each case in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--case", help="measure this case in this process")
    parser.add_argument("--disk-rows", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    options = parser.parse_args()
    if options.case:
        warnings.simplefilter("ignore")
        if options.case == ON_DISK:
            on_disk(options.case, tuple(options.disk_rows))
        else:
            measure(options.case)
        return
    print(f"{machine_line()}\n\n| case | what | at | time | slope | at the end |")
    print("|---|---|---|---|---|---|", flush=True)
    rows = list(map(str, options.disk_rows))
    for case in [name for name in [*CASES, ON_DISK] if options.only in name]:
        is_x64 = "1" if case.endswith("x64") else "0"
        subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.benchmarks.bench_shapes",
                "--case",
                case,
                "--disk-rows",
                *rows,
            ],
            env=os.environ | {"JAX_ENABLE_X64": is_x64},
            check=True,
        )


if __name__ == "__main__":
    main()
