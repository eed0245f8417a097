"""Priors moved by hand in a real page: drags and keys reach the kernel, numbers come back."""

from __future__ import annotations

SETUP = """
import numpy as np, jax, numpyro, numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from aimz_lab import ImpactModel, lab

def line(X, y=None):
    base = numpyro.sample("base", dist.Normal(0.0, 4.0))
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))
    with numpyro.plate("<b>rows</b>", X.shape[0]):
        numpyro.sample("y", dist.Normal(base * X, noise), obs=y)

X = np.linspace(0.5, 1.5, 50, dtype="float32")
im = ImpactModel(line, jax.random.key(0),
                 svi=SVI(line, AutoNormal(line), numpyro.optim.Adam(0.01), Trace_ELBO()))
explorer = lab.explore_prior(im, X, 2 * X)
"""
MOVED_ON = "old => document.querySelector('.aimz-explorer-words').innerText !== old"
AGREES = """() => document.querySelector('.aimz-explorer-code').value ===
  `base = numpyro.sample('base', dist.Normal(0.0, ${
    document.querySelectorAll('.aimz-explorer-controls input[type=number]')[1].value}))`"""
PIXELS = "canvas => canvas.toDataURL()"


def test_a_prior_is_dragged_typed_and_pinned(notebook):
    nb = notebook([SETUP, "explorer"], width=720)
    nb.page.keyboard.press("Control+b")  # the side bar
    nb.run_all()
    nb.wait_until_done(1)
    panel = nb.page.locator(".aimz-explorer-picture")
    scale = nb.cell(1).locator(".aimz-explorer-controls input[type=number]").nth(1)
    picture = panel.locator("canvas").last
    panel.get_by_text("90% of the prior predictive of y").wait_for()
    still = nb.cell(1).locator("img")
    assert (still.count(), still.is_visible()) == (1, False)  # for a page without the kernel

    # A drag: the field, the words, the code and the picture follow.
    before, words = picture.evaluate(PIXELS), panel.locator(".aimz-explorer-words").inner_text()
    handle = panel.get_by_role("slider", name="base.scale")
    box = handle.bounding_box()
    nb.page.mouse.move(box["x"] + 7, box["y"] + 7)
    nb.page.mouse.down()
    nb.page.mouse.move(box["x"] + 27, box["y"] + 7, steps=10)
    nb.page.mouse.up()
    nb.page.wait_for_function(MOVED_ON, arg=words)
    nb.page.wait_for_timeout(1000)  # the last of the drag is on its way
    assert float(scale.input_value()) > 4.5
    assert picture.evaluate(PIXELS) != before
    panel.get_by_role("button", name="Code").click()
    nb.page.wait_for_function(AGREES)
    assert panel.get_by_role("textbox", name="Code that gives these numbers").is_visible()

    # A value that makes no prior: its error in words, and the last good picture.
    kept = picture.evaluate(PIXELS)
    scale.fill("-1")
    scale.press("Enter")
    panel.get_by_role("alert").get_by_text("base.scale cannot be -1: it is above 0.").wait_for()
    panel.get_by_role("alert").get_by_text("The picture is still that of base.scale = ").wait_for()
    assert picture.evaluate(PIXELS) == kept
    noise = nb.cell(1).locator(".aimz-explorer-controls input[type=number]").nth(2)
    noise.fill("0")  # another one, while the first stays
    noise.press("Enter")
    refusal = nb.cell(1).locator(
        ".aimz-explorer-refusal", has_text="noise.scale cannot be 0: it is"
    )
    refusal.wait_for()
    field, note = noise.bounding_box(), refusal.bounding_box()
    assert 0 <= note["y"] - field["y"] - field["height"] < 20  # beside its field
    noise.fill("1")
    noise.press("Enter")
    refusal.wait_for(state="hidden")
    scale.fill("2")
    scale.press("Enter")
    panel.get_by_role("alert").wait_for(state="hidden")

    # The keyboard, and an answer that is kept.
    panel.get_by_role("button", name="Pin").click()
    panel.get_by_role("button", name="Unpin").wait_for()
    handle.focus()
    handle.press("ArrowRight")
    panel.locator("li", has_text="pinned").wait_for()
    nb.append(
        "print(explorer.moved['base']['scale'] > 2, len(explorer.drawn) > 2, explorer.problem)"
    )
    assert nb.output(2, "True").strip() == "True True None"
    assert {"image/png", "text/plain"} <= nb.save().cells[1].outputs[-1].data.keys()
    width = nb.page.locator(".aimz-explorer").evaluate("e => [e.scrollWidth, e.clientWidth]")
    assert width[0] <= width[1]  # all of it is read in a narrow notebook
