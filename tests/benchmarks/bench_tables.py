"""Tables: encoding 10^6 rows x 20 columns beside formulaic alone, and predictions of small tables.

Run by hand: ``python -m tests.benchmarks.bench_tables``. Both take turns in one process, so that a
shared machine is equally slow for both. Encoding is measured in seconds of CPU: the best of its
turns, and the median ratio within a turn. A prediction is the median of 30.
"""

from __future__ import annotations

import argparse
import time

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
from formulaic import Formula, ModelSpec
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel, TableSpec
from aimz_lab.tables.encoder import TableEncoder
from tests.benchmarks.turns import machine_line, seconds, take_turns

NUMBERS, CATEGORIES = 14, 6
MOST_RATIO, MOST_MS = 1.10, 30


def mixed_table(rows, rng):
    table = pd.DataFrame({f"x{i}": rng.normal(size=rows) for i in range(NUMBERS)})
    for i in range(CATEGORIES):
        levels = np.array([f"level {k}" for k in range(3 + i)])
        table[f"c{i}"] = levels[rng.integers(0, 3 + i, rows)]
    return table


def formula():
    scaled = [f"scale(x{i})" for i in range(10)]
    plain = [f"x{i}" for i in range(10, NUMBERS)]
    return " + ".join([*scaled, *plain, *(f"C(c{i})" for i in range(CATEGORIES))])


def encoding(rows, turns):
    table, text = mixed_table(rows, np.random.default_rng(0)), formula()
    spec = TableSpec(X=text)
    encoder, alone = TableEncoder.learn(spec, table), Formula(text).get_model_matrix(table)
    calls = {
        "formulaic, a later table": lambda: alone.model_spec.get_model_matrix(table),
        "ours, a later table": lambda: encoder.encode(table),
        "formulaic, the training table": lambda: ModelSpec(Formula(text)).get_model_matrix(table),
        "ours, the training table": lambda: TableEncoder.learn_and_encode(spec, table),
    }
    taken = take_turns(
        {name: lambda call=call: seconds(call, time.thread_time) for name, call in calls.items()},
        turns,
    )
    for name in calls:
        print(f"{name:32} {taken.best(name):6.2f} s")
    for what in ("a later table", "the training table"):
        print(f"{taken.line(f'ours, {what}', f'formulaic, {what}')}; at most {MOST_RATIO:.2f}")


def kernel(X, clinic, n_clinics, y=None):
    slopes = numpyro.sample("slopes", dist.Normal(0, 1).expand([X.shape[1]]).to_event(1))
    effect = numpyro.sample("effect", dist.Normal(0, 1).expand([n_clinics]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ slopes + effect[clinic], 1.0), obs=y)


def small_predictions(rows):
    table = mixed_table(rows, np.random.default_rng(0))
    text = "scale(x0) + scale(x1) + C(c0)"
    spec = TableSpec(X=text, y="scale(x2)", clinic="index(c1)", n_clinics="levels(c1)")
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.05), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi, table=spec)
    im.fit(table, progress=False)
    new = table[:20].drop(columns="x2")
    for what, call in {
        "predict_on_batch, 20 rows": lambda: im.predict_on_batch(new),
        "predict_on_batch, with the outcome": lambda: im.predict_on_batch(table[:20]),
        "predict in memory, 20 rows": lambda: im.predict(new, store="memory", progress=False),
        "predict, by group": lambda: im.predict(new, by="c0", progress=False),
    }.items():
        for _ in range(3):
            call()
        typical = np.median([seconds(call) for _ in range(30)])
        print(f"{what:36} {1e3 * typical:5.1f} ms; at most {MOST_MS}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=4)
    options = parser.parse_args()
    print(machine_line())
    encoding(options.rows, options.turns)
    small_predictions(500)
