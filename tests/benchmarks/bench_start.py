"""Seconds from the start of a process to its first fitted and predicted number, on 1,000 rows.

Run by hand: ``python -m tests.benchmarks.bench_start``. Each figure is of a process of its own,
with bytecode that lies ready. It begins before Python does.

``floor``: Python, JAX and NumPyro imported, and nothing else.
``import``: this package imported as well.
``cold``: a fit by SVI and a prediction, with nothing compiled.
``cached``: the same with JAX's compilation cache, kept from a process before.

With ``--programs``, it tells what XLA compiles in a cold start, and for how long.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

FLOOR = "import jax, numpyro, numpyro.distributions, numpyro.infer.autoguide, numpyro.optim"

FIRST = """
import jax, numpy as np, numpyro, numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from aimz_lab import ImpactModel

def kernel(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ slope, sigma), obs=y)

rng = np.random.default_rng(0)
X = rng.normal(size=(1000, 3)).astype(np.float32)
y = (X @ np.array([1.0, 0.0, -1.0]) + rng.normal(size=1000)).astype(np.float32)
svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.01), Trace_ELBO())
im = ImpactModel(kernel, jax.random.key(0), svi)
im.fit(X, y, batch_size=100, epochs=5, num_samples=100, progress=False)
mean = float(im.predict(X, store="memory", progress=False).posterior_predictive["y"].mean())
assert np.isfinite(mean)
"""

LISTING = r"""
import collections, jax, json, logging, re
took, programs = collections.Counter(), []
KINDS = r"Finished (tracing|jaxpr|XLA).*? in ([\d.]+) sec"
class Listen(logging.Handler):
    def emit(self, record):
        message = record.getMessage()
        if found := re.match(KINDS, message):
            took[found[1]] += float(found[2])
            if found[1] == "XLA":
                programs.append((float(found[2]), message.split(" in ")[0].split(" of ")[1]))
jax.config.update("jax_log_compiles", True)
for name in ("jax._src.interpreters.pxla", "jax._src.dispatch"):
    logging.getLogger(name).addHandler(Listen())
    logging.getLogger(name).propagate = False
"""

TELL = """
for seconds, name in sorted(programs, reverse=True):
    print(f"{seconds:6.3f} s  {name}")
print(json.dumps({name: round(seconds, 2) for name, seconds in took.items()}), len(programs))
"""


def seconds(script: str, **environment: str) -> float:
    """Run a script in a process of its own; return its seconds from start to end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, **environment})
    return time.perf_counter() - began


def main() -> None:
    """Measure in turns and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--programs", action="store_true", help="list what XLA compiles")
    options = parser.parse_args()
    if options.programs:
        seconds(LISTING + FIRST + TELL)
        return
    with tempfile.TemporaryDirectory() as folder:
        always = {
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": f"{folder}/bytecode",
        }
        cache = always | {
            "JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        kinds = {
            "floor": (FLOOR, always),
            "import": (FLOOR + "; import aimz_lab", always),
            "cold": (FIRST, always),
            "cached": (FIRST, cache),
        }
        took: dict[str, list[float]] = {name: [] for name in kinds}
        for turn in range(options.turns + 1):
            for name, (script, environment) in kinds.items():
                found = seconds(script, **environment)
                if turn:  # the first one writes bytecode and cache
                    took[name].append(found)
    shown = {name: round(statistics.median(each), 2) for name, each in took.items()}
    spread = {name: [round(min(each), 2), round(max(each), 2)] for name, each in took.items()}
    jax = __import__("jax").__version__
    print(json.dumps({"jax": jax, **shown, "range": spread}))


if __name__ == "__main__":
    main()
