"""Chains of ``fit_on_batch`` beside NumPyro's own ``MCMC.run``: compilation and iterations apart.

Run by hand: ``python -m tests.benchmarks.bench_mcmc``. Both run the same sampler on the same data
with the same keys, in turns. NumPyro runs in its fastest way, without its bar of progress, and
keeps the same statistics of each draw. Ours tells its progress, to nobody, and R-hat. JAX's
persistent cache is off. Of each, the seconds are told, and the ratio theirs/ours with its range:

``to_first``: a first call, with nothing compiled, whose plan is a single draw.
``first``: a first call.
``later``: a call with another key, after a first one.
``run``: the same without what JAX compiles in it: NumPyro compiles some samplers again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

# Before JAX sees its devices: parallel chains take one each.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)
os.environ["AIMZ_LAB_COMPILATION_CACHE"] = "off"

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS

from aimz_lab import ImpactModel
from aimz_lab.data import derive_key

FIELDS = ("accept_prob", "energy", "num_steps", "potential_energy")
"""What ours keeps with each draw, beside NumPyro's own default."""

LAYOUTS = {
    "1": (1, "sequential"),
    "4 vectorized": (4, "vectorized"),
    "4 sequential": (4, "sequential"),
    "4 parallel": (4, "parallel"),
}


class Case(NamedTuple):
    """A model to sample.

    Attributes:
        kernel: The kernel.
        data: Its rows.
        warmup: Warm-up iterations.
        samples: Iterations after it.
    """

    kernel: Callable
    data: dict[str, np.ndarray]
    warmup: int
    samples: int


def schools() -> Case:
    def kernel(X, y=None):
        mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
        with numpyro.plate("school", X.shape[0]):
            theta = numpyro.sample("theta", dist.Normal(0.0, 1.0))
            numpyro.sample("y", dist.Normal(mu + tau * theta, X), obs=y)

    sd = np.array([15.0, 10, 16, 11, 9, 11, 10, 18], np.float32)
    effect = np.array([28.0, 8, -3, 7, -1, 1, 18, 12], np.float32)
    return Case(kernel, {"X": sd, "y": effect}, 1000, 4000)


def logistic() -> Case:
    def kernel(X, y=None):
        beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([20]).to_event(1))
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Bernoulli(logits=X @ beta), obs=y)

    rng = np.random.default_rng(0)
    X = rng.normal(size=(10_000, 20)).astype(np.float32)
    chance = 1 / (1 + np.exp(-X @ rng.normal(size=20) * 0.3))
    return Case(kernel, {"X": X, "y": rng.binomial(1, chance).astype(np.int32)}, 50, 100)


def groups() -> Case:
    def kernel(X, y=None):
        mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
        spread = numpyro.sample("spread", dist.HalfNormal(1.0))
        noise = numpyro.sample("noise", dist.HalfNormal(1.0))
        with numpyro.plate("group", 200):
            level = numpyro.sample("level", dist.Normal(mean, spread))
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Normal(level[X], noise), obs=y)

    rng = np.random.default_rng(1)
    X = rng.integers(0, 200, 2000)
    y = rng.normal(size=200)[X] + 0.5 * rng.normal(size=2000)
    return Case(kernel, {"X": X.astype(np.int32), "y": y.astype(np.float32)}, 200, 400)


CASES = {"schools": schools, "logistic": logistic, "groups": groups}


def sampler(case: Case, layout: str) -> MCMC:
    """Return a new sampler, with nothing compiled."""
    chains, method = LAYOUTS[layout]
    return MCMC(
        NUTS(case.kernel),
        num_warmup=case.warmup,
        num_samples=case.samples,
        num_chains=chains,
        chain_method=method,
        progress_bar=False,
    )


class Theirs:
    """NumPyro's own run."""

    def __init__(self, case: Case, layout: str) -> None:
        self._mcmc = sampler(case, layout)
        self._data = {name: jnp.asarray(values) for name, values in case.data.items()}

    def run(self, seed: int) -> int:
        """Run the chains; return the leapfrog steps of their draws."""
        key = derive_key(derive_key(jax.random.key(seed), 0), 0)  # ours takes this one
        self._mcmc.run(key, extra_fields=FIELDS, **self._data)
        return int(self._mcmc.get_extra_fields()["num_steps"].sum())


class Ours:
    """``fit_on_batch`` of the same sampler."""

    def __init__(self, case: Case, layout: str) -> None:
        self._data = case.data
        self._im = ImpactModel(case.kernel, jax.random.key(0), inference=sampler(case, layout))

    def run(self, seed: int) -> int:
        """Run the chains, with progress; return the leapfrog steps of their draws."""
        with contextlib.redirect_stderr(io.StringIO()):
            self._im.fit_on_batch(**self._data, rng_key=jax.random.key(seed))
        return int(self._im.inference.get_extra_fields()["num_steps"].sum())


KINDS = {"ours": Ours, "theirs": Theirs}


class Clock:
    """Seconds of a call, and those of them in which JAX traces and compiles."""

    def __init__(self) -> None:
        self._compiling = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, seconds: float, **_: object) -> None:
        if event.startswith("/jax/core/compile/"):
            self._compiling += seconds

    def time(self, act: Callable[[], object]) -> tuple[float, float]:
        """Return the seconds of ``act``, and those without compilation."""
        self._compiling = 0.0
        began = time.perf_counter()
        act()
        whole = time.perf_counter() - began
        return whole, whole - self._compiling


def measure(case: Case, layout: str, firsts: int, turns: int) -> dict[str, object]:
    """Measure both in turns; return the table of one model and layout."""
    clock = Clock()
    took = {what: {name: [] for name in KINDS} for what in ("to_first", "first", "later", "run")}
    for turn in range(firsts):
        for name in sorted(KINDS, reverse=turn % 2):
            for what, plan in (("to_first", case._replace(warmup=1, samples=1)), ("first", case)):
                jax.clear_caches()
                runner = KINDS[name](plan, layout)
                took[what][name].append(clock.time(lambda runner=runner: runner.run(0))[0])
    runners = {name: kind(case, layout) for name, kind in KINDS.items()}
    steps = {name: runner.run(0) for name, runner in runners.items()}
    for turn in range(turns):
        for name in sorted(KINDS, reverse=turn % 2):
            act = partial(runners[name].run, turn + 1)
            whole, run = clock.time(act)
            took["later"][name].append(whole)
            took["run"][name].append(run)
    table: dict[str, object] = {what: compared(**of) for what, of in took.items() if of["ours"]}
    return table | {"steps": steps}


def compared(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Return the medians, and the ratio theirs/ours: above 1, ours is faster."""
    ratios = np.array(theirs) / ours
    median = {"ours": statistics.median(ours), "theirs": statistics.median(theirs)}
    found = median | {"ratio": np.median(ratios), "from": ratios.min(), "to": ratios.max()}
    return {name: round(float(value), 3) for name, value in found.items()}


def main() -> None:
    """Measure and print one line a model and layout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--firsts", type=int, default=2, help="first calls of each")
    parser.add_argument("--turns", type=int, default=5, help="later calls of each")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(json.dumps({"jax": jax.__version__, "numpyro": numpyro.__version__}))
    for name in options.cases:
        for layout in options.layouts:
            found = measure(CASES[name](), layout, options.firsts, options.turns)
            print(json.dumps({"case": name, "chains": layout, **found}), flush=True)


if __name__ == "__main__":
    main()
