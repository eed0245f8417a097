"""Coverage: how often 90% intervals of effects hold the truth, in worlds whose truth is known.

Run by hand: ``python -m tests.benchmarks.coverage``. It prints a row for each effect of each world:
three that are simulated, and three of real people, whose rows are drawn again with replacement.
Each replication is a fit of the whole model by SVI, on new rows; the compiled programs of the first
serve all. ``tests/effects/test_coverage.py`` runs the same with fewer replications.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pandas as pd
from formulaic import model_matrix
from numpyro.infer import SVI, Trace_ELBO, init_to_median
from numpyro.infer.autoguide import AutoMultivariateNormal
from scipy.stats import binom

from aimz_lab import ImpactModel, TableSpec, summarize_effect
from aimz_lab.errors import FitWarning
from tests.benchmarks.turns import machine_line
from tests.published_data import PEOPLE, SMOKERS, experiment, linear, with_survey_controls
from tests.published_data import smokers as published_smokers

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


def _world(sample, kernel, num_steps, rate, table=None):
    # The rate falls within each fit and begins anew with the next, as their steps are counted on.
    half_life = num_steps / 8
    falling = lambda step: rate * 0.5 ** ((step % num_steps) / half_life)  # noqa: E731

    def model():
        guide = AutoMultivariateNormal(kernel, init_loc_fn=init_to_median)
        svi = SVI(kernel, guide, optax.adam(falling, b2=0.98), Trace_ELBO())
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


N_SHOPS = 6


def by_shop(X, treated, shop, y=None):
    """Hierarchical: shops have levels and lifts of their own, from a common distribution."""
    level = numpyro.sample("level", dist.Normal(0, 5))
    lift = numpyro.sample("lift", dist.Normal(0, 5))
    spread = numpyro.sample("spread", dist.LogNormal(-0.5, 0.7).expand([2]).to_event(1))
    sd = numpyro.sample("sd", dist.HalfNormal(3))
    with numpyro.plate("shop", N_SHOPS):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([2]).to_event(1))
    own_level, own_lift = level + spread[0] * z[:, 0], lift + spread[1] * z[:, 1]
    with numpyro.plate("row", X.shape[0]):
        mean = numpyro.deterministic("mean", own_level[shop] + X + treated * own_lift[shop])
        numpyro.sample("y", dist.Normal(mean, sd), obs=y)


def _by_shop(rng, n=360):
    # Shops of unequal size.
    shop = np.repeat(np.arange(N_SHOPS), [10, 20, 40, 60, 90, 140])
    X = rng.normal(size=n).astype(np.float32)
    treated = (rng.random(n) < 0.5).astype(np.float32)
    levels, lifts = rng.normal(3, 0.7, N_SHOPS), rng.normal(1, 0.7, N_SHOPS)
    y = (levels[shop] + X + treated * lifts[shop] + rng.normal(size=n)).astype(np.float32)
    return _of_arrays(X, treated, y, _average(lifts[shop], treated, shop), shop=shop)


SIMULATED = {
    "linear, confounded": _world(_confounded, confounded, 2000, 0.1),
    "logistic, by clinic": _world(_by_clinic, by_clinic, 1500, 0.05),
    "hierarchical, shops": _world(_by_shop, by_shop, 3000, 0.03),
}


WRONG = "CPS controls, naive"
"""A world whose model is wrong on purpose: its intervals should miss the truth."""


def resampled_worlds() -> dict[str, World]:
    """Real people, drawn with replacement; the truth is the least-squares effect of all of them."""
    people, survey, smokers = experiment(), with_survey_controls(), published_smokers()
    adjusted = f"1 + treat + {PEOPLE}"
    return {
        "NSW, experiment": _resampled(people, adjusted, "re78", "treat", 2000),
        "NHEFS, quitting smoking": _resampled(smokers, SMOKERS, "wt82_71", "qsmk", 3000),
        WRONG: _resampled(
            survey,
            "1 + treat",
            "re78",
            "treat",
            2000,
            _least_squares(people, adjusted, "re78", "treat"),
        ),
    }


def _resampled(population, formula, outcome, treatment, num_steps, truth=None):
    truth = _least_squares(population, formula, outcome, treatment) if truth is None else truth
    scenario = {level: {"X": population.assign(**{treatment: level})} for level in (0.0, 1.0)}

    def sample(rng):
        rows = population.iloc[rng.integers(0, len(population), len(population))]
        return Sample(
            {"X": rows.reset_index(drop=True)},
            lambda level: {**scenario[level], "return_sites": ["mean"]},
            {"average": ({"average": True}, truth)},
        )

    return _world(sample, linear, num_steps, 0.1, TableSpec(X=formula, y=outcome))


def _least_squares(frame, formula, outcome, treatment):
    """The effect, averaged over all rows, of a regression by least squares."""
    design = model_matrix(formula, frame)
    slopes, *_ = np.linalg.lstsq(np.asarray(design, float), frame[outcome], rcond=None)
    sides = [frame.assign(**{treatment: level}) for level in (0.0, 1.0)]
    designs = [np.asarray(design.model_spec.get_model_matrix(side), float) for side in sides]
    return float(((designs[1] - designs[0]) @ slopes).mean())


def coverage(world: World, replications: int, seed: int = 0) -> dict[str, float]:
    """Return the share of the intervals that hold the truth, by effect."""
    rng, im, held = np.random.default_rng(seed), world.model(), []
    # A table is encoded as the first one, which is as good.
    warnings.filterwarnings("ignore", "Training goes on", FitWarning)
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
    print(machine_line())
    found, worlds = {}, {**SIMULATED, **resampled_worlds()}
    for name, world in worlds.items():
        began = time.perf_counter()
        shares = coverage(world, given.replications, given.seed)
        found |= {(name, effect): share for effect, share in shares.items()}
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    right = [share for (name, _), share in found.items() if name != WRONG]
    low, high = bounds(given.replications, len(right))
    print(f"\nCoverage of {PROB:.0%} intervals over {given.replications} replications")
    for (name, effect), share in found.items():
        print(f"{name:32} {effect:10} {share:6.2f}  {'' if low <= share <= high else 'outside'}")
    print(
        f"Within [{low:.2f}, {high:.2f}] if right, with a risk of {RISK:.0%} for all rows together."
    )
    print(f"The mean of the right worlds is {np.mean(right):.3f}.")


if __name__ == "__main__":
    main()
