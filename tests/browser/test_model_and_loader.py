"""The graph of a model and the plan of a loader on a page: a click and a key show new numbers."""

from __future__ import annotations

import pytest

from aimz_lab.lab.explorers.graph_svg import graph_svg, model_layout
from aimz_lab.lab.explorers.model_graph import GraphSite, ModelGraph
from aimz_lab.lab.explorers.static import style

MODEL = """
import jax, numpy as np, numpyro, numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel, lab

def schools(X, group, y=None):
    centre = numpyro.sample("centre", dist.Normal(0.0, 5.0))
    spread = numpyro.sample("spread", dist.HalfNormal(2.0))
    with numpyro.plate("group", 3):
        level = numpyro.sample("level", dist.Normal(centre, spread))
    slope = numpyro.sample("slope<b>", dist.Normal(0.0, 1.0))
    mean = numpyro.deterministic("mean", level[group] + slope * X)
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, noise), obs=y)

rng = np.random.default_rng(0)
X, group = rng.normal(size=300).astype("float32"), rng.integers(0, 3, 300)
y = (group + 2 * X + rng.normal(size=300)).astype("float32")
svi = SVI(schools, AutoNormal(schools), numpyro.optim.Adam(0.05), Trace_ELBO())
im = ImpactModel(schools, jax.random.key(0), svi=svi)
im.fit(X, y, group=group, by_row=["group"], epochs=500, progress=False);
"""
GRAPH = """
explorer = lab.explore_model(im, X, y, group=group, by_row=["group"])
explorer
"""
LOADER = """
loader = ArrayLoader(ArrayDataset(X=X, y=y), jax.random.key(0), batch_size=30)
plan = lab.explore_loader(loader)
plan
"""
TIMES = """
for each in (explorer, plan):
    for name, times in (("answered", each.times), ("drawn", each.drawn)):
        print(each.title, name, len(times), *np.quantile(times, [0.5, 0.95]).round(1))
print("at", explorer.values["site"], plan.values["batch_size"], loader.batch_size, loader.epoch)
"""


def test_a_site_that_is_clicked_and_a_batch_size_that_is_typed_show_their_numbers(
    notebook, screenshots
):
    nb = notebook([MODEL, GRAPH, LOADER], name="explored", width=740)
    nb.page.keyboard.press("Control+b")  # the side bar
    nb.run_all()
    nb.wait_until_done(2)
    graph, plan = (nb.cell(i).locator(".aimz-explorer") for i in (1, 2))
    words = graph.locator(".aimz-explorer-words")
    words.get_by_text("Latent site centre; Normal(0, 5)").wait_for()
    plan.get_by_text("300 rows in 10 batches of 30 rows: 10 steps an epoch.").wait_for()
    assert graph.locator("svg [data-pick]").count() == 7
    assert nb.page.locator("svg b").count() == 0  # the name of a site is no markup

    graph.locator('[data-pick="level"]').click()
    words.get_by_text("from centre, spread").wait_for()
    words.get_by_text('level = numpyro.sample("level", dist.Normal(centre, spread))').wait_for()
    graph.locator('[data-pick="slope<b>"]').focus()
    nb.page.keyboard.press("Enter")
    text = words.get_by_text("slope<b>: Prior mean").inner_text()
    assert abs(float(text.partition("posterior mean ")[2].partition(",")[0]) - 2) < 0.3
    pressed = graph.locator('[aria-pressed="true"]')
    assert pressed.get_attribute("data-pick") == "slope<b>"
    graph.screenshot(path=screenshots / "explored-model.png")

    plan.locator(".widget-readout").first.click()
    nb.page.keyboard.press("Control+a")
    nb.page.keyboard.insert_text("64")
    nb.page.keyboard.press("Enter")
    plan.get_by_text("300 rows in 5 batches of 64 rows, the last one 44: 5 steps").wait_for()
    plan.get_by_role("slider").nth(1).focus()
    for _ in range(7):
        nb.page.keyboard.press("ArrowRight")
    plan.get_by_text("Batches are padded to a multiple of 7: 29 rows of padding").wait_for()
    plan.screenshot(path=screenshots / "explored-loader.png")
    nb.append(TIMES)
    assert nb.output(3, "at").strip().endswith("at slope<b> 64 30 0")


@pytest.mark.parametrize("width", [660, 718, 760, 880, 1200])
def test_a_graph_of_four_sites_in_a_row_is_not_cut_beside_the_controls(browser, width):
    parents = tuple("abcd")
    sites = {name: GraphSite(name, "latent", "Normal(0, 1)", ()) for name in parents}
    sites["y"] = GraphSite("y", "observed", "Normal(0, 1)", (), parents=parents)
    graph = ModelGraph(sites, {}, 10)
    page = browser.new_page()
    page.set_content(
        f"<style>{style()}</style>"
        f"<div class='aimz-explorer jupyter-widgets' style='width:{width}px'>"
        "<div class='aimz-explorer-controls jupyter-widgets'></div>"
        "<div><section class='aimz aimz-explorer-picture'><div class='aimz-explorer-svg'>"
        f"{graph_svg(graph, model_layout(graph))}</div></section></div></div>"
    )
    drawing = page.locator(".aimz-explorer-svg")
    assert drawing.evaluate("e => e.scrollWidth <= e.clientWidth")
    page.close()
