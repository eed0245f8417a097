"""An effect explored in a real page: sliders, the handle of the curve, a pin, and the code."""

from __future__ import annotations

import re

SETUP = """
import jax, numpy as np, numpyro, numpyro.distributions as dist, pandas as pd
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from aimz_lab import ImpactModel, lab

def kernel(X, dose, y=None):
    lift = numpyro.sample("lift", dist.Normal(0.0, 1.0))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(10 + X + lift * dose, 1.0), obs=y)

rng = np.random.default_rng(0)
X, dose = rng.normal(size=(2, 10_000)).astype("float32")
group = rng.choice(["<b>east</b>", "west"], 10_000)
svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.01), Trace_ELBO())
im = ImpactModel(kernel, jax.random.key(0), svi=svi)
im.set_posterior_sample({"lift": rng.normal(3.0, 0.1, 500).astype("float32")})
"""
EXPLORE = """
doses = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
explorer = lab.explore_effect(im, X, dose=dose, vary={"dose": doses}, by={"group": group})
explorer.set(dose=1.0, dose_baseline=0.0, by="all rows")
explorer
"""
CHECK = """
explorer.wait()
key = jax.random.key(0)
sides = [{"X": X, "dose": np.full(10_000, d, "float32"), "rng_key": key} for d in (0.0, 1.5)]
effect = im.estimate_effect(
    args_baseline=sides[0], args_intervention=sides[1], average=True
).posterior_predictive.y
print("same", explorer.table()["mean"].iloc[0] == effect.mean().item(), explorer.values["dose"])
"""
ROOM_OF_READOUTS = """(controls) => Math.min(...[...controls.querySelectorAll(".widget-readout")]
  .map((readout) => {
    const text = document.createRange();
    text.selectNodeContents(readout);
    const ends = [readout, controls].map((each) => each.getBoundingClientRect().right);
    return Math.min(...ends) - text.getBoundingClientRect().right;
  }))"""


def picture(nb):
    return nb.page.locator("section.aimz-explorer-picture").first


def effect_shown(nb):
    """The mean effect that the page says."""
    found = re.search(r"changes y by (-?[\d.]+)", picture(nb).inner_text())
    return float(found.group(1)) if found else None


def wait_for_effect(nb, low, high):
    for _ in range(600):
        now = effect_shown(nb)
        if now is not None and low < now < high:
            return now
        nb.page.wait_for_timeout(50)
    raise AssertionError(f"the page says {effect_shown(nb)}")


def said(nb, words):
    nb.page.locator(".aimz-explorer-words", has_text=words).wait_for()


def drag(nb, scenario, pixels):
    """Drag the handle of a scenario so many pixels to the right."""
    handle = picture(nb).get_by_role("slider", name=f"dose, {scenario}")
    handle.hover()  # waits until it stands still
    box = handle.bounding_box()
    nb.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    nb.page.mouse.down()
    nb.page.mouse.move(box["x"] + pixels, box["y"], steps=8)
    nb.page.mouse.up()


def test_a_slider_and_a_handle_move_the_number_and_a_pin_compares(notebook):
    nb = notebook([SETUP, EXPLORE], name="explored")
    nb.page.keyboard.press("Control+b")  # the side bar
    nb.run_all()
    nb.wait_until_done(1)
    picture(nb).wait_for()
    wait_for_effect(nb, 2.9, 3.1)
    wide = nb.page.viewport_size
    for width in range(800, 1000, 20):  # from controls above the picture to controls beside it
        nb.page.set_viewport_size({"width": width, "height": 700})
        nb.page.wait_for_timeout(100)
        assert nb.page.locator(".aimz-explorer-controls").evaluate(ROOM_OF_READOUTS) > 0
    nb.page.set_viewport_size(wide)
    nb.save()
    slider = nb.page.locator(".noUi-handle").first
    slider.focus()
    slider.press("ArrowRight")
    wait_for_effect(nb, 4.35, 4.65)
    nb.append(CHECK)
    assert nb.output(2, "same").strip() == "same True 1.5"
    picture(nb).get_by_role("button", name="Pin").click()
    pinned = nb.page.locator(".aimz-explorer", has_text="inned")
    pinned.first.wait_for()  # its words move the curve down
    drag(nb, "intervention", 2000)
    wait_for_effect(nb, 8.7, 9.3)  # as far as the slider goes
    nb.page.locator(".aimz-explorer", has_text="larger with probability 100%").wait_for()
    picture(nb).get_by_role("button", name="Code").click()
    code = picture(nb).locator("textarea").input_value()
    assert "np.full(dose.shape, 3.0, dose.dtype)" in code

    # Handles at one place are told apart, and each moves its own scenario.
    picture(nb).get_by_role("slider", name="dose, baseline").press("End")
    said(nb, "Baseline: dose = 3. Intervention: dose = 3.")
    marks = picture(nb).locator(".aimz-explorer-handle")
    assert marks.all_inner_texts() == ["intervention: 3", "baseline: 3"]
    below, above = (marks.nth(i).bounding_box() for i in (0, 1))
    assert above["x"] == below["x"]
    assert above["y"] + above["height"] < below["y"]
    drag(nb, "intervention", -2000)
    said(nb, "Baseline: dose = 3. Intervention: dose = 0.")
    marks.nth(0).press("ArrowRight")
    said(nb, "Baseline: dose = 3. Intervention: dose = 0.5.")
    marks.nth(0).press("Tab")
    assert nb.page.evaluate("document.activeElement.ariaValueText") == "3"
    drag(nb, "baseline", -2000)
    said(nb, "Baseline: dose = 0. Intervention: dose = 0.5.")
    nb.page.get_by_label("by", exact=True).select_option("group")
    nb.page.locator("section.aimz-explorer-picture", has_text="<b>east</b>").first.wait_for()
    assert not nb.page.locator("section.aimz-explorer-picture b", has_text="east").count()
    nb.__exit__()

    again = notebook(None, name="explored")  # its kernel has not run anything
    again.cell(1).locator("img").wait_for()
    gone = again.page.get_by_text("Error displaying widget")
    gone.wait_for(state="attached")  # JupyterLab's own words, in place of the panel
    assert not gone.is_visible()


OPEN = """
from aimz_lab.lab.explorers import effect_answers
effect_answers._FIRST_S = -1.0  # as if there were too many draws for the first answer
explorer = lab.explore_effect(im, X, dose=dose, vary={"dose": np.linspace(0, 3, 13)})
print("opened", explorer.view.sentences[-1])
explorer
"""


def test_the_effect_is_shown_before_its_curve_which_grows_by_itself(notebook):
    nb = notebook([SETUP, OPEN], name="growing")
    nb.run_all()
    nb.wait_until_done(1)
    assert "values so far" in nb.output(1, "opened")
    picture(nb).wait_for()
    assert effect_shown(nb) is not None
    nb.page.locator("section.aimz-explorer-picture", has_text="Average of y").first.wait_for()
    picture(nb).get_by_text("values so far").wait_for(state="detached")
    nb.append("print('shown', explorer.view.sentences == explorer.wait().sentences)")
    assert nb.output(2, "shown").strip() == "shown True"
    nb.page.wait_for_timeout(1500)  # the still picture follows
    stills = [str(output.data) for output in nb.save().cells[1].outputs if "data" in output]
    assert any("img" in still for still in stills)
    assert not any("values so far" in still for still in stills)


GROUPS = """
small, part = X[:500], dose[:500] > 0
four = {"group": np.arange(500) % 4}
vary = {"dose": [0.0, 1.0]}
explorer = lab.explore_effect(im, small, dose=part.astype("float32"), vary=vary, by=four)
explorer
"""


def test_a_handle_in_the_chart_of_one_group_moves_those_of_all(notebook):
    nb = notebook([SETUP, GROUPS], name="groups")
    nb.run_all()
    nb.wait_until_done(1)
    small = picture(nb).locator(".aimz-explorer-chart[data-size=small]")
    small.nth(3).wait_for()
    titles = picture(nb).locator(".aimz-explorer-title").all_inner_texts()
    assert titles[1:] == [f"group = {i}" for i in range(4)]
    small.nth(2).get_by_role("slider", name="dose, baseline").press("End")
    said(nb, "Baseline: dose = 1. Intervention: dose = 1.")
    lefts = [
        chart.get_by_role("slider", name="dose, baseline").evaluate("(e) => e.style.left")
        for chart in small.all()
    ]
    assert len(lefts) == 4
    assert len(set(lefts)) == 1
    # A chart as small as this has no room for words beside a handle that is dragged anywhere.
    words = small.first.locator(".aimz-legend")
    assert words.inner_text().split("\n") == ["intervention: 1", "baseline: 1"]
    assert not "".join(small.first.locator(".aimz-explorer-handle").all_inner_texts())
    lowest = [chart.locator("canvas").bounding_box() for chart in small.all()]
    assert lowest[0]["y"] == lowest[1]["y"]  # its words move no other line
