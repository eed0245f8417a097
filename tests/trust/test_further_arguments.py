"""Reports take further kernel arguments as fit does."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel
from aimz_lab.errors import CallError

N = 60
_rng = np.random.default_rng(0)
X = _rng.normal(size=N).astype(np.float32)
OFFSET = _rng.normal(size=N).astype(np.float32)
TABLE = np.arange(N, dtype=np.float32) / N
Y = (X + OFFSET + TABLE[3] + 0.5 * _rng.normal(size=N)).astype(np.float32)


def kernel(X, offset, table, noise, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X + offset + table[3], noise), obs=y)


@pytest.mark.slow
def test_by_row_shared_and_static_arguments_reach_the_kernel():
    optimizer = optax.adam(optax.exponential_decay(0.05, 200, 0.5))
    svi = SVI(kernel, AutoNormal(kernel), optimizer, Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi)
    checked = im.check(
        X,
        Y,
        batch_size=20,
        rows="independent",
        by_row=["offset"],
        shared=["table"],
        kernel_kwargs={"noise": 0.5},
        allow_nonfinite=True,
        offset=OFFSET,
        table=TABLE,
    )
    assert checked.level == "green", checked
    im.fit_on_batch(
        X,
        Y,
        num_steps=1500,
        progress=False,
        by_row=["offset"],
        kernel_kwargs={"noise": 0.5},
        offset=OFFSET,
        shared=["table"],
        table=TABLE,
    )
    report = im.diagnose(
        X,
        Y,
        rows="independent",
        batch_size=20,
        by_row=["offset"],
        shared=["table"],
        kernel_kwargs={"noise": 0.5},
        allow_nonfinite=True,
        offset=OFFSET,
        table=TABLE,
    )
    assert report["k-hat"].level == "green", report
    precision = 1 + X @ X / 0.25
    mean = X @ (Y - OFFSET - TABLE[3]) / 0.25 / precision
    assert report.table.loc["slope", "psis_mean"] == pytest.approx(mean, abs=0.03)
    calibrated = im.calibrate(
        X,
        40,
        num_steps=600,
        num_draws=49,
        by_row=["offset"],
        shared=["table"],
        kernel_kwargs={"noise": 0.5},
        allow_nonfinite=True,
        offset=OFFSET,
        table=TABLE,
    )
    assert calibrated.ok
    with pytest.raises(CallError, match="offset"):
        im.diagnose(X, Y)
