"""The explorer of predictions on a page: a check that is chosen, a level that is typed."""

from __future__ import annotations

MODEL = """
import jax, numpy as np, numpyro, numpyro.distributions as dist, pandas as pd
from aimz_lab import ImpactModel, lab
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

def kernel(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[:, 0], 1.0), obs=y)

rng = np.random.default_rng(0)
X = rng.normal(size=(1200, 2)).astype("float32")
y = (X[:, 0] + 1.2 * rng.normal(size=1200)).astype("float32")
svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.01), Trace_ELBO())
im = ImpactModel(kernel, jax.random.key(0), svi=svi)
im.set_posterior_sample({"slope": (1 + 0.03 * rng.normal(size=400)).astype("float32")})
shops = pd.DataFrame({"shop": np.resize(["<b>north</b>", "south"], 1200)})
"""
PANEL = """
explorer = lab.explore_predictions(im, X, y, columns=shops)
explorer
"""
SHOWN = """
level = explorer.values["level"]
draws = im.predict(X, rng_key=jax.random.key(0), progress=False)
draws = draws.posterior_predictive.y.values.reshape(400, -1)[:, ::2]
low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
print("held", level, round(100 * ((low <= y[::2]) & (y[::2] <= high)).mean(), 1))
"""
TIMES = """
for name, times in (("answered", explorer.times), ("drawn", explorer.drawn)):
    print("ms", name, len(times), *np.quantile(times, [0.5, 0.95]).round(1))
"""
TRAINED = """
im.fit(X, y, epochs=3, progress=False)
print("trained")
"""


def test_a_level_that_is_typed_shows_the_coverage_of_a_group(notebook, screenshots):
    nb = notebook([MODEL, PANEL], name="predictions", width=740)
    nb.page.keyboard.press("Control+b")  # the side bar
    nb.run_all()
    nb.wait_until_done(1)
    panel = nb.cell(1).locator(".aimz-explorer")
    words = panel.locator(".aimz-explorer-words")
    words.get_by_text("1,200 rows, 400 draws.").wait_for()
    panel.get_by_label("check").select_option("coverage")
    words.get_by_text("Central 90% intervals hold").wait_for()
    panel.get_by_label("group").select_option("shop: <b>north</b>")
    panel.get_by_label("column").select_option("X[1]")
    panel.locator(".widget-readout").first.click()
    nb.page.keyboard.press("Control+a")
    nb.page.keyboard.insert_text("0.65")
    nb.page.keyboard.press("Enter")
    text = words.get_by_text("Central 65% intervals hold").inner_text()
    assert nb.page.locator(".aimz-explorer b").count() == 0  # the name of a level is no markup
    panel.get_by_role("slider").first.focus()
    panel.screenshot(path=screenshots / "predictions-coverage.png")
    nb.append(SHOWN)
    _, level, held = nb.output(2, "held").split()
    shown = float(text.partition("hold ")[2].partition("%")[0])
    assert float(level) == 0.65
    assert abs(shown - float(held)) < 1.0
    for check in ("worst rows", "residuals", "PIT"):
        panel.get_by_label("check").select_option(check)
        panel.get_by_text(f"{check[0].upper()}{check[1:]} of y, shop: <b>north</b>").wait_for()
    panel.locator("summary").click()
    numbers = panel.locator(".aimz-body .aimz-scroll")
    assert numbers.evaluate("e => getComputedStyle(e).overflowX") == "auto"  # tables are wide
    panel.get_by_role("slider").first.focus()
    nb.append(TIMES)
    assert "drawn" in nb.output(3, "ms")
    nb.append(TRAINED)
    nb.output(4, "trained")
    panel.get_by_label("check").select_option("calibration")
    words.get_by_text("These predictions are of an earlier posterior").wait_for()
    panel.screenshot(path=screenshots / "predictions-outdated.png")
