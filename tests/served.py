"""A model to log and serve, and a pickle that leaves a trace where it is read."""

from __future__ import annotations

from pathlib import Path

import cloudpickle
import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import yaml

from tests.runs import mean_field_model

X = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
Y = X.sum(1)
GROUP = np.arange(30) % 3
TABLE = pd.DataFrame(X, columns=["a", "b"]).assign(group=GROUP)
OFFSET = {"offset": np.array([3.0, 4.0], np.float32)}
FIT = {"group": GROUP, "progress": False, **OFFSET}


def kernel(X, group, offset, y=None):
    """Two slopes, a level for each of three groups, and a shared argument."""
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("groups", 3):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta + level[group] + offset.sum(), 0.5), obs=y)


def fitted():
    """The model, trained on a table."""
    im = mean_field_model(kernel)
    with jax.numpy_rank_promotion("allow"):
        im.fit_on_batch(TABLE[["a", "b"]], Y, num_steps=20, num_samples=50, **FIT)
    return im


def draws_of(im, rows=slice(None), seed=0):
    """Draws of some rows by the model itself."""
    return im.predict_on_batch(
        TABLE[["a", "b"]][rows],
        rng_key=jax.random.key(seed),
        return_datatree=False,
        group=GROUP[rows],
        **OFFSET,
    )["y"]


class Canary:
    """Its pickle creates a file when it is read."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self):
        return Path.touch, (self._trace,)


def plant(model: Path, trace: Path) -> None:
    """Make the pickle of a saved model, and modules beside it, leave a trace."""
    (model / "code.pkl").write_bytes(cloudpickle.dumps(Canary(trace)))
    (model / "code").mkdir(exist_ok=True)
    for module in ("planted", "numpyro", "aimz_lab"):
        source = f"import pathlib; pathlib.Path({str(trace)!r}).touch()\n"
        (model / "code" / f"{module}.py").write_text(source)


def redescribe(model: Path, change) -> None:
    """Change MLflow's description of a saved model."""
    described = yaml.safe_load((model / "MLmodel").read_text())
    change(described)
    (model / "MLmodel").write_text(yaml.safe_dump(described))
