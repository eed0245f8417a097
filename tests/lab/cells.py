"""Code of cells that kernels of tests run."""

from __future__ import annotations

GATED = """
import time, jax, numpyro, numpy as np
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO, autoguide
from aimz_lab import Callback, ImpactModel, lab

def line(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(slope * X, 1), obs=y)

class Gate(Callback):
    def on_epoch_end(self, run, epoch):
        while epoch == 2 and not opened:
            time.sleep(0.01)

X, opened = np.linspace(-1, 1, 40), []
svi = SVI(line, autoguide.AutoNormal(line), numpyro.optim.Adam(0.01), Trace_ELBO())
im = ImpactModel(line, jax.random.key(0), svi=svi)
"""
"""A model, and a callback that holds its run in the second epoch until ``opened`` is filled."""
