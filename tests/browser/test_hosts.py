"""The live page in other pages than JupyterLab's: hosts that load an anywidget as VS Code, Colab,
marimo and ``@anywidget/vite`` do.

All of them import the module, call its ``initialize`` and ``render`` with a model that has ``get``,
``set``, ``on``, ``off``, ``send`` and ``save_changes``, and at the end what ``render`` returned.
They differ in where the widget stands (marimo's is in a shadow root) and in how they say that the
page is dark.
"""

from __future__ import annotations

import base64
import json
import re

import pytest

pytest.importorskip("anywidget", reason="needs the lab extra: pip install 'aimz_lab[lab]'")

from aimz_lab.lab.dashboard.replay import frames_of
from aimz_lab.lab.dashboard.widget import make_widget
from tests.lab.runs import begun, feed

HOST = """
async ({esm, css, traits, shadow, attributes}) => {
  for (const [where, name, value] of attributes) document[where].setAttribute(name, value);
  const revive = (_, value) => {
    if (value?.$bytes === undefined) return value;
    return new DataView(Uint8Array.from(atob(value.$bytes), (c) => c.charCodeAt(0)).buffer);
  };
  const values = JSON.parse(traits, revive);
  const handlers = new Map();
  const model = {
    get: (name) => values[name],
    set: (name, value) => { values[name] = value; },
    save_changes: () => {},
    on: (event, handler) => handlers.set(event, [...(handlers.get(event) ?? []), handler]),
    off: (event, handler) => handlers.set(event,
      (handlers.get(event) ?? []).filter((one) => one !== handler)),
    send: (content) => window.sent.push(content),
    widget_manager: new Proxy({}, { get: () => { throw new Error("no widget manager here"); } }),
  };
  window.sent = [];
  window.emit = (event, ...args) => (handlers.get(event) ?? []).forEach((each) => each(...args));
  window.update = (name, patch) => {
    values[name] = { ...values[name], ...patch };
    window.emit(`change:${name}`);
  };
  window.listening = () => [...handlers.values()].flat().length;
  const place = document.getElementById("place");
  const root = shadow ? place.attachShadow({ mode: "open" }) : place;
  const style = Object.assign(document.createElement("style"), { textContent: css });
  const el = document.createElement("div");
  root.append(style, el);
  const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
  const module = await import(url);
  const widget = typeof module.default === "function" ? await module.default() : module.default;
  const forget = await widget.initialize?.({ model, experimental: {} });
  const leave = await widget.render({ model, el, experimental: {} });
  window.cleanup = () => { leave?.(); forget?.(); };
}
"""
PAGE = """<!doctype html><meta charset="utf-8"><body><div id="place"></div></body>"""
# How each host says that its page is dark, and whether the widget stands in a shadow root.
HOSTS = {
    "vscode": (False, [("body", "style", "--vscode-editor-background: #1e1e1e")]),
    "colab": (False, [("documentElement", "style", "--colab-primary-surface-color: #383838")]),
    "marimo": (True, [("documentElement", "style", "color-scheme: dark")]),
    "vite": (False, [("documentElement", "style", "color-scheme: light")]),
}


def _traits():
    """What a kernel sends of a run that goes on and whose learning rate can be set."""
    run = begun(n_obs=100, epochs=3, steps_per_epoch=100)
    feed(run, [300.0 / (1 + i) for i in range(120)], rate=0.01)
    widget = make_widget(frames_of(run))
    values = {name: getattr(widget, name) for name in widget.trait_names(sync=True)}
    values["progress"] |= {"can_set_learning_rate": True, "learning_rate": 0.01}
    plain = {name: value for name, value in values.items() if isinstance(value, dict)}
    return json.dumps(plain, default=_bytes)


def _bytes(value):
    return {"$bytes": base64.b64encode(bytes(value)).decode()}


@pytest.fixture(scope="module")
def page(browser):
    """Opens the widget in the page of a host; the page has no network and no other script."""
    widget = make_widget({})
    front_end = {"esm": widget._esm, "css": widget._css, "traits": _traits()}
    pages = []

    def opened(host):
        shadow, attributes = HOSTS[host]
        page = browser.new_page()
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda m: m.type == "error" and page.problems.append(m.text))
        page.on("request", lambda r: r.url.startswith("blob:") or page.problems.append(r.url))
        page.set_content(PAGE)
        page.evaluate(HOST, {**front_end, "shadow": shadow, "attributes": attributes})
        pages.append(page)
        return page

    yield opened
    for each in pages:
        each.close()


@pytest.mark.parametrize("host", HOSTS)
def test_it_draws_answers_and_leaves_in_every_host(page, host, screenshots):
    page = page(host)
    dashboard = page.locator("section.aimz")
    dashboard.get_by_text(re.compile(r"^kernel · run \d+$")).wait_for()
    drawn = "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, 200, 200).data).size > 8"
    assert dashboard.locator("canvas").evaluate(drawn)
    assert dashboard.get_attribute("data-theme") == ("light" if host == "vite" else "dark")

    assert page.evaluate("sent[0]") == {"kind": "hello"}
    page.evaluate("emit('msg:custom', {kind: 'welcome'}, [])")
    rate = dashboard.get_by_role("textbox", name="learning rate")
    rate.fill("0.5")
    page.evaluate("update('progress', {step: 130, learning_rate: 0.01})")
    page.wait_for_timeout(100)
    assert rate.input_value() == "0.5", "what is being typed is kept"
    rate.press("Enter")
    dashboard.get_by_role("button", name="Stop").click()
    sent = page.evaluate("sent.filter(({kind}) => !['hello', 'pace'].includes(kind))")
    assert sent == [{"kind": "learning_rate", "value": 0.5}, {"kind": "stop", "value": None}]
    page.screenshot(path=screenshots / f"host-{host}.png")

    page.wait_for_timeout(1_200)  # the dock looks once a second whether its page is still there

    page.evaluate("cleanup()")
    assert page.evaluate("listening()") == 0
    assert page.problems == []
