"""What a reader sees first and last in a real page: what is prepared, and what came out."""

from __future__ import annotations

import re
import time

SETUP = """
import time, jax, numpy as np, numpyro, numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from aimz_lab import ImpactModel, lab, summarize_effect

waits = []  # seconds: a trace of a large model takes as long, and keeps its thread as busy
def linear(X, y=None):
    time.sleep(waits.pop() if waits else 0)
    slope = numpyro.sample("slope", dist.Normal(0.0, 5.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X, 1.0), obs=y)

X = np.linspace(-1, 1, 2000, dtype="float32")
def fresh(**inference):
    waits[:] = [1.5]
    return ImpactModel(linear, jax.random.key(0), **inference)
svi = SVI(linear, AutoNormal(linear), numpyro.optim.Adam(0.01), Trace_ELBO())
"""
CELLS = [
    SETUP,
    "im = fresh(svi=svi); im.fit(X, 2 * X, batch_size=50, epochs=20)",
    "waits[:] = [1.5]; effect = im.predict(X); None",
    "chains = fresh(inference=MCMC(NUTS(linear), num_warmup=20, num_samples=20))\n"
    "chains.fit_on_batch(X[:50], X[:50])",
    "lab.compare({'svi': im}, chains)",
    "summarize_effect(im.estimate_effect(args_baseline={'X': X[:3]}, "
    "args_intervention={'X': X[:3] + 1}))",
    "fresh(svi=svi).fit(X, X[:7])",
]
PREPARING = re.compile(r"preparing · [^·]+ · \d+\.\d s")


def run(nb, i):
    """Run a cell to its end."""
    nb.cell(i).locator(".cm-content").click()
    nb.page.keyboard.press("Control+Enter")
    nb.wait_until_done(i)


def watch(nb, i):
    """Run a cell; return what its output said of the preparation, with the seconds until then."""
    nb.cell(i).locator(".cm-content").click()
    began, told = time.monotonic(), {}
    nb.page.keyboard.press("Control+Enter")
    prompt, output = nb.cell(i).locator(".jp-InputPrompt"), nb.cell(i).locator(".jp-OutputArea")
    while not any(c.isdigit() for c in prompt.inner_text()):
        for found in PREPARING.findall(output.inner_text().replace("\n", " · ")):
            told.setdefault(found, time.monotonic() - began)
        assert time.monotonic() - began < 90
        nb.page.wait_for_timeout(50)
    return told


def test_a_cell_says_at_once_what_it_prepares_and_at_the_end_what_came_out(notebook):
    nb = notebook(CELLS)
    run(nb, 0)
    tellings = 0  # a quick machine may compile a prediction before the first one is due
    for i in (1, 2, 3):  # SVI, a first prediction, chains
        told = watch(nb, i)
        assert min(told.values(), default=0) < 3, told  # a second, where nothing else runs
        tellings += len(told)
        assert "preparing" not in nb.cell(i).locator(".jp-OutputArea").inner_text()
    assert tellings >= 2, "nothing is told while the kernel is busy"
    table = nb.cell(1).locator(".jp-OutputArea table").last
    assert "trained on 2,000 rows of X and y" in table.locator("xpath=..").inner_text()

    for i in (4, 5, 6):
        run(nb, i)
    comparison = nb.cell(4).locator(".jp-OutputArea")
    assert "Losses over the steps: svi ends at" in comparison.locator("img").get_attribute("alt")
    assert "linear · run 2" in comparison.inner_text()
    assert nb.cell(5).locator(".jp-OutputArea th").all_inner_texts()[:3] == ["obs", "mean", "sd"]
    refused = nb.cell(6).locator(".jp-OutputArea").inner_text()
    assert "DataError" in refused
    assert "preparing" not in refused
