"""What is on the page is readable: the curve, its picture, parameters, progress, words for pictures."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODEL = """
import jax, matplotlib.pyplot as plt, numpy as np, numpyro, numpyro.distributions as dist
import time, warnings
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoDiagonalNormal
from aimz_lab import ImpactModel, lab

def linear(X, y=None):
    slopes = numpyro.sample("slopes", dist.Normal(0.0, 1000.0).expand([3]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(5.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ slopes, sigma), obs=y)

rng = np.random.default_rng(0)
X = rng.normal(size=(1500, 3)).astype("float32")
y = (X @ np.array([900.0, -400.0, 2.0]) + rng.normal(size=1500)).astype("float32")
svi = SVI(linear, AutoDiagonalNormal(linear), numpyro.optim.Adam(0.5), Trace_ELBO())
im = ImpactModel(linear, jax.random.key(0), svi=svi)
"""
PROGRESS = """
def slow(batch):
    time.sleep(0.05)
    return batch

from aimz_lab.progress import CallProgress
with CallProgress("row", 40) as line:
    for _ in range(40):
        time.sleep(0.03)
        line.advance(1)
"""
PICTURE = """
figure, axes = plt.subplots(figsize=(5, 2))
axes.plot([1, 2, 3], [3, 1, 2], label="a line")
axes.legend()
lab.show_figure(figure, "A line that falls & rises.")
"""
CELLS = [
    MODEL,
    "im.fit(X, y, batch_size=100, epochs=10**6);",
    'im.fit(X, y, batch_size=100, epochs=300, progress="text");',
    PROGRESS,
    PICTURE,
    "lab.plot_posterior(im)",
]
