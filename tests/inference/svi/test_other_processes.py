"""A fit is the same, to the bit and as a program, in processes that hash strings differently."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel

pytestmark = pytest.mark.allow_rank_promotion


def kernel(X, y=None):
    """Sites enough for every process to have another order of them in a set."""
    slopes = [numpyro.sample(f"slope_{i}", dist.Normal(0.0, 1.0)) for i in range(X.shape[1])]
    sd = numpyro.sample("sd", dist.HalfNormal(1.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(sum(X[:, i] * b for i, b in enumerate(slopes)), sd), obs=y)


def fitted():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 5)).astype(np.float32)
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.01), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi)
    return im.fit(X, X.sum(axis=1), batch_size=50, epochs=5, num_samples=1, progress=False)


def fit_in_process(folder, seed):
    """Fit with a seed of Python's hashes; return the losses' bits."""
    environment = os.environ | {
        "PYTHONHASHSEED": seed,
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-m", "tests.inference.svi.test_other_processes"]
    root = Path(__file__).resolve().parents[3]
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.slow
def test_losses_and_programs_are_the_same_in_another_process(tmp_path):
    assert fit_in_process(tmp_path, "1") == fit_in_process(tmp_path, "3")
    assert len(list(tmp_path.glob("jit_training_steps-*-cache"))) == 1


if __name__ == "__main__":
    sys.stdout.write(hashlib.sha256(fitted().last_run.losses.tobytes()).hexdigest())
