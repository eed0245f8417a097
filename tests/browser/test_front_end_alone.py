"""The front end in a bare page, beside a kernel that is played: rare moments of a notebook."""

from __future__ import annotations

import base64
import json
import re
from itertools import combinations

import numpy as np
import pytest

from aimz_lab.lab.dashboard.moving_text import below_widget
from aimz_lab.lab.dashboard.replay import frames_of
from aimz_lab.lab.dashboard.static import module, style
from aimz_lab.lab.panels import DevicesPanel
from tests.lab.runs import begun, feed

# As in JupyterLab, each widget has a module of its own.
PLAYED = """
const revive = (_, value) => value?.$bytes === undefined ? value
  : new DataView(Uint8Array.from(atob(value.$bytes), (c) => c.charCodeAt(0)).buffer);
window.widget = async (source, state, cells) => {
  const handlers = {};
  const model = {
    state: JSON.parse(state, revive), sent: [], age: 0,
    get: (name) => model.state[name] ?? {},
    on: (event, handler) => (handlers[event] ??= new Set()).add(handler),
    off: (event, handler) => handlers[event]?.delete(handler),
    emit: (event, value) => handlers[event]?.forEach((handler) => handler(value)),
    put: (name, value) => {
      model.state[name] = { ...model.state[name], ...value };
      model.emit(`change:${name}`);
    },
    send: (message) => {
      model.sent.push(message.kind);
      const welcome = { kind: "welcome", age_s: model.age };
      if (message.kind === "hello" && !model.silent) model.emit("msg:custom", welcome);
      if (message.kind === "pause") model.put("progress", { asked: "pause" });
    },
    widget_manager: cells && { context: { model: { cells } } },
  };
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const definition = (await import(url)).default;
  definition.initialize?.({ model });
  model.render = (where = document.body) => {
    const el = document.createElement("div");
    where?.append(el);
    return { el, remove: definition.render({ model, el }) };
  };
  return model;
};
"""
COLORS = """
swatches => swatches.map((e) => {
  const ctx = new OffscreenCanvas(1, 1).getContext("2d");
  ctx.fillStyle = getComputedStyle(e).backgroundColor;
  ctx.fillRect(0, 0, 1, 1);
  return [...ctx.getImageData(0, 0, 1, 1).data].slice(0, 3);
})
"""
BLACK = """
canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let black = 0, drawn = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] < 200) continue;
    drawn += 1;
    black += data[i] + data[i + 1] + data[i + 2] === 0;
  }
  return [black, drawn];
}
"""
CELLS = """
[{ outputs: {
  length: 3,
  all: [{ data: { "text/plain": "other" } },
        { data: { "application/vnd.jupyter.widget-view+json": { model_id: "a" } } },
        { data: { "text/plain": "as of", "text/html": '<div class="aimz-still-a">as of</div>' } }],
  get(i) { return this.all[i]; },
  set(i, value) { this.all[i] = value; },
} }]
"""
RECORD = {"data": {"text/html": "<b>done</b>", "text/plain": "done"}, "metadata": {}}


@pytest.fixture
def page(browser):
    page = browser.new_page()
    page.clock.install()
    page.set_content("<html><head></head><body></body></html>")
    page.add_style_tag(content=style())
    page.add_script_tag(content=PLAYED)
    yield page
    page.close()


def frames(model_id, losses=(5.0, 4.0, 3.0)):
    """What a kernel sends of a run whose rate can be set, as JSON."""
    run = begun(n_obs=10, row_multiple=8)
    run.control.can_set_learning_rate = True
    if losses:
        feed(run, losses, rate=0.1)
    state = frames_of(run)
    state["meta"] |= {"model_id": model_id, "number": 2}

    def plain(value):
        if isinstance(value, bytes):
            return {"$bytes": base64.b64encode(value).decode()}
        return value.item() if isinstance(value, np.generic) else str(value)

    return json.dumps(state, default=plain)


def make(page, name, state, cells="null", source="dashboard"):
    page.evaluate(
        f"async ([source, state]) => {{ window.{name} = await widget(source, state, {cells}) }}",
        [module(source), state],
    )


def test_fields_and_choices_of_two_widgets_are_their_own(page):
    for name in ("a", "b"):
        make(page, name, frames(name))
        page.evaluate(f"() => {{ {name}.render() }}")
    page.clock.run_for(200)
    second = page.locator("section.aimz").nth(1)
    second.get_by_text("learning rate").first.click()
    assert second.locator("input.aimz-rate").evaluate("e => e === document.activeElement")
    for i in range(2):
        section = page.locator("section.aimz").nth(i)
        assert section.get_by_role("radio", name="loss").is_checked()
    assert page.evaluate("() => document.querySelectorAll('[id]').length") == len(
        set(page.evaluate("() => [...document.querySelectorAll('[id]')].map((e) => e.id)"))
    )


@pytest.mark.parametrize(("surface", "text"), [("#fff", "#212121"), ("#111", "#e0e0e0")])
def test_each_share_of_the_time_has_a_colour_of_its_own(page, surface, text):
    page.add_style_tag(
        content=f":root {{ --jp-layout-color1: {surface}; --jp-ui-font-color1: {text} }}"
    )
    state = json.loads(frames("a"))
    panel, run = DevicesPanel(), begun()
    panel.begin(run)
    run.clock.begin_steps()
    activities = ["preparing", "data", "steps", "validation", "callbacks", "display"]
    activities += ["compiling", "tracing", "waiting", "paused"]  # and what is left, as "other"
    spent = {"seconds_in": dict.fromkeys(activities, 5.0), "elapsed_s": 60.0, "paused_s": 5.0}
    state["progress"] |= spent
    compiled = {"count": 2, "seconds": 39.0, "passed": [25.0, 0.5], "longest": []}
    make(page, "a", json.dumps(state | {"devices": panel.frame(run) | {"compiled": compiled}}))
    page.evaluate("() => { a.render() }")
    page.clock.run_for(300)
    page.get_by_text("Devices", exact=True).click()
    devices = page.locator("details", has=page.get_by_text("Devices", exact=True)).inner_text()
    assert "2 compilations, 25 s before the first step, 0.5 s since the first step" in devices
    assert "of 39 s of compiling, the run waited for 26 s" in devices
    assert "preparing, up to the first step 8.3%" in devices
    found = page.locator(".aimz-legend .aimz-swatch[class*=time]").evaluate_all(COLORS)
    theme = page.locator("section.aimz").get_attribute("data-theme")
    assert theme == ("light" if surface == "#fff" else "dark")
    assert len(found) == len(activities) + 1
    for one, other in combinations(map(as_lab, found), 2):
        assert np.linalg.norm(one - other) > 20


def as_lab(color):
    """CIELAB of a colour, red, green and blue up to 255."""
    rgb = np.array(color) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = to_xyz @ linear / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_the_tile_of_an_ess_says_of_how_many_draws_it_is(page):
    make(page, "a", frames("a"))
    page.evaluate("() => { a.put('meta', {is_sampling: true}); a.render() }")
    row = {"name": "b", "mean": 0, "sd": 1, "r_hat": 1, "ess_bulk": 3900, "ess_tail": 3652}
    judged = {"draws": 22433, "judged": 1, "total": 1, "r_hat": 1, "r_hat_of": "b", "rows": [row]}
    judged |= {"ess": 3652, "ess_of": "b", "read": 4000}
    page.evaluate("(frame) => a.put('convergence', frame)", judged)
    page.clock.run_for(2_000)
    tile = page.locator(".aimz-stats div", has_text="least ESS")
    assert tile.inner_text().split("\n")[1:] == ["≥ 3,652", "of 4,000 draws read"]
    assert page.get_by_text("ESS at least 3,652 of the 4,000 draws read (b)").is_visible()
    page.evaluate("() => a.put('convergence', {ess: 55148, read: null})")
    page.evaluate("() => a.put('sampling', {})")
    page.clock.run_for(2_000)  # a busy page draws again after 1.5 s at most
    assert tile.inner_text().split("\n")[1:] == ["55,148"]


def test_a_curve_that_is_drawn_before_it_has_a_place_is_not_black(page):
    make(page, "a", frames("a"))
    page.evaluate("() => { window.view = a.render(null) }")  # as while a page is loaded
    page.clock.run_for(300)
    page.evaluate("() => { document.body.append(view.el) }")
    page.wait_for_function("() => document.querySelector('canvas').width > 300")
    page.clock.run_for(300)
    black, drawn = page.locator("canvas").evaluate(BLACK)
    assert (black, drawn > 100) == (0, True)


def test_the_notice_of_a_request_stays_until_the_run_gets_to_it(page):
    make(page, "a", frames("a", losses=()))
    page.evaluate("() => { a.render() }")
    page.clock.run_for(200)
    assert page.locator("svg.aimz-time").count() == 0  # no shares of a time that has not begun
    page.get_by_role("button", name="Pause").click()
    notice = page.locator(".aimz-notice")
    for _ in range(2):
        page.clock.run_for(5000)
        assert notice.inner_text() == "Pausing once the first steps are compiled…"
    page.evaluate(
        "() => a.put('progress', {asked: '', status: 'paused', words: 'paused', step: 3})"
    )
    page.clock.run_for(200)
    assert not notice.is_visible()


def test_numbers_of_a_long_run_keep_apart(page):
    page.set_viewport_size({"width": 700, "height": 800})
    make(page, "a", frames("a"))
    far = {"now": 0.8199, "best": 0.8198, "best_step": 1_291_512}
    page.evaluate(
        "(far) => { a.put('loss', far); a.put('progress', { step: 1368678 }); a.render() }", far
    )
    page.clock.run_for(2_000)
    tiles = page.locator(".aimz-stats > div").all()
    boxes = [t.bounding_box() for t in tiles if t.is_visible()]
    inner = [t.locator("dd").evaluate("e => e.scrollWidth - e.clientWidth") for t in tiles]
    assert len(boxes) > 4
    assert max(inner) <= 0


def test_a_rate_that_is_asked_for_stays_in_its_field_until_the_run_has_it(page):
    make(page, "a", frames("a"))
    page.evaluate("() => { a.render() }")
    page.clock.run_for(300)
    rate = page.locator("input.aimz-rate")
    rate.fill("0,05")
    rate.press("Enter")
    page.clock.run_for(300)
    assert "Write it with a point" in page.locator(".aimz-notice").inner_text()
    rate.blur()  # the reason stays, with what came of it
    page.clock.run_for(300)
    told = page.locator(".aimz-notice").inner_text()
    assert "Write it with a point" in told
    assert "was not changed" in told
    assert "press Enter" not in told
    rate.fill("0.05")
    rate.press("Enter")
    rate.blur()
    page.evaluate("() => { a.put('progress', { status: 'paused', asked_rate: 0.05 }) }")
    page.clock.run_for(9_000)  # a pause, or a compilation
    notice = page.locator(".aimz-notice")
    assert notice.inner_text() == "Setting the learning rate to 0.05 once the run goes on…"
    assert rate.input_value() == "0.05"
    gone_on = "{ status: 'running', asked_rate: null, learning_rate: 0.05 }"
    page.evaluate(f"() => {{ a.put('progress', {gone_on}) }}")
    page.clock.run_for(2_000)
    assert rate.input_value() == "0.05"
    assert not notice.is_visible()


def test_the_notice_of_a_rate_goes_once_the_run_has_it(page):
    make(page, "a", frames("a"))
    page.evaluate("() => { a.render() }")
    page.clock.run_for(300)
    page.locator("input.aimz-rate").fill("0.05")
    page.locator("input.aimz-rate").press("Enter")
    notice = page.locator(".aimz-notice")
    page.clock.run_for(300)
    assert notice.inner_text() == "Setting the learning rate to 0.05 after the steps under way…"
    page.evaluate("""() => {
      a.emit('msg:custom', { kind: 'taken' });
      a.put('progress', { asked_rate: null, learning_rate: 0.05 });
    }""")
    page.clock.run_for(1_000)
    assert not notice.is_visible()


def test_a_rate_that_was_asked_back_is_asked_back_again_after_another_entry(page):
    make(page, "a", frames("a"))
    page.evaluate("() => { a.render() }")
    page.clock.run_for(300)
    rate = page.locator("input.aimz-rate")
    for entry in ("200000", "", "200000"):
        rate.fill(entry)
        rate.press("Enter")
        if entry:
            page.evaluate("() => { a.emit('msg:custom', { kind: 'doubted', why: 'Sure?' }) }")
        page.clock.run_for(300)
    assert page.evaluate("() => a.sent").count("learning_rate") == 2
    assert "sure_learning_rate" not in page.evaluate("() => a.sent")
    rate.press("Enter")
    assert "sure_learning_rate" in page.evaluate("() => a.sent")


def test_a_rate_that_is_left_without_enter_is_not_set(page):
    make(page, "a", frames("a"))
    page.evaluate("() => { a.put('progress', { learning_rate: 0.01 }); a.render() }")
    page.clock.run_for(300)
    rate = page.locator("input.aimz-rate")
    assert rate.input_value() == "0.01"
    rate.fill("0.5")
    rate.press("Tab")
    page.clock.run_for(300)
    assert rate.input_value() == "0.01"
    assert "not set to 0.5: press Enter" in page.locator(".aimz-notice").inner_text()
    assert not {"learning_rate", "sure_learning_rate"} & set(page.evaluate("() => a.sent"))


def test_an_empty_rate_and_escape_put_the_present_rate_back(page):
    make(page, "a", frames("a"))
    page.evaluate("() => { a.put('progress', { learning_rate: 0.01 }); a.render() }")
    page.clock.run_for(300)
    rate, notice = page.locator("input.aimz-rate"), page.locator(".aimz-notice")
    rate.fill("")
    page.evaluate("() => { a.put('progress', { learning_rate: 0.005 }) }")  # a schedule's
    rate.press("Enter")
    page.clock.run_for(300)
    assert rate.input_value() == "0.005"
    assert notice.inner_text() == "The learning rate stays at 0.005."
    rate.fill("fast")
    rate.press("Enter")
    page.clock.run_for(300)
    assert "is a positive number" in notice.inner_text()
    rate.press("Escape")
    page.clock.run_for(2_000)
    assert rate.input_value() == "0.005"
    assert rate.get_attribute("aria-invalid") is None
    assert not notice.is_visible()
    assert "learning_rate" not in page.evaluate("() => a.sent")


def test_the_position_stands_on_a_line_of_its_own(page):
    """It grows by digits, and the page below it must not move."""
    page.set_viewport_size({"width": 900, "height": 800})
    make(page, "a", frames("a"))
    page.evaluate("() => { a.render() }")
    tops = []
    for epoch, left_s in ((9, 9), (12_056, 4_000)):
        page.evaluate("(now) => a.put('progress', now)", {"epoch": epoch, "eta_s": left_s})
        page.clock.run_for(2_000)
        tops.append(page.locator(".aimz-tools").bounding_box()["y"])
    assert tops[0] == tops[1]
    title, state = (page.locator(f".aimz-{name}").bounding_box() for name in ("head", "state"))
    assert title["y"] + title["height"] <= state["y"]


def test_a_parameter_whose_guide_is_far_too_narrow_has_no_millions_of_sds(page):
    row = {**PARAMETERS["rows"][0], "moved": 18_989_593.0}
    state = json.loads(frames("a")) | {"parameters": {**PARAMETERS, "rows": [row]}}
    make(page, "a", json.dumps(state))
    page.evaluate("() => { a.render() }")
    page.clock.run_for(300)
    assert page.get_by_text("moves most: over 1,000 sd, at step 8,000").is_visible()


def test_a_page_that_comes_to_a_pause_counts_from_its_beginning(page):
    make(page, "a", frames("a"))
    page.evaluate("() => { a.put('progress', { status: 'paused', words: 'paused', paused_s: 1 }) }")
    page.evaluate("() => { a.age = 30; a.render() }")
    page.clock.run_for(2_000)
    time = page.locator(".aimz-stats div", has_text="time").locator("small")
    assert re.fullmatch(r"3[23] s paused", time.inner_text())


def test_a_widget_that_is_saved_in_a_notebook_does_not_look_live(page):
    make(page, "a", frames("a"))
    page.evaluate("() => { a.silent = true; window.view = a.render() }")
    page.clock.run_for(300)
    time = page.locator(".aimz-stats div", has_text="time").locator("dd")
    told = time.inner_text()
    page.clock.run_for(5_000)
    pill = page.locator(".aimz-pill")
    assert (pill.inner_text(), time.inner_text()) == ("not connected", told)
    assert "as it was last heard of" in page.locator(".aimz-notice").inner_text()
    assert not page.get_by_role("button", name="Stop").first.is_visible()
    page.evaluate("() => { view.remove(); view.el.remove() }")
    page.clock.run_for(5_000)
    assert page.locator(".aimz-dock").count() == 0
    page.evaluate("() => { a.silent = false }")  # a kernel that was busy answers late
    page.clock.run_for(3_000)
    assert page.locator(".aimz-dock .aimz-pill").inner_text() == "running"


def test_the_table_of_runs_of_a_kernel_that_is_gone_has_no_buttons(page):
    row = {"number": 2, "model": "sales", "method": "SVI", "position": "running · 4:59 left"}
    row |= {"is_paused": False, "is_stopping": False, "is_over": False}
    make(page, "a", json.dumps({"meta": {"model_id": "a"}, "rows": [row]}), source="running")
    page.evaluate("() => { a.render() }")
    page.clock.run_for(2_000)
    assert page.get_by_role("button", name="Stop").count() == 1
    page.clock.run_for(4_000)  # no answer
    assert "as they were last heard of" in page.locator(".aimz-notice").inner_text()
    assert page.get_by_text("no answer · was running").is_visible()
    assert page.get_by_role("button").count() == 0
    page.evaluate("() => { a.emit('msg:custom', { kind: 'heard' }) }")
    page.clock.run_for(2_000)
    assert page.get_by_role("button", name="Stop").count() == 1
    page.evaluate("() => { a.emit('comm_live_update') }")
    page.clock.run_for(2_000)
    assert page.get_by_role("button").count() == 0
    assert page.get_by_text("no longer connected · was running").is_visible()
    assert "are not continued" in page.locator(".aimz-notice").inner_text()


def test_a_run_without_a_view_keeps_its_buttons_in_a_corner(page):
    make(page, "a", frames("a"))
    page.evaluate("() => { window.view = a.render() }")
    page.clock.run_for(3000)
    dock = page.locator(".aimz-dock")
    assert dock.count() == 0
    page.evaluate("() => { view.remove(); view.el.remove() }")
    page.clock.run_for(3000)
    assert not dock.locator("canvas").is_visible()
    assert dock.get_by_text("kernel · run 2").is_visible()
    dock.get_by_role("button", name="Show").click()
    assert dock.locator("canvas").is_visible()
    dock.get_by_role("button", name="Stop").click()
    assert "stop" in page.evaluate("() => a.sent")
    page.evaluate("() => a.put('progress', {status: 'stopped', words: 'stopped'})")
    page.clock.run_for(2000)
    assert dock.locator(".aimz-pill").inner_text() == "stopped"
    page.evaluate("(record) => a.put('record', record)", RECORD)
    page.clock.run_for(20_000)  # none has seen it elsewhere: it stays until it is closed
    assert dock.locator(".aimz-record b").inner_text() == "done"
    assert dock.locator("canvas").count() == 0
    dock.get_by_role("button", name="Close").click()
    page.clock.run_for(2000)
    assert dock.count() == 0


def test_the_card_of_a_run_that_goes_on_can_be_closed_for_good(page):
    make(page, "a", frames("a"))
    page.clock.run_for(4000)
    close = page.locator(".aimz-dock").get_by_role("button", name="Close")
    assert "lab.running()" in close.get_attribute("title")
    close.click()
    page.evaluate("() => a.put('progress', {step: 4})")
    page.clock.run_for(9000)
    assert page.locator(".aimz-dock").count() == 0


def test_the_kernel_learns_that_no_output_is_left_and_the_card_goes_once_there_is_one(page):
    make(page, "a", frames("a"), CELLS)
    outputs = "a.widget_manager.context.model.cells[0].outputs"
    page.evaluate("() => { window.view = a.render() }")
    page.clock.run_for(2000)
    page.evaluate("() => { view.remove(); view.el.remove() }")  # its cell is far away
    page.clock.run_for(6000)
    assert page.locator(".aimz-dock").count() == 1
    assert "cleared" not in page.evaluate("() => a.sent")
    page.evaluate(f"() => {{ {outputs}.length = 1 }}")
    page.clock.run_for(3000)
    assert page.evaluate("() => a.sent").count("cleared") == 1
    page.evaluate("(record) => a.put('record', record)", RECORD)
    page.clock.run_for(20_000)
    assert page.locator(".aimz-dock").count() == 1
    page.evaluate(f"(record) => {{ {outputs}.all[0] = record }}", RECORD)  # by the kernel
    page.clock.run_for(9000)
    assert page.locator(".aimz-dock").count() == 0


def test_the_record_takes_the_place_of_the_view_and_of_the_notebook_s_output(page):
    make(page, "a", frames("a"), CELLS)
    make(page, "b", frames("b"))
    page.evaluate("() => { a.render() }")
    page.evaluate("(record) => { a.put('record', record); b.state.record = record }", RECORD)
    page.evaluate("() => { b.render() }")  # of a page that was loaded after the end
    page.clock.run_for(2000)
    assert page.locator("section.aimz").count() == 0
    assert page.locator(".aimz-record b").all_inner_texts() == ["done", "done"]
    kept = page.evaluate("() => a.widget_manager.context.model.cells[0].outputs.all")
    assert kept[0] == {"data": {"text/plain": "other"}}
    assert kept[1] == {"output_type": "display_data", **RECORD}
    assert kept[2]["data"] == {"text/plain": ""}  # nothing of the run stays beside its record


def test_what_stands_below_a_widget_is_for_those_who_do_not_see_it(page):
    below = [below_widget(name, f"<p>{name}</p>") for name in ("a", "b")]
    page.evaluate("(below) => document.body.insertAdjacentHTML('beforeend', below)", "".join(below))
    make(page, "a", frames("a"))
    page.evaluate("() => { window.view = a.render() }")
    page.clock.run_for(300)
    seen = [page.locator(f".aimz-still-{name}").is_visible() for name in ("a", "b")]
    assert seen == [False, True]
    page.evaluate("() => { view.remove(); view.el.remove() }")
    assert page.locator(".aimz-still-a").is_visible()


LONG = "coefficients_of_region_and_year[Schleswig-Holstein, 2024]"
PARAMETERS = {
    "step": 8_000,
    "steps": {"$bytes": ""},
    "note": "24 values. " + 20 * "A note that is long. ",
    "rows": [
        {
            "site": LONG, "kind": "location, unconstrained", "value": -0.06491, "moved": 8.4,
            "unit": "sd", "over_steps": 4_000, "path": {"$bytes": ""},
        }
    ],
}  # fmt: skip
WORST = {"name": LONG, "mean": 0.949, "sd": 0.0318, "r_hat": 1, "ess_bulk": 3604, "ess_tail": 3745}
CONVERGENCE = {
    "draws": 900, "judged": 1, "total": 1, "r_hat": 1, "r_hat_of": LONG, "rows": [WORST],
    "ess": 3604, "ess_of": LONG, "read": 3_680,
}  # fmt: skip
BEYOND = """
section => {
  const right = section.getBoundingClientRect().right;
  const scrolls = (e) => e !== section && (e.closest(".aimz-scroll, canvas") !== null);
  return [...section.querySelectorAll("*")].filter((e) => !scrolls(e))
    .filter((e) => e.getBoundingClientRect().right > right).map((e) => e.className);
}
"""


@pytest.mark.parametrize("width", [900, 464, 320])
def test_nothing_runs_past_the_frame_of_a_narrow_dashboard(page, width):
    page.set_viewport_size({"width": width, "height": 1400})
    state = json.loads(frames("a")) | {"parameters": PARAMETERS, "convergence": CONVERGENCE}
    make(page, "a", json.dumps(state))
    page.evaluate("() => { a.render() }")
    page.clock.run_for(300)
    for summary in page.locator("details:not([open]):visible > summary").all()[::-1]:
        summary.click()
    page.clock.run_for(300)
    section = page.locator("section.aimz")
    assert section.locator("code", has_text=LONG).first.is_visible()
    assert section.evaluate(BEYOND) == []
    if width > 448:  # the cell of a notebook beside an open side bar
        cut = [
            e.evaluate("e => e.scrollWidth > e.clientWidth")
            for e in page.locator(".aimz-scroll").all()
        ]
        assert cut == [False, False]
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
