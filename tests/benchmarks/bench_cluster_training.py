"""Weak and strong scaling of training in 1, 2 and 4 processes of this machine.

    PYTHONPATH=$PWD python -m tests.benchmarks.bench_cluster_training [--processes 1 2 4] [--out F]
    PYTHONPATH=$PWD python -m tests.benchmarks.bench_cluster_training --fit F

A step computes on its rows, adds the gradients of all processes, and updates the parameters. The
first command measures seconds a step, for several numbers of rows in each process (weak scaling:
the same rows in each; strong scaling: the same rows in all), and counts the collectives of the
compiled step and their bytes. The second fits, with P processes on C cores,

    seconds a step = s (fixed + row rows) + (P - 1) (collective + s feed rows),  s = max(1, P / C)

to four points, the smallest and the largest batch of 1 and 2 processes, and shows what it says of
the others. The form was found by looking at all points. A machine of two cores shows what a step
and its collectives cost there, over loopback; it cannot show the speed-up of 4 processes, which
share the cores, nor the time of a real network.
"""

import argparse
import contextlib
import io
import json
import os
import re
import tempfile
import textwrap
from pathlib import Path

import jax
import numpy as np

from aimz_lab.cluster import train

COLUMNS = 100
LOCAL_ROWS = (256, 1_024, 4_096)
SCRIPT = f"""
    import json, sys
    import jax, numpy as np, numpyro, numpyro.distributions as dist
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoNormal
    from aimz_lab import ArrayDataset, ArrayLoader, Callback, ImpactModel

    size, rank = jax.process_count(), jax.process_index()

    def linear(X, y=None):
        slopes = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(X @ slopes, 1.0), obs=y)

    class Clock(Callback):
        def __init__(self):
            self.steps, self.data = [], []

        def on_steps_end(self, run, steps):
            self.steps.append(steps.seconds / len(steps))

    rng = np.random.default_rng(0)
    X = rng.normal(size=(65_536, {COLUMNS})).astype(np.float32)
    y = X[:, 0] + rng.normal(size=len(X)).astype(np.float32)
    for rows in {LOCAL_ROWS}:
        svi = SVI(linear, AutoNormal(linear), numpyro.optim.Adam(1e-3), Trace_ELBO())
        im = ImpactModel(linear, jax.random.key(0), svi=svi)
        loader = ArrayLoader(
            ArrayDataset(X=X, y=y), jax.random.key(1), batch_size=rows * size, process_shard=True
        )
        clock = Clock()
        epochs = max(1, 600 * rows * size // len(X))
        im.fit(loader, epochs=epochs, progress=False, steps_per_call=32, callbacks=[clock])
        if rank == 0:
            median = float(np.median(clock.steps[2:]))
            print("POINT", json.dumps(dict(processes=size, rows=rows, seconds=median)))
"""


def measured(processes, folder):
    """Seconds a step by rows, and the collectives of the compiled step."""
    script, dump = folder / "fit.py", folder / f"hlo{processes}"
    script.write_text(textwrap.dedent(SCRIPT))
    os.environ["XLA_FLAGS"] = (
        f"--xla_dump_to={dump} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=.*training_steps.*"
    )
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        train(script, [], processes=processes)
    points = [json.loads(told) for told in re.findall(r"POINT (.*)", printed.getvalue())]
    counted = collectives(dump)
    return [
        {
            **point,
            **counted,
            "jax": jax.__version__,
            "bytes_in": 4 * point["rows"] * (COLUMNS + 1),
            "flops": 4 * point["rows"] * COLUMNS,
        }
        for point in points
    ]


def collectives(dump):
    """Collectives of a step and their bytes, as XLA has compiled them."""
    texts = [path.read_text() for path in dump.glob("*after_optimizations.txt")]
    found = re.findall(r"= (\(?[^=]*?) all-reduce(?:-start)?\(", max(texts, key=len))
    shapes = [shape for one in found for shape in re.findall(r"[fsu](\d+)\[([\d,]*)\]", one)]
    n_bytes = sum(
        int(bits) // 8 * int(np.prod([int(n) for n in shape.split(",") if n]))
        for bits, shape in shapes
    )
    return {"collectives": len(found), "collective_bytes": n_bytes}


def fitted(points):
    """Fit the model of cost to some points, and show what it says of the others."""
    cores = len(os.sched_getaffinity(0))

    def features(point):
        sharing, others = max(1.0, point["processes"] / cores), point["processes"] - 1
        return [sharing, sharing * point["rows"], others, others * sharing * point["rows"]]

    ends = min(LOCAL_ROWS), max(LOCAL_ROWS)
    seen = [p for p in points if p["processes"] <= cores and p["rows"] in ends]
    coefficients, *_ = np.linalg.lstsq(
        np.array([features(p) for p in seen]), np.array([p["seconds"] for p in seen])
    )
    fixed, row, collective, feed = map(float, coefficients)
    print(
        f"fixed {1e6 * fixed:.0f} us, row {1e9 * row:.0f} ns, "
        f"collective {1e6 * collective:.0f} us, feed {1e9 * feed:.0f} ns a row"
    )
    print("processes rows_each  measured_us  model_us  seen      rows/s")
    for p in points:
        p["model_seconds"], p["seen"] = float(np.dot(features(p), coefficients)), p in seen
        print(
            f"{p['processes']:9} {p['rows']:9} {p['seconds'] * 1e6:12.0f} "
            f"{p['model_seconds'] * 1e6:9.0f}  {'yes' if p['seen'] else 'no ':4} "
            f"{p['processes'] * p['rows'] / p['seconds']:11,.0f}"
        )
    model = {"fixed_s": fixed, "row_s": row, "collective_s": collective, "feed_row_s": feed}
    return {"cores": cores, "model": model, "points": points}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--fit", type=Path)
    chosen = parser.parse_args()
    if chosen.fit is not None:
        model = fitted(json.loads(chosen.fit.read_text())["points"])
        chosen.fit.write_text(json.dumps(model, indent=1))
        return
    points = []
    if chosen.out is not None and chosen.out.exists():
        points = json.loads(chosen.out.read_text())["points"]
    with tempfile.TemporaryDirectory() as folder:
        for processes in chosen.processes:
            points += measured(processes, Path(folder))
    for point in points:
        print(json.dumps(point))
    if chosen.out is not None:
        chosen.out.write_text(json.dumps({"points": points}, indent=1))


if __name__ == "__main__":
    main()
