"""Coverage: how often 90% intervals of effects hold the truth, in worlds whose truth is known.

Run by hand: ``python -m tests.benchmarks.coverage``. It prints a row for each effect of each world:
three that are simulated, and three of real people, whose rows are drawn again with replacement. Each
replication is a fit of the whole model by SVI, on new rows; the compiled programs of the first serve
all. ``tests/effects/test_worlds.py`` runs the same with fewer replications.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pandas as pd
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoLaplaceApproximation, AutoMultivariateNormal
from scipy.stats import binom

from aimz_lab import ImpactModel, TableSpec, summarize_effect

PROB, REPLICATIONS, RISK = 0.9, 100, 0.01
"""Mass of the intervals; replications; how often right intervals fail a whole table by chance."""


class Sample(NamedTuple):
    """One data set of a world, and the effects behind it.

    Attributes:
        fit: Arguments of ``fit_on_batch``.
        scenario: Returns the arguments of ``predict`` at a level of the treatment.
        effects: By name, the options of ``estimate_effect`` and the true effect; of several groups,
            an array in the order of their sorted labels.
    """

    fit: Mapping[str, Any]
    scenario: Callable[[float], Mapping[str, Any]]
    effects: Mapping[str, tuple[Mapping[str, Any], float | np.ndarray]]


class World(NamedTuple):
    """A way to make data sets, and a model of them.

    Attributes:
        model: Makes the model.
        num_steps: Steps of a fit.
        sample: Makes a data set.
    """

    model: Callable[[], ImpactModel]
    num_steps: int
    sample: Callable[[np.random.Generator], Sample]


def _world(sample, kernel, guide, num_steps, rate, table=None):
    # The rate falls within each fit and begins anew with the next, as their steps are counted on.
    half_life = num_steps / 8
    falling = lambda step: rate * 0.5 ** ((step % num_steps) / half_life)  # noqa: E731

    def model():
        svi = SVI(kernel, guide(kernel), optax.adam(falling), Trace_ELBO())
        return ImpactModel(kernel, jax.random.key(0), svi=svi, table=table)

    return World(model, num_steps, sample)


def _logistic(x):
    return 1 / (1 + np.exp(-x))


def _average(values, treated, groups):
    """Truths: the mean of the rows' effects, over all, the treated, and in each group."""
    return {
        "average": ({"average": True}, values.mean()),
        "treated": ({"subset": treated > 0}, values[treated > 0].mean()),
        "group": (
            {"by": {"group": groups}},
            np.array([values[groups == one].mean() for one in np.unique(groups)]),
        ),
    }


def _of_arrays(X, treated, y, effects, **others):
    def scenario(level):
        full = np.full(len(X), level, np.float32)
        return {"X": X, "treated": full, "return_sites": ["mean"], **others}

    return Sample({"X": X, "y": y, "treated": treated, **others}, scenario, effects)


def confounded(X, treated, y=None):
    """Linear: who has a large X is treated more often, and gains less."""
    b = numpyro.sample("b", dist.Normal(0, 10).expand([4]).to_event(1))
    sd = numpyro.sample("sd", dist.HalfNormal(5))
    with numpyro.plate("row", X.shape[0]):
        mean = numpyro.deterministic("mean", b[0] + b[1] * X + treated * (b[2] + b[3] * X))
        numpyro.sample("y", dist.Normal(mean, sd), obs=y)


def _confounded(rng, n=200):
    X = rng.normal(size=n).astype(np.float32)
    treated = (rng.random(n) < _logistic(X)).astype(np.float32)
    each = 2 - 1.5 * X
    y = (10 + X + treated * each + 1.5 * rng.normal(size=n)).astype(np.float32)
    effects = _average(each, treated, np.arange(n) % 2)
    effects["percent"] = {"contrast": "percent"}, 100 * each.mean() / (10 + X).mean()
    return _of_arrays(X, treated, y, effects)


def by_clinic(X, treated, clinic, y=None):
    """Logistic: the treatment helps in one clinic, hardly in another, and harms in the third."""
    base = numpyro.sample("base", dist.Normal(0, 3).expand([3]).to_event(1))
    slope = numpyro.sample("slope", dist.Normal(0, 3))
    lift = numpyro.sample("lift", dist.Normal(0, 3).expand([3]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        logits = base[clinic] + slope * X + treated * lift[clinic]
        numpyro.deterministic("mean", 1 / (1 + jnp.exp(-logits)))
        numpyro.sample("y", dist.Bernoulli(logits=logits), obs=y)


def _by_clinic(rng, n=600):
    clinic = np.arange(n) % 3
    X = (rng.normal(size=n) + 0.5 * clinic).astype(np.float32)
    treated = (rng.random(n) < _logistic(X - 0.5)).astype(np.float32)
    logits = np.array([-0.5, 0.0, 0.5])[clinic] + 0.8 * X
    lift = np.array([1.2, 0.2, -0.8])[clinic]
    without, with_it = _logistic(logits), _logistic(logits + lift)
    y = (rng.random(n) < np.where(treated > 0, with_it, without)).astype(np.int32)
    effects = _average(with_it - without, treated, clinic)
    effects["ratio"] = {"contrast": "ratio"}, with_it.mean() / without.mean()
    return _of_arrays(X, treated, y, effects, clinic=clinic)


N_STORES = 6


def by_store(X, treated, store, y=None):
    """Hierarchical: stores have levels and lifts of their own, from a common distribution."""
    level = numpyro.sample("level", dist.Normal(0, 5))
    lift = numpyro.sample("lift", dist.Normal(0, 5))
    spread = numpyro.sample("spread", dist.LogNormal(-0.5, 0.7).expand([2]).to_event(1))
    sd = numpyro.sample("sd", dist.HalfNormal(3))
    with numpyro.plate("store", N_STORES):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([2]).to_event(1))
    own_level, own_lift = level + spread[0] * z[:, 0], lift + spread[1] * z[:, 1]
    with numpyro.plate("row", X.shape[0]):
        mean = numpyro.deterministic("mean", own_level[store] + X + treated * own_lift[store])
        numpyro.sample("y", dist.Normal(mean, sd), obs=y)


def _by_store(rng, n=360):
    # Stores of unequal size.
    store = np.repeat(np.arange(N_STORES), [10, 20, 40, 60, 90, 140])
    X = rng.normal(size=n).astype(np.float32)
    treated = (rng.random(n) < 0.5).astype(np.float32)
    levels, lifts = rng.normal(3, 0.7, N_STORES), rng.normal(1, 0.7, N_STORES)
    y = (levels[store] + X + treated * lifts[store] + rng.normal(size=n)).astype(np.float32)
    return _of_arrays(X, treated, y, _average(lifts[store], treated, store), store=store)


SIMULATED = {
    "linear, confounded": _world(_confounded, confounded, AutoLaplaceApproximation, 1000, 0.3),
    "logistic, by clinic": _world(_by_clinic, by_clinic, AutoLaplaceApproximation, 600, 0.2),
    "hierarchical, stores": _world(_by_store, by_store, AutoMultivariateNormal, 3000, 0.03),
}


def coverage(world: World, replications: int, seed: int = 0) -> dict[str, float]:
    """Return the share of the intervals that hold the truth, by effect."""
    rng, im, held = np.random.default_rng(seed), world.model(), []
    for _ in range(replications):
        sample, found = world.sample(rng), {}
        im.fit_on_batch(**sample.fit, num_steps=world.num_steps, progress=False)
        sides = {
            "args_baseline": sample.scenario(0.0),
            "args_intervention": sample.scenario(1.0),
        }
        for name, (options, truth) in sample.effects.items():
            summary = summarize_effect(im.estimate_effect(**sides, **options), PROB)["mean"]
            low, high = (summary.sel(summary=f"hdi_{end}").values for end in ("low", "high"))
            for at, holds in enumerate(np.atleast_1d((low <= truth) & (truth <= high))):
                found[name if np.ndim(truth) == 0 else f"{name} {at}"] = bool(holds)
        held.append(found)
    return pd.DataFrame(held).mean().to_dict()


def bounds(replications: int, n_rows: int) -> tuple[float, float]:
    """Return the shares between which all rows of a table lie, but for a risk of 1%, if right."""
    tail = RISK / (2 * n_rows)
    return tuple(float(binom.ppf(q, replications, PROB) / replications) for q in (tail, 1 - tail))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=REPLICATIONS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = {}
    for name, world in WORLDS.items():
        began = time.perf_counter()
        found[name] = coverage(world, given.replications, given.seed)
        print(name, f"{time.perf_counter() - began:.0f} s")
        print(found[name])


WORLDS = SIMULATED
if __name__ == "__main__":
    main()
