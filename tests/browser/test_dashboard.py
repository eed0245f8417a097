"""The dashboard in a real page: it moves, it is steered, and a picture outlives it."""

from __future__ import annotations

import json
import time

from aimz_lab.lab.dashboard.views import WIDGET_MIME
from tests.browser.jupyter import canvas_pixels

# Its losses fall, so that the picture changes. It ends by itself if nobody stops it, but late: how
# long a page needs is up to the machine.
LOOP = """
import json, math, time
from aimz_lab import lab

def loop(seconds=300, **arguments):
    with lab.monitor([0.0] * 100, epochs=10**6, model="by_hand", **arguments) as watch:
        for i, _ in enumerate(watch):
            watch.step(math.exp(-i / 300) + 1)
            time.sleep(0.005)
            if watch.run.elapsed_s > seconds:
                break
    return watch.run

def tell(run):
    print("RESULT", json.dumps({"status": run.status, "step": run.step}))
"""
ENDED = [LOOP, "lab.show(loop(1))"]
FIT = """
import json, jax, numpy as np, numpyro, numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from aimz_lab import ImpactModel, settable_rate

def linear(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 5.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X, 1.0), obs=y)

rng = np.random.default_rng(0)
X = rng.normal(size=2000).astype("float32")
y = (2 * X + rng.normal(size=2000)).astype("float32")
svi = SVI(linear, AutoNormal(linear), settable_rate(numpyro.optim.Adam, 0.01), Trace_ELBO())
im = ImpactModel(linear, jax.random.key(0), svi=svi)
"""


ENDLESS_ANIMATIONS_OF_OURS = """
() => document.getAnimations().filter((animation) =>
  animation.effect?.target?.closest("section.aimz")
  && animation.effect.getTiming().iterations === Infinity).length
"""
CHAINS = """
import json, jax, numpy as np, numpyro, numpyro.distributions as dist
from numpyro.infer import HMC, MCMC
from aimz_lab import ImpactModel

def normal(X, y=None):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    numpyro.sample("y", dist.Normal(mu, 1.0).expand(X.shape), obs=y)

kernel = HMC(normal, num_steps=8, trajectory_length=None)
mcmc = MCMC(kernel, num_warmup=500, num_samples=10**6, thinning=100, num_chains=2,
            chain_method="vectorized", progress_bar=False)
im = ImpactModel(normal, jax.random.key(0), inference=mcmc)
X = np.linspace(0, 1, 20_000, dtype="float32")  # so that it takes minutes, if nobody stops it
"""


def result(notebook, i):
    return json.loads(notebook.output(i, "RESULT").split("RESULT", 1)[1])


def wait_until(condition, page, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen in {timeout_s} s"
        page.wait_for_timeout(50)


def moves(notebook, dashboard, i, times=4):
    """See the curve change several times while cell ``i`` runs."""
    seen = {canvas_pixels(dashboard)}
    # A display has a share of the time, and so draws the more seldom the busier the machine is.
    deadline = time.monotonic() + 60
    while len(seen) <= times:
        assert time.monotonic() < deadline, f"{len(seen)} pictures in 60 s"
        assert notebook.running(i).is_visible(), "the cell ended before the picture moved"
        notebook.page.wait_for_timeout(100)
        seen.add(canvas_pixels(dashboard))


def changes(notebook, dashboard):
    """See the curve change."""
    before = canvas_pixels(dashboard)
    wait_until(lambda: canvas_pixels(dashboard) != before, notebook.page)


def test_two_pictures_move_stop_stops_and_they_outlive_the_kernel(notebook, screenshots):
    twice = """
d, shown = lab.LiveDashboard(), []
def once_more(run, steps):
    if not shown:
        shown.append(display(d))
tell(loop(callbacks=[d, lab.LambdaCallback(on_steps_end=once_more)]))
"""
    nb = notebook([LOOP, twice, "tell(loop())"], name="lasting")
    nb.run_all()
    nb.dashboard(1).wait_for()
    assert nb.dashboard(0).is_visible()
    moves(nb, nb.dashboard(0), 1, times=1)
    moves(nb, nb.dashboard(1), 1, times=1)
    nb.dashboard(1).get_by_role("button", name="Stop", exact=True).click()
    nb.wait_until_done(1)
    wait_until(lambda: nb.cell(1).locator("img").count() == 2, nb.page)
    assert nb.cell(1).locator("section.aimz").count() == 0
    assert result(nb, 1)["status"] == "stopped"

    dashboard = nb.dashboard()
    dashboard.wait_for()
    moves(nb, dashboard, 2)
    nb.page.screenshot(path=screenshots / "running.png")

    dashboard.get_by_role("button", name="Stop", exact=True).click()
    nb.wait_until_done(2)
    assert result(nb, 2)["status"] == "stopped"

    picture = nb.cell(2).locator("img")
    picture.wait_for()
    assert nb.dashboard().count() == 0
    assert picture.get_attribute("alt").startswith("Loss of by_hand over")
    saved = nb.save()
    shown = [o["data"] for o in saved.cells[2].outputs if o["output_type"] != "stream"]
    [bundle] = [data for data in shown if any(data.values())]  # the line below has gone
    assert set(bundle) == {"image/png", "text/html", "text/plain"}
    assert "Stop was clicked" in bundle["text/plain"]
    nb.__exit__()

    again = notebook(None, name="lasting")  # its kernel has not run anything
    again.cell(2).locator("img").wait_for()
    assert again.cell(2).locator("img").evaluate("image => image.naturalWidth") > 800
    assert again.cell(2).get_by_text("Stop was clicked").is_visible()
    assert again.page.get_by_text("Error displaying widget").count() == 0


def test_fits_in_the_background_leave_their_record_whoever_watches(notebook):
    start = """
import time
from aimz_lab import lab

def start(model, **arguments):  # leaves the cores to the page
    calm = lab.LambdaCallback(on_steps_end=lambda run, steps: time.sleep(0.1))
    arguments |= {"blocking": False, "callbacks": [calm]}
    return model.fit(X, y, batch_size=500, epochs=10**7, **arguments)

other = ImpactModel(linear, jax.random.key(0), svi=svi)
handle, quiet = start(im), start(other, progress=False)
"""
    tell = """
model = handle.result(30)
told = {"fitted": model.is_fitted(), "status": handle.status, "same": model is im}
print("RESULT", json.dumps(told))
"""
    nb = notebook([FIT, start, "lab.show(quiet)", "lab.running()"], name="background")
    nb.run_all()
    nb.wait_until_done(3)  # the cells have returned, and it still trains
    for i in (1, 2):  # the dashboard, and the one that is shown of a run without any
        live = nb.cell(i).locator("section.aimz")
        live.wait_for()
        changes(nb, live)
    listed = nb.page.locator(".aimz-runs")
    listed.get_by_role("button", name="Stop run 2, linear").click()
    nb.cell(2).locator("img").wait_for()

    nb.save()
    nb.page.reload()
    live = nb.cell(1).locator("section.aimz")
    live.wait_for()
    assert nb.page.get_by_text("Loading widget").count() == 0
    stop = live.get_by_role("button", name="Stop", exact=True)
    wait_until(stop.is_enabled, nb.page)
    stop.click()
    picture = nb.cell(1).locator("img")
    picture.wait_for()
    wait_until(lambda: nb.dashboard().count() == 0, nb.page)  # a dock goes a moment later
    assert "Stop was clicked" in picture.get_attribute("alt")
    wait_until(lambda: listed.count() == 0, nb.page)  # nothing goes on any more
    for cell in nb.save().cells[1:4]:
        shown = [o["data"] for o in cell.outputs if o["output_type"] != "stream"]
        [bundle] = [data for data in shown if data["text/plain"]]  # the line below is empty now
        assert WIDGET_MIME not in bundle
    nb.append(tell)
    assert result(nb, 4) == {"fitted": True, "status": "stopped", "same": True}

    nb.append(
        "import threading; handle = start(im)\nthreading.Timer(2, handle.stop).start()\nhandle"
    )
    nb.cell(5).locator("section.aimz").wait_for()
    nb.save()
    nb.page.close()
    time.sleep(2.5)  # it ends while nobody looks
    later = notebook(None, name="background")
    later.cell(5).locator("img").wait_for()
    assert later.cell(5).locator("table").count() == 1  # the handle has none beside the picture
    assert later.page.locator("section.aimz").count() == 0


def test_chains_are_watched_and_a_stop_keeps_their_draws(notebook, screenshots):
    tell = """
im.fit_on_batch(X, X + 1)
print("RESULT", json.dumps({"status": im.last_run.status, "draws": len(im.posterior["mu"])}))
"""
    nb = notebook([CHAINS, tell])
    nb.run_all()
    dashboard = nb.dashboard()
    dashboard.wait_for()
    dashboard.locator(".aimz-where", has_text="draw").wait_for()
    moves(nb, dashboard, 1, times=2)
    dashboard.get_by_text("ESS at least").wait_for()
    assert "potential energy" in dashboard.locator(".aimz-unit").inner_text()
    legend = dashboard.locator(".aimz-legend").first.inner_text().split("\n")
    assert legend[:2] == ["chain 1", "chain 2"]
    nb.page.screenshot(path=screenshots / "chains.png")
    dashboard.get_by_role("button", name="Stop", exact=True).click()
    nb.wait_until_done(1)
    told = result(nb, 1)
    assert told["status"] == "stopped"
    assert 0 < told["draws"] < 20_000
    alt = nb.cell(1).locator("img").get_attribute("alt")
    assert alt.startswith("Potential energy of the chains of normal, stopped: Stop was clicked")


def test_a_fit_is_paused_steered_and_stopped_while_its_cell_runs(notebook):
    tell = """
im.fit(X, y, batch_size=50, epochs=10**7)
print("RESULT", json.dumps({"fitted": im.is_fitted(), "losses": len(im.vi_result.losses)}))
"""
    nb = notebook([FIT, tell])
    nb.run_all()
    dashboard = nb.dashboard()
    dashboard.wait_for()
    pill = dashboard.locator(".aimz-pill")
    moves(nb, dashboard, 1)

    dashboard.get_by_role("button", name="Pause").click()
    wait_until(lambda: pill.inner_text() == "paused", nb.page)
    nb.page.wait_for_timeout(300)
    still = canvas_pixels(dashboard)
    nb.page.wait_for_timeout(700)
    assert canvas_pixels(dashboard) == still
    dashboard.get_by_role("button", name="log").click()
    wait_until(lambda: canvas_pixels(dashboard) != still, nb.page)  # redrawn from history

    dashboard.get_by_role("button", name="Resume").click()
    wait_until(lambda: pill.inner_text() == "running", nb.page)
    beat = pill.get_attribute("data-beat")
    wait_until(lambda: pill.get_attribute("data-beat") != beat, nb.page)
    # An animation without an end would be drawn sixty times a second, by the cores that train.
    assert nb.page.evaluate(ENDLESS_ANIMATIONS_OF_OURS) == 0
    rate = dashboard.locator("input.aimz-rate")
    rate.fill("none of your business")
    rate.press("Enter")
    dashboard.locator(".aimz-notice", has_text="positive number").wait_for()
    rate.fill("0.5")
    rate.press("Enter")
    dashboard.get_by_role("button", name="log").focus()  # while it is edited it is left alone
    wait_until(lambda: rate.input_value() == "0.5", nb.page)
    dashboard.get_by_role("radio", name="learning rate").check()
    wait_until(lambda: "learning rate" in dashboard.locator(".aimz-unit").inner_text(), nb.page)
    dashboard.get_by_role("button", name="Stop", exact=True).click()
    nb.wait_until_done(1)
    assert result(nb, 1)["fitted"]
    assert result(nb, 1)["losses"] > 0
    nb.cell(1).locator("img").wait_for()


def test_a_plain_optimizer_is_steered_interrupted_and_diverges_without_harm(notebook, screenshots):
    """The rate of Adam as it is; the interrupt keeps the model and leaves the queued cells out."""
    plain = FIT.replace("settable_rate(numpyro.optim.Adam, 0.01)", "numpyro.optim.Adam(0.01)")
    plain = plain.split("im = ")[0] + "from aimz_lab import lab"
    train = """
found = ImpactModel(linear, jax.random.key(0), svi=svi).fit(X, y, batch_size=50, epochs=10**7)
print("RESULT", json.dumps("the rest"))
"""
    nb = notebook([plain, train, 'print("RESULT", json.dumps("queued"))'])
    nb.run_all()
    dashboard = nb.dashboard()
    rate = dashboard.get_by_role("textbox", name="learning rate")
    rate.wait_for()
    assert rate.input_value() == "0.01"
    moves(nb, dashboard, 1, times=1)
    for absurd, answer in (
        ("1e99", "that 32 bits can hold"),
        ("50", "5,000 times the present rate of 0.01"),
    ):
        rate.fill(absurd)
        rate.press("Enter")
        dashboard.locator(".aimz-notice", has_text=answer).wait_for()
    rate.fill("0.02")
    rate.press("Enter")
    marked = "canvas[aria-label*='learning rate changed to 0.02 after step']"
    dashboard.locator(marked).wait_for()
    nb.page.screenshot(path=screenshots / "rate-changed.png")

    nb.interrupt()
    nb.wait_until_done(1)
    nb.cell(1).get_by_text("queued cells were left out").wait_for()
    nb.page.wait_for_timeout(300)
    assert (
        nb.page.get_by_text("RESULT").count()
        == nb.page.locator(".cm-line", has_text="RESULT").count()
    )
    assert not any(c.isdigit() for c in nb.cell(2).locator(".jp-InputPrompt").inner_text())
    nb.append(
        """
def spoil(run, steps):
    if not run.rate_changes and run.step > 3000:
        run.control.set_learning_rate(1e20)

status = found.last_run.status
found.fit(X, y, batch_size=50, epochs=10**7, callbacks=[lab.LambdaCallback(on_steps_end=spoil),
                                                      lab.LiveDashboard()])
print("RESULT", json.dumps([status, repr(found)]))
"""
    )
    status, said = result(nb, 3)
    assert status == "interrupted"
    assert "diverged after step" in said
    nb.cell(3).get_by_text("model went back to its best state").first.wait_for()
    nb.page.screenshot(path=screenshots / "diverged.png")


def test_a_cell_keeps_its_buttons_when_page_or_output_go_and_a_restart_is_told(
    notebook, screenshots
):
    nb = notebook([LOOP, "tell(loop())"])
    nb.run_all()
    nb.dashboard().wait_for()
    nb.save()
    nb.page.reload()  # the kernel is busy, and finds the time to answer
    dashboard = nb.dashboard()
    dashboard.wait_for()
    pause = dashboard.get_by_role("button", name="Pause")
    wait_until(pause.is_enabled, nb.page)
    pause.click()
    wait_until(lambda: dashboard.locator(".aimz-pill").inner_text() == "paused", nb.page)
    dashboard.get_by_role("button", name="Resume").click()

    nb.cell(1).click(position={"x": 200, "y": 10})
    nb.menu("Edit", "editmenu:clear-current")
    dock = nb.page.locator(".aimz-dock")
    dock.get_by_role("button", name="Show").click()
    changes(nb, dock)
    nb.page.screenshot(path=screenshots / "dock.png")
    nb.menu("Run", "runmenu:run")  # waits for the run that goes on
    dock.get_by_role("button", name="Stop", exact=True).click()
    nb.cell(1).locator("section.aimz").wait_for()
    nb.cell(1).get_by_role("button", name="Stop", exact=True).click()
    wait_until(lambda: nb.cell(1).locator("img").count() == 1, nb.page)
    dock.get_by_role("img").wait_for()  # of the first run, whose cell has another one now
    dock.get_by_role("button", name="Close").click()

    nb.run_all()
    dashboard.wait_for()
    moves(nb, dashboard, 1, times=2)
    nb.menu("Kernel", "kernelmenu:restart")
    nb.page.locator(".jp-Dialog .jp-mod-warn").click()
    dashboard.get_by_text("no longer connected").wait_for()
    dashboard.get_by_text("this run is not continued").wait_for()
    dashboard.get_by_role("button", name="Stop", exact=True).wait_for(state="hidden")
    nb.page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()
    nb.run_all()
    moves(nb, nb.dashboard(), 1, times=2)
    nb.cell(1).click(position={"x": 200, "y": 10})
    nb.menu("Edit", "editmenu:clear-current")
    dock.get_by_role("button", name="Stop", exact=True).click()
    nb.wait_until_done(1)
    assert result(nb, 1)["status"] == "stopped"
    nb.cell(1).locator("img").wait_for()  # the cell that ran has the picture all the same
    wait_until(lambda: dock.count() == 0, nb.page)


def test_a_record_stays_in_its_card_over_reloads_and_a_dead_run_does_not_run(notebook):
    start = """
import time
from aimz_lab import lab
calm = lab.LambdaCallback(on_steps_end=lambda run, steps: time.sleep(0.1))
def start():
    return im.fit(X, y, batch_size=500, epochs=10**7, blocking=False, callbacks=[calm])
handle = start()
"""
    nb = notebook([FIT, start, "handle = start()"], name="card")
    for i in (0, 1):
        nb.cell(i).locator(".cm-content").click()
        nb.page.keyboard.press("Control+Enter")
        nb.wait_until_done(i)
    nb.dashboard().wait_for()
    nb.page.reload()  # the output was not saved
    card = nb.page.locator(".aimz-dock")
    card.get_by_role("button", name="Show").click()
    nb.append("handle.pause()\nwhile handle.status != 'paused': time.sleep(0.01)")
    nb.append("handle.set_learning_rate(0.003)")
    card.get_by_text("Setting the learning rate to 0.003 once the run goes on").wait_for()
    assert card.locator(".aimz-rate").input_value() == "0.003"
    card.get_by_role("button", name="Stop", exact=True).click()
    card.get_by_role("img").wait_for()
    for _ in range(2):
        nb.save()
        nb.page.reload()
        card.get_by_role("button", name="Show").click()
        card.get_by_role("img").wait_for()
    card.get_by_role("button", name="Close").click()
    card.wait_for(state="detached")
    nb.page.reload()
    nb.page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()
    nb.page.wait_for_timeout(4000)  # longer than a card needs to come
    assert card.count() == 0

    nb.cell(2).locator(".cm-content").click()
    nb.page.keyboard.press("Control+Enter")
    live = nb.cell(2).locator("section.aimz")
    live.wait_for()
    nb.page.wait_for_timeout(4000)  # the text below the live view moves
    nb.menu("Kernel", "kernelmenu:restart")
    nb.page.locator(".jp-Dialog .jp-mod-warn").click()
    live.get_by_text("no longer connected").wait_for()
    nb.save()
    nb.page.reload()
    nb.cell(2).get_by_text("linear: was running at 20").wait_for()
    assert nb.page.get_by_text(" left").count() == 0
    assert card.count() == 0


def test_it_is_readable_at_600_pixels_in_either_theme(ended):
    theme, nb = ended
    dashboard = nb.dashboard()
    width = dashboard.bounding_box()["width"]
    assert 450 < width < 640
    assert dashboard.evaluate("e => e.scrollWidth <= e.clientWidth")
    assert dashboard.get_attribute("data-theme") == theme
    text, surface = dashboard.evaluate(
        "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
    )
    assert contrast(text, surface) > 7
    for name in (".aimz-method", ".aimz-stats dt", ".aimz-toggle"):
        color = dashboard.locator(name).first.evaluate("e => getComputedStyle(e).color")
        assert contrast(color, surface) > 4.5, name


def contrast(one, other):
    """Contrast of two CSS colours, by WCAG 2."""

    def luminance(color):
        body = color.split("(")[1].rstrip(")").replace("srgb", "").replace(",", " ")
        parts = [float(part) for part in body.split("/")[0].split()[:3]]
        scale = 1 if "srgb" in color else 255
        linear = [
            v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4
            for v in (part / scale for part in parts)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_keyboard_reaches_controls_and_reads_the_curve(ended):
    _, nb = ended
    dashboard = nb.dashboard()
    canvas = dashboard.locator("canvas")
    canvas.focus()
    for _ in range(3):
        nb.page.keyboard.press("ArrowLeft")
    tip = dashboard.locator(".aimz-tip")
    tip.wait_for()
    assert "step " in tip.inner_text()
    assert "smoothed " in tip.inner_text()
    first = tip.inner_text()
    nb.page.keyboard.press("Home")
    wait_until(lambda: tip.inner_text() != first, nb.page)
    assert tip.inner_text().startswith("step 1")
    assert canvas.get_attribute("aria-label").startswith("loss")
    unnamed = dashboard.evaluate(
        """e => [...e.querySelectorAll("button, input")]
             .filter(c => !c.hidden && !c.labels?.length && !c.textContent.trim()).length"""
    )
    assert unnamed == 0
