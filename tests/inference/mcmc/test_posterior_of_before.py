"""Chains in the background have no posterior before their end: what is read meanwhile says so."""

from __future__ import annotations

import threading

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS

from aimz_lab import ImpactModel
from aimz_lab.inference.run.events import Callback


def kernel(X, y=None):
    level = numpyro.sample("level", dist.Normal(0, 10))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + X, 1), obs=y)


class Held(Callback):
    """Holds the chains until it is told to let them go on."""

    def __init__(self):
        self.began, self.may_go_on = threading.Event(), threading.Event()

    def on_steps_end(self, run, steps):
        self.began.set()
        self.may_go_on.wait(60)


@pytest.mark.slow
def test_a_summary_during_the_chains_is_told_to_be_of_the_posterior_of_before(capsys):
    X, y = np.zeros(8, np.float32), np.ones(8, np.float32)
    mcmc = MCMC(NUTS(kernel), num_warmup=10, num_samples=10, progress_bar=False)
    im = ImpactModel(kernel, jax.random.key(0), inference=mcmc)
    im.fit_on_batch(X, y, progress=False)
    before, held = im.summary(), Held()
    assert "of before" not in capsys.readouterr().err
    handle = im.fit_on_batch(X, 9 * y, callbacks=[held], blocking=False, progress=False)
    try:
        assert held.began.wait(60)
        np.testing.assert_array_equal(im.summary(), before)
        assert "posterior of before the fit that goes on" in "".join(capsys.readouterr())
        assert "10 posterior draws of before the fit that goes on" in repr(im)
    finally:
        held.may_go_on.set()
    handle.wait()
    assert im.summary().loc["level", "mean"] > 5
    assert "of before" not in "".join(capsys.readouterr()) + repr(im)
