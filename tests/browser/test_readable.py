"""The page is readable: the curve, its picture, parameters, progress, words for pictures."""

from __future__ import annotations

import subprocess
import sys
from html import escape

MODEL = """
import jax, matplotlib.pyplot as plt, numpy as np, numpyro, numpyro.distributions as dist
import time, warnings
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoDiagonalNormal
from aimz_lab import ImpactModel, lab

def linear(X, y=None):
    slopes = numpyro.sample("slopes", dist.Normal(0.0, 100.0).expand([3]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(5.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ slopes, sigma), obs=y)

rng = np.random.default_rng(0)
X = rng.normal(size=(1500, 3)).astype("float32")
y = (X @ np.array([90.0, -40.0, 2.0]) + rng.normal(size=1500)).astype("float32")
svi = SVI(linear, AutoDiagonalNormal(linear), numpyro.optim.Adam(0.05), Trace_ELBO())
im = ImpactModel(linear, jax.random.key(0), svi=svi)
"""
PROGRESS = """
from aimz_lab.progress import CallProgress
with CallProgress("row", 40) as line:
    for _ in range(40):
        time.sleep(0.03)
        line.advance(1)
"""
WORDS = "A line that falls & rises."
PICTURE = f"""
figure, axes = plt.subplots(figsize=(5, 2))
axes.plot([1, 2, 3], [3, 1, 2], label="a line")
axes.legend()
lab.show_figure(figure, {WORDS!r})
"""
CELLS = [
    MODEL,
    "im.fit(X, y, batch_size=100, epochs=10**6);",
    'im.fit(X, y, batch_size=100, epochs=300, progress="text");',
    PROGRESS,
    PICTURE,
    "lab.plot_posterior(im)",
]


def test_a_far_start_is_cut_off_a_choice_is_saved_and_nothing_is_red(notebook, screenshots):
    nb = notebook(CELLS, name="readable")
    nb.run_all()
    dashboard = nb.dashboard()
    dashboard.wait_for()
    unit = dashboard.locator(".aimz-unit")
    unit.filter(has_text="above the picture").wait_for()
    names = dashboard.locator("details", has=nb.page.get_by_text("Parameters", exact=True))
    names.get_by_text("slopes[").first.wait_for()
    assert "auto_loc" not in names.inner_text()
    nb.page.screenshot(path=screenshots / "readable.png")
    dashboard.get_by_role("button", name="log", exact=True).click()
    unit.filter(has_text="log scale above the lowest").wait_for()
    dashboard.get_by_role("button", name="last half").click()
    nb.page.wait_for_timeout(500)
    dashboard.get_by_role("button", name="Stop", exact=True).click()
    nb.wait_until_done(len(CELLS) - 1)

    alts = [nb.cell(i).locator("img").get_attribute("alt") for i in (1, 4, 5)]
    assert "The vertical axis" in alts[0]  # of the whole run: nobody can ask a picture for the rest
    assert "log scale above the lowest" in alts[0]
    assert alts[1:] == [WORDS, "Posterior densities, with 94% HDI, of sigma, slopes."]
    for i, line in ((2, "epoch 300 of 300"), (3, "row 40 of 40")):
        assert nb.cell(i).get_by_text(line).is_visible()
    assert nb.page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    nb.page.screenshot(path=screenshots / "readable-done.png")

    nb.save()
    html = converted(nb.path)
    assert [html.count(f'alt="{escape(alt, quote=True)}"') for alt in alts] == [1, 1, 1]


def converted(path):
    """The notebook as nbconvert's HTML."""
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--stdout", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
